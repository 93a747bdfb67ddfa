//! The vGIC on as many cores as the guest has vCPUs, and the hypervisor's part around it: every
//! interrupt that a core gets is an exit, every kick is served at once.

use super::hardware::Core;
use super::refill::WholeWay;
use crate::changed::Changed;
use crate::{Access, Control, Effects, Sgis, VIRTUAL_TIMER, VcpuMask, Vgic, sgi_of};

pub struct Machine {
    pub vgic: Vgic,
    /// vCPU n runs on core n.
    pub cores: Vec<Core>,
    /// The lines of the vCPUs' timers, which go with them.
    pub timers: Vec<bool>,
    /// Maintenance interrupts.
    pub exits: usize,
    /// Whether each entry with something new folds all list registers.
    pub folds_all: bool,
}

/// GICD registers.
pub const CTLR: u64 = 0x000;
pub const IGROUPR: u64 = 0x080;
pub const ISENABLER: u64 = 0x100;
pub const ICENABLER: u64 = 0x180;
pub const ISPENDR: u64 = 0x200;
pub const ICPENDR: u64 = 0x280;
pub const ISACTIVER: u64 = 0x300;
pub const ICACTIVER: u64 = 0x380;
pub const IPRIORITYR: u64 = 0x400;
pub const ITARGETSR: u64 = 0x800;
pub const ICFGR: u64 = 0xc00;
pub const SGIR: u64 = 0xf00;
pub const CPENDSGIR: u64 = 0xf10;
pub const SPENDSGIR: u64 = 0xf20;

impl Machine {
    /// Returns a machine at reset, with all vCPUs loaded.
    pub fn at_reset(cpus: u8, list_registers: usize) -> Self {
        let mut machine = Self {
            vgic: Vgic::new(64, cpus).unwrap(),
            cores: (0..cpus).map(|_| Core::new(list_registers)).collect(),
            timers: vec![false; cpus.into()],
            exits: 0,
            folds_all: false,
        };
        for vcpu in 0..cpus.into() {
            machine.load(vcpu);
        }
        machine
    }

    /// Returns a machine as a guest sets it up: everything is enabled, of priority 0xa0, and SPIs
    /// go to vCPU 0.
    pub fn new(cpus: u8, list_registers: usize) -> Self {
        let mut machine = Self::at_reset(cpus, list_registers);
        machine.write(0, CTLR, 4, 3);
        for spi in 32..64 {
            machine.write(0, ITARGETSR + spi, 1, 1);
            machine.write(0, IPRIORITYR + spi, 1, 0xa0);
        }
        machine.write(0, ISENABLER + 4, 4, u32::MAX);
        for vcpu in 0..cpus.into() {
            machine.write(vcpu, ISENABLER, 4, u32::MAX);
            for intid in 0..32 {
                machine.write(vcpu, IPRIORITYR + intid, 1, 0xa0);
            }
            machine.cores[vcpu].interface.ctlr = 3;
            machine.cores[vcpu].interface.pmr = 0xf8;
        }
        machine
    }

    pub fn load(&mut self, vcpu: usize) {
        let core = &mut self.cores[vcpu];
        core.assert_empty();
        core.line = self.timers[vcpu];
        self.vgic.load(vcpu, core);
        self.enter(vcpu);
        self.settle(vcpu);
    }

    pub fn save(&mut self, vcpu: usize) {
        let effects = self.vgic.save(vcpu, &mut self.cores[vcpu]);
        self.serve(effects);
        let core = &mut self.cores[vcpu];
        core.line = false;
        core.assert_empty();
    }

    pub fn is_loaded(&self, vcpu: usize) -> bool {
        self.vgic.cpus()[vcpu].is_loaded()
    }

    /// Takes all exits of a core that are due, until its guest would run.
    pub fn settle(&mut self, vcpu: usize) {
        if !self.is_loaded(vcpu) {
            return;
        }
        for turn in 0.. {
            let core = &mut self.cores[vcpu];
            let maintenance = core.misr() != 0;
            let physical = core.take_physical();
            if !maintenance && !physical {
                break;
            }
            assert!(turn < 3, "rule 1: no progress, MISR {:#x}", core.misr());
            if maintenance {
                self.exits += 1;
                let effects = self.vgic.sync(vcpu, core);
                let quiet = Control::on(false, false);
                assert_eq!(self.cores[vcpu].control, quiet, "rule 3: still armed at EL2");
                self.serve(effects);
            }
            if physical {
                self.pass_physical(vcpu);
            }
            self.enter(vcpu);
        }
        self.cores[vcpu].check();
    }

    /// Passes the timer's physical interrupt on, which was taken.
    fn pass_physical(&mut self, vcpu: usize) {
        let at_once =
            |vgic: &mut Vgic, core: &mut Core| vgic.offer_again(vcpu, VIRTUAL_TIMER, core);
        let first = |vgic: &mut Vgic| vgic.hardware_interrupt(vcpu, VIRTUAL_TIMER).1;
        if self.is_done_at_once(vcpu, at_once, first) {
            return;
        }
        let (linked, effects) = self.vgic.hardware_interrupt(vcpu, VIRTUAL_TIMER);
        assert!(linked);
        self.serve(effects);
    }

