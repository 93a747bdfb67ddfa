//! From the list registers to the records: what the guest has done with what it was offered.

use core::mem;

use crate::hardware::ListRegisterFile;
use crate::irq::{Irq, bits};
use crate::registers::{
    GICH_HCR, GICH_LR, GICH_VMCR, GICV_CTLR_MASK, LEAST_ABPR, LEAST_BPR, ListRegister,
};
use crate::vgic::{Effects, Resident, Vgic, VirtualCpu};

/// What a fold of list registers leaves to be done.
struct Folded {
    effects: Effects,
    /// Bit n: the physical interrupt behind list register n is to be ended.
    ended: u32,
}

impl Vgic {
    /// Folds what the guest has done since it was entered. The vCPU stays loaded, and the next
    /// [`Vgic::enter`] fills its list registers again. On a maintenance interrupt, call this before
    /// INTID 25 is deactivated: it takes its cause away.
    pub fn sync(&mut self, vcpu: usize, hw: &mut impl ListRegisterFile) -> Effects {
        let cpu = &mut self.cpus[vcpu];
        if !cpu.loaded || cpu.synced {
            return Effects::default();
        }
        let eoi_count = read_eoi_count(cpu.hcr, hw);
        if cpu.hcr != GICH_HCR::En::SET.value {
            cpu.hcr = GICH_HCR::En::SET.value;
            hw.write_hcr(cpu.hcr);
        }
        let mut effects = self.fold(vcpu, eoi_count, hw);
        effects.kick = effects.kick.without(vcpu);
        effects
    }

    /// Takes a vCPU off this core. Its records are complete then, and the core's GICH is empty.
    /// Call it while its virtual timer still runs: the timer's line is looked at.
    #[inline]
    pub fn save(&mut self, vcpu: usize, hw: &mut impl ListRegisterFile) -> Effects {
        let cpu = &mut self.cpus[vcpu];
        if !cpu.loaded {
            return Effects::default();
        }
        // It was offered nothing: as in `enter`.
        if cpu.used == 0 && self.links.is_idle(vcpu) {
            hw.write_hcr(0);
            cpu.leave(hw);
            return Effects::default();
        }
        self.save_list_registers(vcpu, hw)
    }

    #[inline(never)]
    fn save_list_registers(&mut self, vcpu: usize, hw: &mut impl ListRegisterFile) -> Effects {
        let cpu = &mut self.cpus[vcpu];
        let mut effects = Effects::default();
        let was_synced = cpu.synced;
        let eoi_count = if was_synced { 0 } else { read_eoi_count(cpu.hcr, hw) };
        hw.write_hcr(0);
        if !was_synced {
            effects = self.fold(vcpu, eoi_count, hw);
        }
        if !self.links.is_idle(vcpu) {
            self.resample(vcpu, hw);
            self.detach_physical(vcpu, hw);
        }
        let cpu = &mut self.cpus[vcpu];
        for (n, value) in cpu.values[..cpu.used].iter_mut().enumerate() {
            if mem::take(value) != 0 {
                hw.write_lr(n, ListRegister::Empty.encode());
            }
        }
        cpu.leave(hw);
        effects.kick = effects.kick.without(vcpu);
        effects
    }

    #[inline]
    fn fold(&mut self, vcpu: usize, eoi_count: u32, hw: &mut impl ListRegisterFile) -> Effects {
        // First, while the queue of active interrupts has only those that were in no list register.
        let mut effects = Effects::default();
        if eoi_count != 0 {
            effects |= self.fold_eoi_count(vcpu, eoi_count, hw);
        }
        let cpu = &mut self.cpus[vcpu];
        cpu.synced = true;
        cpu.dirty = true;
        if !cpu.residents.is_empty() {
            effects |= self.fold_residents(vcpu, hw);
        }
        effects
    }

    #[inline(never)]
    fn fold_residents(&mut self, vcpu: usize, hw: &mut impl ListRegisterFile) -> Effects {
        let cpu = &mut self.cpus[vcpu];
        for n in 0..cpu.residents.len() {
            cpu.values[n] = hw.read_lr(n);
        }
        let Folded { mut effects, ended } = self.fold_list_registers(vcpu);
        if ended != 0 {
            effects |= self.end_physical_of(vcpu, ended, hw);
        }
        self.cpus[vcpu].residents.clear();
        effects
    }

