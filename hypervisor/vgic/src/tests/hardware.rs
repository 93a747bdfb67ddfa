//! One core's virtual interface and the guest's CPU interface on it, and the physical PPI behind a
//! linked interrupt. It does what GICv2's does with the values that it is given, and is stricter:
//! what is UNPREDICTABLE fails the test.

use super::gicv3;
use super::interface::{Interface, Offer, iar};
use crate::{
    ActivePriorities, Control, ListRegister, MachineControl, Origin, State, VIRTUAL_TIMER,
    VirtualInterface,
};

/// The number of times that the hypervisor touched each register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accesses {
    pub reads: usize,
    pub writes: usize,
    pub physical: usize,
}

#[derive(Clone, Debug)]
pub struct Core {
    pub list_registers: Vec<ListRegister>,
    pub control: Control,
    /// The number of times, modulo 32, that the guest has ended what is in no list register.
    pub unlisted_ends: u32,
    pub interface: Interface,
    /// The physical timer interrupt: its line, and its active state.
    pub line: bool,
    pub active: bool,
    /// The number of times that the hypervisor made the interrupt inactive.
    pub deactivated: usize,
    pub accesses: Accesses,
    /// EOI of an SGI names its source.
    pub strict_sources: bool,
}

impl Core {
    pub fn new(count: usize) -> Self {
        Self {
            list_registers: vec![ListRegister::EMPTY; count],
            control: Control::OFF,
            unlisted_ends: 0,
            interface: Interface::reset(),
            line: false,
            active: false,
            deactivated: 0,
            accesses: Accesses::default(),
            strict_sources: true,
        }
    }

    /// Returns the list registers that hold an interrupt.
    pub fn residents(&self) -> impl Iterator<Item = &ListRegister> {
        self.list_registers.iter().filter(|lr| lr.state != State::Inactive)
    }

    /// Fails on what a GIC leaves UNPREDICTABLE. Before everything that the guest does.
    pub fn check(&self) {
        assert!(self.control.is_on(), "the guest runs with En = 0");
        let mut intids = Vec::new();
        for lr in self.residents() {
            if let Origin::Hardware { .. } = lr.origin {
                assert_ne!(lr.state, State::PendingAndActive, "rule 9: {lr:?}");
            }
            let intid = lr.intid;
            assert!(!intids.contains(&intid), "rule 19: {intid} in two list registers");
            intids.push(intid);
        }
    }

    fn offers(&self) -> impl Iterator<Item = (usize, Offer)> {
        let all = self.list_registers.iter().enumerate();
        all.filter(|(_, lr)| lr.state == State::Pending).map(|(n, lr)| {
            let source = match lr.origin {
                Origin::Software { source, .. } => source,
                Origin::Hardware { .. } => 0,
            };
            let ListRegister { intid, priority, group1, .. } = *lr;
            (n, Offer { priority, intid, source, group1 })
        })
    }

    /// Returns the first list register of the best priority, as QEMU has it.
    fn best(&self) -> Option<(usize, Offer)> {
        self.offers().min_by_key(|(n, offer)| (offer.priority, *n))
    }

    /// Returns the interrupt that the guest is offered first.
    pub fn best_offer(&self) -> Option<Offer> {
        self.best().map(|(_, offer)| offer)
    }

    /// Returns what the list registers hold, by INTID.
    pub fn offered(&self) -> Vec<ListRegister> {
        let mut residents: Vec<_> = self.residents().copied().collect();
        residents.sort_unstable_by_key(|lr| lr.intid);
        residents
    }

    pub fn signals(&self) -> bool {
        self.best().is_some_and(|(_, offer)| self.interface.signals(offer))
    }

    /// GICV_IAR.
    pub fn iar(&mut self) -> u32 {
        self.check();
        let best = self.best();
        match self.interface.acknowledge(best.map(|(_, offer)| offer)) {
            Err(special) => special,
            Ok(offer) => {
                self.list_registers[best.unwrap().0].state = State::Active;
                iar(offer)
            }
        }
    }

    /// GICV_EOIR.
    pub fn eoir(&mut self, value: u32) {
        self.check();
        let dropped = self.interface.drop_priority();
        if !self.interface.splits_eoi() && !self.deactivate(value) && dropped {
            self.count_end();
        }
    }

    /// GICV_DIR, not trapped.
    pub fn dir(&mut self, value: u32) {
        self.check();
        if self.interface.splits_eoi() && !self.deactivate(value) {
            self.count_end();
        }
    }

    fn count_end(&mut self) {
        self.unlisted_ends = (self.unlisted_ends + 1) % 32;
    }

