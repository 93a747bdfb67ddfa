//! From the records to the list registers: what a vCPU is offered when it is entered.
//!
//! The best interrupts get list registers: by priority, at the same priority the active before the
//! pending, then by INTID. The best pending one always gets a list register, if need be in the place of the worst
//! active one: else a guest that could take it would not see it, and GICH_MISR.NP would stay set
//! with nothing to refill. List registers are filled from 0 upwards in that order, because
//! QEMU offers equal priorities in the order of the list registers, and a GIC by INTID.

use arrayvec::ArrayVec;
use tock_registers::fields::FieldValue;

use crate::hardware::ListRegisterFile;
use crate::irq::{Bits, SGIS};
use crate::registers::{GICH_HCR, GICH_VMCR, GICV_CTLR_MASK, ListRegister, LrState};
use crate::vgic::{Cause, Effects, MAX_LIST_REGISTERS, Resident, Vgic};

/// The interrupts that get list registers, in their order, with their levels.
type Chosen = ArrayVec<(u8, u16), MAX_LIST_REGISTERS>;

impl Vgic {
    /// Puts a vCPU on this core, whose GICH is empty, ready to enter the guest.
    pub fn load(&mut self, vcpu: usize, hw: &mut impl ListRegisterFile) -> Effects {
        let cpu = &mut self.cpus[vcpu];
        debug_assert!(!cpu.loaded, "vCPU {vcpu} is on two cores");
        debug_assert!(cpu.values == [0; MAX_LIST_REGISTERS] && cpu.hcr == 0);
        cpu.loaded = true;
        cpu.synced = true;
        hw.write_vmcr(vmcr(&cpu.state));
        hw.write_apr(apr(&cpu.state.cc_apr));
        self.attach_physical(vcpu, hw);
        self.fill(vcpu, hw);
        Effects::default()
    }

    /// Before every entry into the guest. Touches no hardware if nothing has changed since the last.
    #[inline]
    pub fn enter(&mut self, vcpu: usize, hw: &mut impl ListRegisterFile) -> Effects {
        if !self.cpus[vcpu].dirty {
            return Effects::default();
        }
        let effects = self.sync(vcpu, hw);
        self.fill(vcpu, hw);
        effects
    }

    /// Fills the list registers from complete records.
    fn fill(&mut self, vcpu: usize, hw: &mut impl ListRegisterFile) {
        self.resample_pending(vcpu, hw);
        let mut changed = self.decide(vcpu, hw.count().min(MAX_LIST_REGISTERS));
        let cpu = &mut self.cpus[vcpu];
        while changed != 0 {
            let n = changed.trailing_zeros() as usize;
            changed &= changed - 1;
            hw.write_lr(n, cpu.values[n]);
        }
        let hcr = cpu.last_filled.hcr;
        if cpu.hcr != hcr {
            hw.write_hcr(hcr);
            cpu.hcr = hcr;
        }
    }

    /// Moves what the guest is offered from the queues to the `count` list registers. Says which of these are to be written, bit n
    /// being list register n.
    fn decide(&mut self, vcpu: usize, count: usize) -> u32 {
        debug_assert!(self.cpus[vcpu].synced && self.cpus[vcpu].residents.is_empty());
        let mut chosen = Chosen::new();
        let spilled = self.choose(vcpu, count, &mut chosen);
        let cpu = &mut self.cpus[vcpu];
        cpu.last_filled.of(count);
        let used = chosen.len().max(cpu.used);
        let mut changed = 0;
        for n in 0..used {
            let mut value = ListRegister::Empty.encode();
            if let Some(&(level, intid)) = chosen.get(n) {
                let repends = spilled.is_none_or(|spilled| (level, intid) < spilled);
                let (list_register, cause) = self.offer(vcpu, intid, repends);
                value = list_register.encode();
                self.move_in(vcpu, intid);
                self.cpus[vcpu].residents.push(Resident { intid, cause, refired: false });
            }
            let cpu = &mut self.cpus[vcpu];
            changed |= u32::from(cpu.values[n] != value) << n;
            cpu.values[n] = value;
            cpu.last_filled.list_registers[n] = value;
        }
        let cpu = &mut self.cpus[vcpu];
        let hcr: FieldValue<u32, _> = GICH_HCR::En::SET
            + GICH_HCR::NPIE.val(u32::from(!cpu.pending.is_empty()))
            + GICH_HCR::LRENPIE.val(u32::from(!cpu.active.is_empty()));
        cpu.last_filled.hcr = hcr.value;
        cpu.used = chosen.len();
        cpu.synced = false;
        cpu.dirty = false;
        changed
    }