    /// Ends the physical interrupts of what was in these list registers.
    #[cold]
    fn end_physical_of(
        &mut self,
        vcpu: usize,
        ended: u32,
        hw: &mut impl ListRegisterFile,
    ) -> Effects {
        let mut effects = Effects::default();
        for n in bits(ended) {
            let intid = self.cpus[vcpu].residents[n].intid;
            self.end_physical(vcpu, intid, hw);
            effects |= self.replace(vcpu, intid);
        }
        effects
    }

    /// Folds what the list registers in use were found to hold. They keep what still matters of it. Compiled here, and not where
    /// `hw` is known: so it is built for speed.
    #[inline(never)]
    fn fold_list_registers(&mut self, vcpu: usize) -> Folded {
        let mut folded = Folded { effects: Effects::default(), ended: 0 };
        for n in 0..self.cpus[vcpu].residents.len() {
            let cpu = &mut self.cpus[vcpu];
            let Resident { intid, cause, refired } = cpu.residents[n];
            let value = cpu.values[n];
            let offered = cpu.offered[n];
            cpu.values[n] = if ListRegister::matters(value) { value } else { 0 };
            let taken = ListRegister::is_pending(offered) && !ListRegister::is_pending(value);
            cpu.taken += u64::from(taken);

            let mut irq = self.irq(vcpu, intid);
            let has_ended = irq.fold(vcpu, cause, value);
            // One that has come again since is not the one that the guest has deactivated.
            if has_ended && !refired && self.links.active_physical(vcpu, intid).is_some() {
                if GICH_LR::HW.is_set(offered) {
                    // The guest's own deactivation ended the physical interrupt. If its line is still
                    // high, it will come again.
                    self.links.note(vcpu, intid, false);
                    irq.lower();
                } else {
                    folded.ended |= 1 << n;
                }
            }
            let place = irq.wanted_place();
            self.write_back(vcpu, intid, &irq, place);
            folded.effects |= self.insert(intid, place);
        }
        folded
    }

    /// The guest has deactivated interrupts that were in no list register. GICH counts them only; a
    /// guest that nests its handlers deactivates the best first.
    #[cold]
    fn fold_eoi_count(
        &mut self,
        vcpu: usize,
        count: u32,
        hw: &mut impl ListRegisterFile,
    ) -> Effects {
        let mut effects = Effects::default();
        for _ in 0..count {
            let Some((_, intid)) = self.cpus[vcpu].waiting.first_active() else {
                break;
            };
            effects |= self.change(vcpu, intid, Irq::deactivate);
            self.end_physical(vcpu, intid, hw);
            effects |= self.replace(vcpu, intid);
        }
        effects
    }
}

impl VirtualCpu {
    /// Saves what the guest sees of its CPU interface. Its list registers are folded and empty, and GICH_HCR is 0.
    #[inline]
    fn leave(&mut self, hw: &mut impl ListRegisterFile) {
        let vmcr = hw.read_vmcr();
        let state = &mut self.state;
        *state.cc_ctlr = GICH_VMCR::VMCtlr.read(vmcr) & GICV_CTLR_MASK;
        *state.cc_pmr = (GICH_VMCR::VMPriMask.read(vmcr) << 3) as u8;
        // A GICV may let the guest set less than GICH_VMCR can hold: QEMU's does. The next load would raise it.
        *state.cc_bpr = (GICH_VMCR::VMBP.read(vmcr) as u8).max(LEAST_BPR);
        *state.cc_abpr = (GICH_VMCR::VMABP.read(vmcr) as u8).max(LEAST_ABPR);
        *state.cc_apr = [0; 4];
        let apr = hw.read_apr();
        // Seldom: in the midst of a handler. It is left 0, and so need not be written when a vCPU is loaded.
        if apr != 0 {
            hw.write_apr(0);
            *state.cc_apr = apr_levels(apr);
        }
        self.hcr = 0;
        self.synced = true;
        self.dirty = true;
        self.loaded = false;
    }
}

/// EOIs that only GICH_HCR knows of: none unless active interrupts were spilled, and LRENPIE armed.
fn read_eoi_count(armed: u32, hw: &mut impl ListRegisterFile) -> u32 {
    if GICH_HCR::LRENPIE.is_set(armed) { GICH_HCR::EOICount.read(hw.read_hcr()) } else { 0 }
}

/// GICC_APR in its form with 128 levels, from GICH_APR.
fn apr_levels(apr: u32) -> [u32; 4] {
    let mut levels = [0; 4];
    for index in (0..32).filter(|bit| apr & (1 << bit) != 0).map(|bit| bit * 4) {
        levels[index / 32] |= 1 << (index % 32);
    }
    levels
}
