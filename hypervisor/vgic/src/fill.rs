//! From the records to the list registers: what a vCPU is offered when it is entered.
//!
//! The best interrupts get list registers: by priority, at the same priority the active before the
//! pending, then by INTID. The best pending one always gets a list register, if need be in the place of the worst
//! active one: else a guest that could take it would not see it, and GICH_MISR.NP would stay set
//! with nothing to refill. List registers are filled from 0 upwards in that order, because
//! QEMU offers equal priorities in the order of the list registers, and a GIC by INTID.

use core::mem;

use arrayvec::ArrayVec;

use crate::hardware::VirtualInterface;
use crate::interface::{ActivePriorities, Control, MachineControl};
use crate::irq::{SGIS, bits};
use crate::list_register::{ListRegister, Packed};
use crate::place::Place;
use crate::vgic::{Cause, Effects, MAX_LIST_REGISTERS, Resident, Vgic, VirtualCpu};
use crate::waiting::Kind;

/// The interrupts that get list registers, in their order, with their levels.
type Chosen = ArrayVec<(u8, u16), MAX_LIST_REGISTERS>;

impl Vgic {
    /// Puts a vCPU on this core, whose GICH is empty. Its list registers are filled by [`Self::enter`].
    #[inline]
    pub fn load(&mut self, vcpu: usize, hw: &mut impl VirtualInterface) {
        let cpu = &mut self.cpus[vcpu];
        debug_assert!(!cpu.loaded, "vCPU {vcpu} is on two cores");
        debug_assert!(cpu.values == [Packed::EMPTY; MAX_LIST_REGISTERS]);
        debug_assert!(cpu.control == Control::OFF);
        cpu.loaded = true;
        hw.write_machine_control(MachineControl::of(&cpu.state));
        let active = ActivePriorities::of(&cpu.state);
        if active != ActivePriorities::NONE {
            hw.write_active_priorities(active);
        }
        self.attach_physical(vcpu, hw);
    }

    /// Before every entry into the guest. Touches no hardware if nothing has changed since the last.
    #[inline]
    pub fn enter(&mut self, vcpu: usize, hw: &mut impl VirtualInterface) -> Effects {
        let cpu = &mut self.cpus[vcpu];
        if !cpu.dirty {
            return Effects::default();
        }
        let count = hw.list_registers().min(MAX_LIST_REGISTERS);
        // A vCPU for which nothing waits, nor did when it was entered last: then there is nothing to fold, either.
        if cpu.used == 0 && !cpu.waiting.is_any() && self.links.is_idle(vcpu) {
            cpu.filled(count);
            cpu.arm(hw);
            return Effects::default();
        }
        let effects = if cpu.synced { Effects::default() } else { self.sync(vcpu, hw) };
        self.fill(vcpu, count, hw);
        effects
    }

    /// Fills the `count` list registers from complete records.
    fn fill(&mut self, vcpu: usize, count: usize, hw: &mut impl VirtualInterface) {
        if !self.links.is_idle(vcpu) {
            self.resample_pending(vcpu, hw);
        }
        let changed = self.decide(vcpu, count);
        let cpu = &mut self.cpus[vcpu];
        for n in bits(changed) {
            hw.write_list_register(n, cpu.values[n].unpack());
        }
        cpu.arm(hw);
    }

    /// Moves what the guest is offered from the queues to the `count` list registers. Says which of these are to be written, bit n
    /// being list register n. Compiled here, and not where `hw` is known: so it is built for speed.
    #[inline(never)]
    fn decide(&mut self, vcpu: usize, count: usize) -> u32 {
        debug_assert!(self.cpus[vcpu].synced && self.cpus[vcpu].residents.is_empty());
        let mut changed = match self.cpus[vcpu].waiting.has_active() {
            true => self.fill_chosen(vcpu, count),
            false => self.fill_pending(vcpu, count),
        };
        let cpu = &mut self.cpus[vcpu];
        let used = cpu.residents.len();
        for n in used..cpu.used {
            changed |= u32::from(cpu.values[n].matters()) << n;
            cpu.values[n] = Packed::EMPTY;
            cpu.offered[n] = Packed::EMPTY;
        }
        cpu.used = used;
        cpu.filled(count);
        changed
    }