    /// Returns whether `at_once` does all that `first` and an entry of `vcpu` do. Fails if the two
    /// differ.
    fn is_done_at_once(
        &mut self,
        vcpu: usize,
        at_once: impl FnOnce(&mut Vgic, &mut Core) -> bool,
        first: impl FnOnce(&mut Vgic) -> Effects,
    ) -> bool {
        if self.folds_all || !self.is_loaded(vcpu) {
            return false;
        }
        let whole = WholeWay::entered(self, vcpu, |vgic| {
            let _ = first(vgic);
        });
        let is_done = at_once(&mut self.vgic, &mut self.cores[vcpu]);
        if is_done {
            // What the short way has left is for the next entry.
            self.enter(vcpu);
            whole.compare(self, vcpu);
        }
        is_done
    }

    pub fn enter(&mut self, vcpu: usize) {
        let effects = self.fill(vcpu);
        self.serve(effects);
    }

    fn fill(&mut self, vcpu: usize) -> Effects {
        if self.folds_all {
            self.vgic.fold_all_next(vcpu);
        }
        let has_two_ways = matches!(self.vgic.cpus[vcpu].changed, Changed::One(_));
        let whole = has_two_ways.then(|| WholeWay::entered(self, vcpu, |_| ()));
        let effects = self.vgic.enter(vcpu, &mut self.cores[vcpu]);
        if let Some(whole) = whole {
            whole.compare(self, vcpu);
        }
        effects
    }

    /// Kicks the vCPUs: each exits, enters, and gets what is new.
    pub fn serve(&mut self, effects: Effects) {
        for vcpu in effects.kick.iter() {
            if self.is_loaded(vcpu) {
                self.enter(vcpu);
                self.settle(vcpu);
            }
        }
    }

    /// Reads GICC_IAR as the guest on `vcpu` does, and returns the value.
    pub fn iar(&mut self, vcpu: usize) -> u32 {
        let value = self.cores[vcpu].iar();
        self.settle(vcpu);
        value
    }

    pub fn eoir(&mut self, vcpu: usize, value: u32) {
        self.cores[vcpu].eoir(value);
        self.settle(vcpu);
    }

    /// GICC_DIR, trapped.
    pub fn dir(&mut self, vcpu: usize, value: u32) {
        let mut effects = self.stop(self.vgic.deactivate_needs_sync(vcpu, value));
        effects |= self.vgic.deactivate(vcpu, value, &mut self.cores[vcpu]);
        self.go_on(vcpu, effects);
    }

    /// Stops other vCPUs and folds their list registers.
    fn stop(&mut self, others: VcpuMask) -> Effects {
        let mut effects = Effects { kick: others };
        for other in others.iter() {
            effects |= self.vgic.sync(other, &mut self.cores[other]);
        }
        effects
    }

    /// Lets all of them go on, `vcpu` among them.
    fn go_on(&mut self, vcpu: usize, effects: Effects) {
        self.enter(vcpu);
        self.serve(effects);
        self.settle(vcpu);
    }

    /// Returns what a vCPU reads of pending states, if it concerns no other vCPU. Fails if a fold
    /// says another thing, or the short way reads more of GICH.
    fn read_pending(&mut self, vcpu: usize, access: Access) -> Option<u32> {
        if self.folds_all {
            return None;
        }
        let (mut vgic, mut core) = (self.vgic.clone(), self.cores[vcpu].clone());
        let (found, effects) = self.vgic.read_pending(vcpu, access, &mut self.cores[vcpu])?;
        let (value, _) = vgic.distributor_read(vcpu, access, &mut core);
        assert_eq!(found, value, "vCPU {vcpu} reads {access:?}\n{core:?}");
        let (short, long) = (self.cores[vcpu].accesses, core.accesses);
        assert!(short.reads <= long.reads && short.writes <= long.writes, "{short:?} {long:?}");
        self.go_on(vcpu, effects);
        Some(found as u32)
    }

    pub fn read(&mut self, vcpu: usize, offset: u64, width: u8) -> u32 {
        let access = Access::checked(offset, width).unwrap();
        if let Some(value) = self.read_pending(vcpu, access) {
            return value;
        }
        let mut effects = self.stop(self.vgic.needs_sync(vcpu, access, false));
        let core = &mut self.cores[vcpu];
        let (value, more) = self.vgic.distributor_read(vcpu, access, core);
        effects |= more;
        self.go_on(vcpu, effects);
        value as u32
    }

    pub fn write(&mut self, vcpu: usize, offset: u64, width: u8, value: u32) {
        let access = Access::checked(offset, width).unwrap();
        if access == Access::SGIR && self.send_at_once(vcpu, value) {
            return;
        }
        let mut effects = self.stop(self.vgic.needs_sync(vcpu, access, true));
        let core = &mut self.cores[vcpu];
        effects |= self.vgic.distributor_write(vcpu, access, value.into(), core);
        self.go_on(vcpu, effects);
    }