    /// Takes the interrupts that get the `count` list registers out of their queues; the result is the best
    /// pending one that gets none.
    fn choose(&mut self, vcpu: usize, count: usize, best: &mut Chosen) -> Option<(u8, u16)> {
        let cpu = &mut self.cpus[vcpu];
        let (mut offers_any, mut holds_any) = (false, false);
        while best.len() < count && !(cpu.pending.is_empty() && cpu.active.is_empty()) {
            let pending_is_better = cpu.pending.best_level() < cpu.active.best_level();
            let next = if pending_is_better { cpu.pending.pop() } else { cpu.active.pop() };
            let Some(next) = next else { break };
            offers_any |= pending_is_better;
            holds_any |= !pending_is_better;
            best.push(next);
        }
        if !offers_any && let Some(offered) = cpu.pending.pop() {
            if let Some((level, intid)) = best.pop() {
                cpu.active.insert(level, intid);
            }
            best.push(offered);
        }
        let spilled = cpu.pending.first();
        // One that is active and pending again is among the pending as soon as it is deactivated.
        let comes_again = |&(_, intid): &(u8, u16)| {
            let irq = self.irq(vcpu, intid);
            irq.is_active() && irq.is_pending() && irq.is_edge()
        };
        if holds_any && best.iter().any(comes_again) {
            sort(best);
        }
        spilled
    }

    /// What an interrupt's list register is filled with. Takes the cause out of the records. An
    /// active one may be pending again at once if it `repends`: nothing that was spilled is better.
    fn offer(&mut self, vcpu: usize, intid: u16, repends: bool) -> (ListRegister, Cause) {
        let irq = self.irq(vcpu, intid);
        let (active, group1, priority) = (irq.is_active(), irq.is_group1(), irq.priority);
        let is_forwarded = irq.is_enabled() && self.cpus[vcpu].pending.forwards(irq.group());
        let again = irq.is_pending() && is_forwarded;
        let physical = self.links.active_physical(vcpu, intid);
        if let Some(physical) = physical {
            // Deactivated while the latch is set, it must come again: only software can see to that.
            let latched = active && again && irq.is_latched();
            if !latched {
                let (state, cause) = if active {
                    (LrState::Active, Cause::None)
                } else {
                    (LrState::Pending, self.take_latch(vcpu, intid))
                };
                let list_register =
                    ListRegister::Hardware { intid, physical, priority, state, group1 };
                return (list_register, cause);
            }
        }

        let (mut source, mut cause) = (0, Cause::None);
        let (state, eoi);
        if intid < SGIS {
            let cpu = &mut self.cpus[vcpu].state;
            let sources = &mut cpu.sgi_src[usize::from(intid)];
            let next = sources.trailing_zeros() as u8;
            source = if active { cpu.sgi_active_src[usize::from(intid)] } else { next };
            // Pending and active in one list register have one source.
            if again && next == source && (repends || !active) {
                cause = Cause::Source(source);
                *sources &= !(1 << source);
            }
            let more = *sources != 0;
            state = lr_state(active, cause != Cause::None);
            // Those that wait behind this one.
            eoi = more && again;
        } else if active {
            let target = self.target(vcpu, intid);
            if again && repends && irq.is_edge() && physical.is_none() && target == Some(vcpu) {
                cause = self.take_latch(vcpu, intid);
            }
            state = lr_state(active, cause != Cause::None);
            eoi = again && cause == Cause::None && target.is_some();
        } else {
            cause = self.take_latch(vcpu, intid);
            state = LrState::Pending;
            // The line may still be high then: it must come again.
            eoi = irq.is_asserted();
        }
        let list_register = ListRegister::Software { intid, source, priority, state, group1, eoi };
        (list_register, cause)
    }

    fn take_latch(&mut self, vcpu: usize, intid: u16) -> Cause {
        if !self.bit(Bits::Latch, vcpu, intid) {
            return Cause::None;
        }
        self.set_bit(Bits::Latch, vcpu, intid, false);
        Cause::Latch
    }
}

fn lr_state(active: bool, pending: bool) -> LrState {
    match (active, pending) {
        (true, true) => LrState::PendingAndActive,
        (true, false) => LrState::Active,
        (false, _) => LrState::Pending,
    }
}

/// GICH_VMCR for the guest's CPU interface.
fn vmcr(state: &stasis_state::vgic::CpuInterface) -> u32 {
    let fields = GICH_VMCR::VMCtlr.val(*state.cc_ctlr & GICV_CTLR_MASK)
        + GICH_VMCR::VMPriMask.val(u32::from(*state.cc_pmr) >> 3)
        + GICH_VMCR::VMBP.val((*state.cc_bpr).into())
        + GICH_VMCR::VMABP.val((*state.cc_abpr).into());
    fields.value
}

/// GICH_APR, of 32 levels, from the form with 128.
fn apr(levels: &[u32; 4]) -> u32 {
    // Almost always: a vCPU seldom changes in the midst of a handler.
    if *levels == [0; 4] {
        return 0;
    }
    (0..128)
        .filter(|index| levels[index / 32] & (1 << (index % 32)) != 0)
        .fold(0, |apr, index| apr | 1 << (index / 4))
}

/// Sorts what was chosen: a few, most of them in order already. Core's sort is more code than all the rest of this file.
fn sort(chosen: &mut [(u8, u16)]) {
    for end in 1..chosen.len() {
        let mut place = end;
        while place > 0 && chosen[place] < chosen[place - 1] {
            chosen.swap(place, place - 1);
            place -= 1;
        }
    }
}
