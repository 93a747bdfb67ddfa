//! From the list registers to the records: what the guest has done with what it was offered.

use core::mem;

use crate::hardware::ListRegisterFile;
use crate::irq::Bits;
use crate::registers::{GICH_HCR, GICH_LR, GICH_VMCR, GICV_CTLR_MASK, ListRegister, LrState};
use crate::vgic::{Cause, Effects, Resident, Vgic};

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
    pub fn save(&mut self, vcpu: usize, hw: &mut impl ListRegisterFile) -> Effects {
        let cpu = &mut self.cpus[vcpu];
        if !cpu.loaded {
            return Effects::default();
        }
        let eoi_count = if cpu.synced { 0 } else { read_eoi_count(cpu.hcr, hw) };
        hw.write_hcr(0);
        cpu.hcr = 0;
        let mut effects =
            if cpu.synced { Effects::default() } else { self.fold(vcpu, eoi_count, hw) };
        self.resample(vcpu, hw);
        self.detach_physical(vcpu, hw);

        let cpu = &mut self.cpus[vcpu];
        for (n, value) in cpu.values[..cpu.used].iter_mut().enumerate() {
            if mem::take(value) != 0 {
                hw.write_lr(n, ListRegister::Empty.encode());
            }
        }
        let vmcr = hw.read_vmcr();
        let state = &mut cpu.state;
        *state.cc_ctlr = GICH_VMCR::VMCtlr.read(vmcr) & GICV_CTLR_MASK;
        *state.cc_pmr = (GICH_VMCR::VMPriMask.read(vmcr) << 3) as u8;
        *state.cc_bpr = GICH_VMCR::VMBP.read(vmcr) as u8;
        *state.cc_abpr = GICH_VMCR::VMABP.read(vmcr) as u8;
        *state.cc_apr = apr_levels(hw.read_apr());
        cpu.loaded = false;
        effects.kick = effects.kick.without(vcpu);
        effects
    }

    fn fold(&mut self, vcpu: usize, eoi_count: u32, hw: &mut impl ListRegisterFile) -> Effects {
        // First, while the queue of active interrupts has only those that were in no list register.
        let mut effects = self.fold_eoi_count(vcpu, eoi_count, hw);
        let cpu = &mut self.cpus[vcpu];
        cpu.synced = true;
        cpu.dirty = true;
        for n in 0..cpu.residents.len() {
            let value = hw.read_lr(n);
            let (intid, ended) = self.fold_one(vcpu, n, value);
            if ended {
                self.end_physical(vcpu, intid, hw);
            }
            effects |= self.move_out(vcpu, intid);
        }
        self.cpus[vcpu].residents.clear();
        effects
    }

    /// Folds list register `n`, which holds `value` by now. Says which interrupt that is, and whether its physical interrupt
    /// is to be ended.
    fn fold_one(&mut self, vcpu: usize, n: usize, value: u32) -> (u16, bool) {
        let cpu = &mut self.cpus[vcpu];
        let Resident { intid, cause, refired } = cpu.residents[n];
        let offered = cpu.values[n];
        let state = ListRegister::decode(value).state();
        let pending = state.is_some_and(LrState::is_pending);
        cpu.taken += u64::from(ListRegister::is_pending(offered) && !pending);
        let matters = state.is_some() || ListRegister::asks_for_maintenance(value);
        cpu.values[n] = if matters { value } else { 0 };
        match cause {
            Cause::Latch if pending => self.set_bit(Bits::Latch, vcpu, intid, true),
            Cause::Source(source) if pending => {
                cpu.state.sgi_src[usize::from(intid)] |= 1 << source
            }
            _ => {}
        }
        if state.is_some_and(LrState::is_active) {
            self.activate(vcpu, intid, ListRegister::source(value));
            return (intid, false);
        }
        let active = self.is_active(vcpu, intid);
        if pending && !active {
            return (intid, false);
        }
        if active {
            self.clear_active(vcpu, intid);
        }
        // One that has come again since is not the one that the guest has deactivated.
        let ends = !refired && self.links.active_physical(vcpu, intid).is_some();
        if ends && GICH_LR::HW.is_set(offered) {
            // The guest's own deactivation ended the physical interrupt. If its line is still
            // high, it will come again.
            self.links.note(vcpu, intid, false);
            self.set_bit(Bits::Level, vcpu, intid, false);
            return (intid, false);
        }
        (intid, ends)
    }

    /// The guest has deactivated interrupts that were in no list register. GICH counts them only; a
    /// guest that nests its handlers deactivates the best first.
    fn fold_eoi_count(
        &mut self,
        vcpu: usize,
        count: u32,
        hw: &mut impl ListRegisterFile,
    ) -> Effects {
        let mut effects = Effects::default();
        // Mostly none.
        for _ in 0..count {
            let Some((_, intid)) = self.cpus[vcpu].active.first() else {
                break;
            };
            self.clear_active(vcpu, intid);
            self.end_physical(vcpu, intid, hw);
            effects |= self.replace(vcpu, intid);
        }
        effects
    }
}

/// EOIs that only GICH_HCR knows of: none unless active interrupts were spilled, and LRENPIE armed.
fn read_eoi_count(armed: u32, hw: &mut impl ListRegisterFile) -> u32 {
    if GICH_HCR::LRENPIE.is_set(armed) { GICH_HCR::EOICount.read(hw.read_hcr()) } else { 0 }
}

/// GICC_APR in its form with 128 levels, from GICH_APR.
fn apr_levels(apr: u32) -> [u32; 4] {
    let mut levels = [0; 4];
    if apr == 0 {
        return levels;
    }
    for index in (0..32).filter(|bit| apr & (1 << bit) != 0).map(|bit| bit * 4) {
        levels[index / 32] |= 1 << (index % 32);
    }
    levels
}