    /// Fills list registers while nothing active waits, which is mostly so: then they get the pending in their order.
    #[inline]
    fn fill_pending(&mut self, vcpu: usize, count: usize) -> u32 {
        let mut changed = 0;
        for n in 0..count {
            let Some((_, intid)) = self.cpus[vcpu].waiting.pop_pending() else { break };
            let (list_register, cause) = self.offer(vcpu, intid);
            changed |= self.cpus[vcpu].hold(n, intid, list_register, cause);
        }
        changed
    }

    /// What the list register of an interrupt is filled with that is pending and not active. It is resident from now on.
    #[inline(always)]
    fn offer(&mut self, vcpu: usize, intid: u16) -> (ListRegister, Cause) {
        if intid < SGIS {
            let cpu = &mut self.cpus[vcpu];
            cpu.places[usize::from(intid)] = Place::resident(vcpu);
            return cpu.offer_sgi(intid);
        }
        let mut irq = self.irq(vcpu, intid);
        let offer = irq.offer(intid, self.links.active_physical(vcpu, intid));
        self.write_back(vcpu, intid, &irq, Place::resident(vcpu));
        offer
    }

    /// Fills list registers while active ones wait.
    #[inline(never)]
    fn fill_chosen(&mut self, vcpu: usize, count: usize) -> u32 {
        let mut chosen = Chosen::new();
        let spilled = self.choose(vcpu, count, &mut chosen);
        let mut changed = 0;
        for (n, &(level, intid)) in chosen.iter().enumerate() {
            let mut irq = self.irq(vcpu, intid);
            let (list_register, cause) = if irq.is_active() {
                let physical = self.links.active_physical(vcpu, intid);
                let is_forwarded =
                    irq.is_enabled() && self.cpus[vcpu].waiting.forwards(irq.group());
                let again = irq.is_pending() && is_forwarded;
                let repends = spilled.is_none_or(|spilled| (level, intid) < spilled);
                let kept = irq.keep(vcpu, intid, physical, again, repends);
                self.write_back(vcpu, intid, &irq, Place::resident(vcpu));
                kept
            } else {
                self.offer(vcpu, intid)
            };
            changed |= self.cpus[vcpu].hold(n, intid, list_register, cause);
        }
        changed
    }

    /// Takes the interrupts that get the `count` list registers out of their queues; the result is the best
    /// pending one that gets none.
    #[inline]
    fn choose(&mut self, vcpu: usize, count: usize, best: &mut Chosen) -> Option<(u8, u16)> {
        let waiting = &mut self.cpus[vcpu].waiting;
        let (mut offers_any, mut holds_any) = (false, false);
        while best.len() < count {
            let Some((is_pending, next)) = waiting.pop() else { break };
            offers_any |= is_pending;
            holds_any |= !is_pending;
            best.push(next);
        }
        if !offers_any && let Some(offered) = waiting.pop_pending() {
            if let Some((level, intid)) = best.pop() {
                waiting.insert(Kind::Active, level, intid);
            }
            best.push(offered);
        }
        let spilled = waiting.first_pending();
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
}

impl VirtualCpu {
    /// The `count` list registers hold from the next entry on what they are to hold. The maintenance interrupt is asked for if more waits.
    #[inline]
    fn filled(&mut self, count: usize) {
        self.filled_control = Control::on(self.waiting.has_pending(), self.waiting.has_active());
        self.count = count;
        self.synced = false;
        self.dirty = false;
    }

    /// Switches the virtual interface to what it is at the entry, unless it is that already.
    #[inline]
    fn arm(&mut self, hw: &mut impl VirtualInterface) {
        if self.control != self.filled_control {
            hw.write_control(self.filled_control);
            self.control = self.filled_control;
        }
    }

    /// Has list register `n` be this from the next entry on. The result is bit `n`, if that is to be written.
    #[inline(always)]
    fn hold(&mut self, n: usize, intid: u16, list_register: ListRegister, cause: Cause) -> u32 {
        let value = Packed::new(list_register);
        self.residents.push(Resident { intid, cause, refired: false });
        self.offered[n] = value;
        u32::from(mem::replace(&mut self.values[n], value) != value) << n
    }
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