    /// Carries an SGI to other vCPUs, whose cores take it at once, or to its sender alone, if that
    /// needs no more than its list register. Returns `false` if it is another one.
    fn send_at_once(&mut self, vcpu: usize, value: u32) -> bool {
        let (sgi, to) = sgi_of(vcpu, self.cores.len(), value);
        if !to.contains(vcpu) {
            to.iter().for_each(|target| self.receive(target, Sgis::only(sgi, vcpu)));
            return true;
        }
        let at_once = |vgic: &mut Vgic, core: &mut Core| vgic.send_again(vcpu, sgi, core);
        let first = |vgic: &mut Vgic| vgic.record(vcpu, Access::SGIR, value).unwrap_or_default();
        if to != VcpuMask::only(vcpu) || !self.is_done_at_once(vcpu, at_once, first) {
            return false;
        }
        self.settle(vcpu);
        true
    }

    /// Makes a vCPU take what it was sent.
    fn receive(&mut self, vcpu: usize, sgis: Sgis) {
        let at_once = |vgic: &mut Vgic, core: &mut Core| {
            let is_whole = vgic.receive_at_entry(vcpu, sgis, core);
            assert!(!is_whole || !vgic.cpus()[vcpu].is_dirty());
            true
        };
        let first = |vgic: &mut Vgic| {
            vgic.receive(vcpu, sgis);
            Effects::default()
        };
        if !self.is_done_at_once(vcpu, at_once, first) {
            self.vgic.receive(vcpu, sgis);
            self.serve(Effects { kick: VcpuMask::only(vcpu) });
        }
        self.settle(vcpu);
    }

    /// A write whose kicks are not served.
    pub fn write_late(&mut self, vcpu: usize, offset: u64, width: u8, value: u32) {
        let access = Access::checked(offset, width).unwrap();
        assert!(self.vgic.needs_sync(vcpu, access, true).is_empty());
        let core = &mut self.cores[vcpu];
        let _ = self.vgic.distributor_write(vcpu, access, value.into(), core);
        let _ = self.fill(vcpu);
    }

    /// Does what a core does when it is interrupted, and no more.
    pub fn exit_and_enter(&mut self, vcpu: usize) {
        let core = &mut self.cores[vcpu];
        if core.misr() != 0 {
            let _ = self.vgic.sync(vcpu, core);
        }
        let _ = self.fill(vcpu);
    }

    pub fn spi(&mut self, intid: u16, level: bool) {
        let effects = self.vgic.set_spi_level(intid, level);
        self.serve(effects);
    }

    pub fn pulse(&mut self, intid: u16) {
        let effects = self.vgic.pulse_spi(intid);
        self.serve(effects);
    }

    pub fn ppi(&mut self, vcpu: usize, intid: u16, level: bool) {
        let at_once = |vgic: &mut Vgic, core: &mut Core| vgic.raise_again(vcpu, intid, core);
        let first = |vgic: &mut Vgic| vgic.set_ppi_level(vcpu, intid, true);
        if level && self.is_done_at_once(vcpu, at_once, first) {
            return self.settle(vcpu);
        }
        let effects = self.vgic.set_ppi_level(vcpu, intid, level);
        self.serve(effects);
    }

    /// The line of a vCPU's virtual timer. Only the guest lowers it; it exits on the way.
    pub fn timer(&mut self, vcpu: usize, level: bool) {
        self.timers[vcpu] = level;
        if self.is_loaded(vcpu) {
            self.cores[vcpu].line = level;
            if !level {
                let effects = self.vgic.sync(vcpu, &mut self.cores[vcpu]);
                self.serve(effects);
                self.enter(vcpu);
            }
            self.settle(vcpu);
        }
    }

    pub fn edge(&mut self, intid: u64) {
        let (offset, bit) = (ICFGR + intid / 16 * 4, intid % 16 * 2 + 1);
        let old = self.read(0, offset, 4);
        self.write(0, offset, 4, old | 1 << bit);
    }

    pub fn priority(&mut self, vcpu: usize, intid: u64, priority: u8) {
        self.write(vcpu, IPRIORITYR + intid, 1, priority.into());
    }

    /// All vCPUs leave their cores, and the guest is made anew from its records.
    pub fn checkpoint_and_resume(&mut self) {
        let loaded: Vec<_> = (0..self.cores.len()).filter(|&v| self.is_loaded(v)).collect();
        for &vcpu in &loaded {
            self.save(vcpu);
        }
        let dist = self.vgic.distributor().clone();
        let cpus: Vec<_> = self.vgic.cpus().iter().map(|cpu| cpu.state.clone()).collect();
        let resumed = Vgic::from_state(dist.into(), cpus.into_iter()).unwrap();
        resumed.assert_same_derived(&self.vgic);
        self.vgic = resumed;
        for vcpu in loaded {
            self.load(vcpu);
        }
    }
}
