//! One core's GICH and GICV, and the physical PPI behind a linked interrupt. It is stricter than a GIC:
//! what is UNPREDICTABLE fails the test.

use super::interface::{Interface, Offer, iar};
use crate::registers::GICH_HCR;
use crate::{ListRegister, ListRegisterFile, LrState, VIRTUAL_TIMER};

/// How often the hypervisor touched what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accesses {
    pub reads: usize,
    pub writes: usize,
    pub physical: usize,
}

#[derive(Debug)]
pub struct Core {
    pub lrs: Vec<u32>,
    pub hcr: u32,
    pub interface: Interface,
    /// The physical timer interrupt: its line, and its active state.
    pub line: bool,
    pub active: bool,
    /// How often the hypervisor made it inactive.
    pub deactivated: usize,
    pub accesses: Accesses,
    /// EOI of an SGI names its source.
    pub strict_sources: bool,
}

impl Core {
    pub fn new(count: usize) -> Self {
        Self {
            lrs: vec![0; count],
            hcr: 0,
            interface: Interface::reset(),
            line: false,
            active: false,
            deactivated: 0,
            accesses: Accesses::default(),
            strict_sources: true,
        }
    }

    pub fn decoded(&self) -> Vec<ListRegister> {
        self.lrs.iter().map(|&lr| ListRegister::decode(lr)).collect()
    }

    /// Fails on what a GIC leaves UNPREDICTABLE. Before everything that the guest does.
    pub fn check(&self) {
        assert!(GICH_HCR::En.is_set(self.hcr), "the guest runs with En = 0");
        let mut intids = Vec::new();
        for lr in self.decoded() {
            if let ListRegister::Hardware { state, .. } = lr {
                assert_ne!(state, LrState::PendingAndActive, "rule 9: {lr:?}");
            }
            if let ListRegister::Hardware { intid, .. } | ListRegister::Software { intid, .. } = lr
            {
                assert!(!intids.contains(&intid), "rule 19: {intid} in two list registers");
                intids.push(intid);
            }
        }
    }

    fn offers(&self) -> impl Iterator<Item = (usize, Offer)> {
        let decoded = self.decoded().into_iter().enumerate();
        decoded.filter_map(|(n, lr)| match lr {
            ListRegister::Software {
                intid,
                source,
                priority,
                state: LrState::Pending,
                group1,
                ..
            } => Some((n, Offer { priority, intid, source, group1 })),
            ListRegister::Hardware { intid, priority, state: LrState::Pending, group1, .. } => {
                Some((n, Offer { priority, intid, source: 0, group1 }))
            }
            _ => None,
        })
    }