    fn deactivate(&mut self, value: u32) -> bool {
        let active = self.list_registers.iter().position(|lr| {
            let hit = u32::from(lr.intid) == value & 0x3ff && lr.state.is_active();
            if let Origin::Software { source, .. } = lr.origin {
                // QEMU forgives a wrong source; a GIC need not.
                let sgi = if lr.intid < 16 { u32::from(source) << 10 } else { 0 };
                let right = lr.intid >= 16 || value >> 10 << 10 == sgi;
                assert!(!hit || right || !self.strict_sources, "rule 6: source of {value:#x}");
            }
            hit
        });
        let Some(n) = active else {
            return false;
        };
        let lr = &mut self.list_registers[n];
        if let Origin::Hardware { physical } = lr.origin {
            assert_eq!(physical, VIRTUAL_TIMER);
            assert!(self.active, "the physical interrupt is not active");
            self.active = false;
        }
        lr.state = if lr.state.is_pending() { State::Pending } else { State::Inactive };
        true
    }

    fn asks(&self) -> bool {
        self.list_registers.iter().any(|lr| lr.asks_for_maintenance())
    }

    /// GICH_MISR, while the virtual interface is on: the maintenance interrupt.
    pub fn misr(&self) -> u32 {
        if !self.control.is_on() {
            return 0;
        }
        let none_pending = self.offers().next().is_none();
        u32::from(self.asks())
            | u32::from(self.control.tells_unlisted_ends() && self.unlisted_ends != 0) << 2
            | u32::from(self.control.tells_none_pending() && none_pending) << 3
    }

    /// Acknowledges the physical interrupt and drops its priority, as the hypervisor does. Returns
    /// whether the interrupt was signalled.
    pub fn take_physical(&mut self) -> bool {
        let fires = self.line && !self.active;
        self.active |= fires;
        fires
    }

    /// Checks that nothing of a vCPU is left.
    pub fn assert_empty(&self) {
        assert_eq!((self.control, self.interface.apr), (Control::OFF, 0));
        assert!(self.residents().next().is_none() && !self.asks());
        assert!(!self.active, "a physical PPI is left active");
    }
}

impl VirtualInterface for Core {
    fn list_registers(&self) -> usize {
        self.list_registers.len()
    }

    fn write_list_register(&mut self, n: usize, value: ListRegister) {
        self.accesses.writes += 1;
        let count = self.list_registers.len();
        assert!(n < count, "rule 16: LR{n} of {count}");
        assert_eq!(gicv3::list_register_of(gicv3::list_register(value)), value);
        self.list_registers[n] = value;
    }

    fn read_state(&mut self, n: usize) -> State {
        self.accesses.reads += 1;
        self.list_registers[n].state
    }

    fn write_control(&mut self, control: Control) {
        self.accesses.writes += 1;
        assert_eq!(gicv3::control_of(gicv3::hcr(control)), control);
        self.control = control;
        self.unlisted_ends = 0;
    }

    fn read_unlisted_ends(&mut self) -> u32 {
        self.accesses.reads += 1;
        self.unlisted_ends
    }

    fn read_machine_control(&mut self) -> MachineControl {
        self.accesses.reads += 1;
        let Interface { ctlr, pmr, bpr, abpr, .. } = self.interface;
        MachineControl { ctlr, priority_mask: pmr, binary_point: bpr, group1_binary_point: abpr }
    }

    fn write_machine_control(&mut self, control: MachineControl) {
        self.accesses.writes += 1;
        assert!(!self.control.is_on(), "rule 11: VMCR with En = 1");
        assert_eq!(gicv3::machine_control_of(gicv3::vmcr(control)), control);
        self.interface.ctlr = control.ctlr & 0x21f;
        self.interface.abpr = control.group1_binary_point.max(3);
        self.interface.bpr = control.binary_point.max(2);
        self.interface.pmr = control.priority_mask & !7;
    }

    fn read_active_priorities(&mut self) -> ActivePriorities {
        self.accesses.reads += 1;
        ActivePriorities(self.interface.apr)
    }

    fn write_active_priorities(&mut self, active: ActivePriorities) {
        self.accesses.writes += 1;
        assert!(!self.control.is_on(), "rule 11: APR with En = 1");
        for preemption_bits in 5..=7 {
            let registers = gicv3::ap1r(active, preemption_bits);
            assert_eq!(gicv3::active_priorities_of(registers, preemption_bits), active);
        }
        self.interface.apr = active.0;
    }

    fn read_physical_line(&mut self, intid: u16) -> bool {
        self.accesses.physical += 1;
        assert_eq!(intid, VIRTUAL_TIMER);
        self.line
    }

    fn set_physical_active(&mut self, intid: u16, active: bool) {
        self.accesses.physical += 1;
        assert_eq!(intid, VIRTUAL_TIMER);
        assert_ne!(self.active, active, "rule 17: set or cleared twice");
        self.active = active;
        self.deactivated += usize::from(!active);
    }
}