    /// The first list register of the best priority, as QEMU has it.
    fn best(&self) -> Option<(usize, Offer)> {
        self.offers().min_by_key(|(n, offer)| (offer.priority, *n))
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
                let n = best.unwrap().0;
                self.lrs[n] = self.lrs[n] & !(3 << 28) | 2 << 28;
                iar(offer)
            }
        }
    }

    /// GICV_EOIR.
    pub fn eoir(&mut self, value: u32) {
        self.check();
        let dropped = self.interface.drop_priority();
        if !self.interface.splits_eoi() && !self.deactivate(value) && dropped {
            self.count_eoi();
        }
    }

    /// GICV_DIR, not trapped.
    pub fn dir(&mut self, value: u32) {
        self.check();
        if self.interface.splits_eoi() && !self.deactivate(value) {
            self.count_eoi();
        }
    }

    fn count_eoi(&mut self) {
        self.hcr = self.hcr.wrapping_add(1 << 27);
    }

    fn deactivate(&mut self, value: u32) -> bool {
        let active = self.decoded().into_iter().position(|lr| match lr {
            ListRegister::Software { intid, source, state, .. } => {
                // QEMU forgives a wrong source; a GIC need not.
                let sgi = if intid < 16 { u32::from(source) << 10 } else { 0 };
                let hit = u32::from(intid) == value & 0x3ff && state.is_active();
                let right = intid >= 16 || value >> 10 << 10 == sgi;
                assert!(!hit || right || !self.strict_sources, "rule 6: source of {value:#x}");
                hit
            }
            ListRegister::Hardware { intid, state, .. } => {
                u32::from(intid) == value & 0x3ff && state.is_active()
            }
            ListRegister::Empty => false,
        });
        let Some(n) = active else {
            return false;
        };
        if let ListRegister::Hardware { physical, .. } = ListRegister::decode(self.lrs[n]) {
            assert_eq!(physical, VIRTUAL_TIMER);
            assert!(self.active, "the physical interrupt is not active");
            self.active = false;
        }
        self.lrs[n] &= !(2 << 28);
        true
    }

    fn asks(&self) -> usize {
        let asks = self.lrs.iter().filter(|&&lr| ListRegister::asks_for_maintenance(lr));
        asks.count()
    }

    /// GICH_MISR, while the virtual interface is on: the maintenance interrupt.
    pub fn misr(&self) -> u32 {
        if !GICH_HCR::En.is_set(self.hcr) {
            return 0;
        }
        let valid = self.decoded().iter().filter(|&&lr| lr != ListRegister::Empty).count();
        u32::from(self.asks() != 0)
            | u32::from(GICH_HCR::UIE.is_set(self.hcr) && valid < 2) << 1
            | u32::from(GICH_HCR::LRENPIE.is_set(self.hcr) && self.hcr >> 27 != 0) << 2
            | u32::from(GICH_HCR::NPIE.is_set(self.hcr) && self.offers().next().is_none()) << 3
    }

    /// The physical interrupt is signalled; the hypervisor acknowledges it and drops its priority.
    pub fn take_physical(&mut self) -> bool {
        let fires = self.line && !self.active;
        self.active |= fires;
        fires
    }

    /// Nothing of a vCPU is left.
    pub fn assert_empty(&self) {
        assert_eq!((self.hcr, self.interface.apr), (0, 0));
        assert!(self.lrs.iter().all(|&lr| {
            ListRegister::decode(lr) == ListRegister::Empty
                && !ListRegister::asks_for_maintenance(lr)
        }));
        assert!(!self.active, "a physical PPI is left active");
    }
}

impl ListRegisterFile for Core {
    fn count(&self) -> usize {
        self.lrs.len()
    }

    fn read_lr(&mut self, n: usize) -> u32 {
        self.accesses.reads += 1;
        self.lrs[n]
    }

    fn write_lr(&mut self, n: usize, value: u32) {
        self.accesses.writes += 1;
        assert!(n < self.lrs.len(), "rule 16: LR{n} of {}", self.lrs.len());
        self.lrs[n] = value;
    }

    fn read_hcr(&mut self) -> u32 {
        self.accesses.reads += 1;
        self.hcr
    }

    fn write_hcr(&mut self, value: u32) {
        self.accesses.writes += 1;
        self.hcr = value;
    }

    fn read_vmcr(&mut self) -> u32 {
        self.accesses.reads += 1;
        let i = &self.interface;
        i.ctlr | u32::from(i.abpr) << 18 | u32::from(i.bpr) << 21 | u32::from(i.pmr >> 3) << 27
    }

    fn write_vmcr(&mut self, value: u32) {
        self.accesses.writes += 1;
        assert!(!GICH_HCR::En.is_set(self.hcr), "rule 11: VMCR with En = 1");
        self.interface.ctlr = value & 0x21f;
        self.interface.abpr = (value >> 18 & 7).max(3) as u8;
        self.interface.bpr = (value >> 21 & 7).max(2) as u8;
        self.interface.pmr = (value >> 27 << 3) as u8;
    }

    fn read_apr(&mut self) -> u32 {
        self.accesses.reads += 1;
        self.interface.apr
    }

    fn write_apr(&mut self, value: u32) {
        self.accesses.writes += 1;
        assert!(!GICH_HCR::En.is_set(self.hcr), "rule 11: APR with En = 1");
        self.interface.apr = value;
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
