//! From the records to the list registers: what a vCPU is offered when it is entered.
//!
//! The best interrupts get list registers: by priority, at the same priority the active before the
//! pending, then by INTID. The best pending one always gets a list register, if need be in the
//! place of the worst active one: else a guest that could take it would not see it, and the
//! maintenance interrupt for "none pending" would stay, with nothing to refill. List registers are
//! filled from 0 upwards in that order, because QEMU offers equal priorities in the order of the
//! list registers, and a GIC by INTID.

use core::mem;

use arrayvec::ArrayVec;

use crate::changed::Changed;
use crate::hardware::VirtualInterface;
use crate::interface::{ActivePriorities, Control};
use crate::irq::{Cause, SGIS, bits};
use crate::list_register::{ListRegister, Packed};
use crate::place::Place;
use crate::vcpus::Effects;
use crate::vgic::{MAX_LIST_REGISTERS, Order, Resident, Vgic, VirtualCpu};
use crate::waiting::Kind;

/// The interrupts that get list registers, in their order, with their levels.
type Chosen = ArrayVec<(u8, u16), MAX_LIST_REGISTERS>;

impl Vgic {
    /// Puts a vCPU on this core, whose virtual interface is empty. [`Self::enter`] fills the list
    /// registers.
    #[inline]
    pub fn load(&mut self, vcpu: usize, hw: &mut impl VirtualInterface) {
        let cpu = &mut self.cpus[vcpu];
        debug_assert!(!cpu.loaded, "vCPU {vcpu} is on two cores");
        debug_assert!(cpu.values == [Packed::EMPTY; MAX_LIST_REGISTERS]);
        debug_assert!(cpu.control == Control::OFF);
        cpu.loaded = true;
        hw.write_packed_control(cpu.machine);
        let active = ActivePriorities::of(&cpu.state);
        if active != ActivePriorities::NONE {
            hw.write_active_priorities(active);
        }
        self.attach_physical(vcpu, hw);
    }

    /// Fills the list registers, before every entry into the guest. Touches no hardware if nothing
    /// has changed since the last one.
    #[inline(always)]
    pub fn enter(&mut self, vcpu: usize, hw: &mut impl VirtualInterface) -> Effects {
        let changed = self.cpus[vcpu].changed;
        match changed {
            Changed::Nothing => Effects::default(),
            Changed::One(intid) => self.enter_with(vcpu, intid, hw),
            Changed::Anything if self.enter_idle(vcpu, hw) => Effects::default(),
            Changed::Anything => self.enter_anew(vcpu, hw),
        }
    }

    /// Leaves the list registers empty, if nothing waits for the vCPU, nor did at its last entry:
    /// then there is nothing to fold, either. Returns whether that is so.
    #[inline(always)]
    fn enter_idle(&mut self, vcpu: usize, hw: &mut impl VirtualInterface) -> bool {
        let cpu = &mut self.cpus[vcpu];
        let is_idle = cpu.used == 0 && !cpu.waiting.is_any() && self.links.is_idle(vcpu);
        if is_idle {
            cpu.hold_as(Control::on(false, false), hw.list_registers().min(MAX_LIST_REGISTERS));
            cpu.arm(hw);
        }
        is_idle
    }

    /// Fills the list register of the interrupt that alone has changed, or all of them.
    #[inline(never)]
    fn enter_with(&mut self, vcpu: usize, intid: u16, hw: &mut impl VirtualInterface) -> Effects {
        match self.refill(vcpu, intid, hw) {
            Ok(()) => Effects::default(),
            Err(read) => {
                self.cpus[vcpu].read = read;
                match self.enter_idle(vcpu, hw) {
                    true => Effects::default(),
                    false => self.enter_anew(vcpu, hw),
                }
            }
        }
    }

    /// Folds and fills all list registers.
    #[inline(never)]
    fn enter_anew(&mut self, vcpu: usize, hw: &mut impl VirtualInterface) -> Effects {
        let is_synced = self.cpus[vcpu].synced;
        let effects = if is_synced { Effects::default() } else { self.sync(vcpu, hw) };
        self.fill(vcpu, hw.list_registers().min(MAX_LIST_REGISTERS), hw);
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
            hw.write_packed(n, cpu.values[n]);
        }
        cpu.arm(hw);
    }

    /// Moves what the guest is offered from the queues to the `count` list registers. Returns which
    /// of these must be written: bit n is list register n. Compiled here, and not where `hw` is
    /// known: so it is built for speed.
    #[inline(never)]
    fn decide(&mut self, vcpu: usize, count: usize) -> u32 {
        debug_assert!(self.cpus[vcpu].synced && self.cpus[vcpu].residents.is_empty());
        let mut changed = match self.cpus[vcpu].waiting.has_active() {
            true => self.fill_chosen(vcpu, count),
            false => self.fill_pending(vcpu, count),
        };
        let cpu = &mut self.cpus[vcpu];
        cpu.order = Order::UNKNOWN;
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

    /// Fills list registers with pending interrupts in their order, while no active one waits,
    /// which is mostly so.
    #[inline]
    fn fill_pending(&mut self, vcpu: usize, count: usize) -> u32 {
        let mut changed = 0;
        for n in 0..count {
            let Some((_, intid)) = self.cpus[vcpu].waiting.pop_pending() else { break };
            let (list_register, cause) = self.offer(vcpu, intid);
            changed |= self.cpus[vcpu].put(n, intid, list_register, cause);
        }
        changed
    }

    /// Returns what the list register of an interrupt is filled with that is pending and not
    /// active. The interrupt is resident from now on.
    #[inline(always)]
    pub(crate) fn offer(&mut self, vcpu: usize, intid: u16) -> (ListRegister, Cause) {
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
            changed |= self.cpus[vcpu].put(n, intid, list_register, cause);
        }
        changed
    }

    /// Takes the interrupts that get the `count` list registers out of their queues. Returns the
    /// best pending one that gets none.
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
        // An active interrupt that is pending again is among the pending as soon as it is
        // deactivated.
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
    /// Notes that the `count` list registers hold what they must from the next entry on. If more
    /// waits, maintenance interrupts are asked for.
    #[inline]
    fn filled(&mut self, count: usize) {
        self.hold_as(Control::on(self.waiting.has_pending(), self.waiting.has_active()), count);
    }

    /// Notes that the `count` list registers hold what they must from the next entry on, with this
    /// control.
    #[inline(always)]
    fn hold_as(&mut self, control: Control, count: usize) {
        self.filled_control = control;
        self.count = count;
        self.synced = false;
        self.changed = Changed::Nothing;
    }

    /// Gives the virtual interface the control of the next entry, unless it has that already.
    #[inline]
    fn arm(&mut self, hw: &mut impl VirtualInterface) {
        if self.control != self.filled_control {
            hw.write_control(self.filled_control);
            self.control = self.filled_control;
        }
    }

    /// Notes what list register `n` holds from the next entry on. Returns bit `n` if it must be
    /// written for that, else 0.
    #[inline(always)]
    fn put(&mut self, n: usize, intid: u16, list_register: ListRegister, cause: Cause) -> u32 {
        let value = Packed::new(list_register);
        self.residents.push(Resident { intid, cause, refired: false });
        self.offered[n] = value;
        u32::from(mem::replace(&mut self.values[n], value) != value) << n
    }
}

/// Sorts the interrupts that were chosen: a few, most of them in order already. Core's sort is more
/// code than all the rest of this file.
fn sort(chosen: &mut [(u8, u16)]) {
    for end in 1..chosen.len() {
        let mut place = end;
        while place > 0 && chosen[place] < chosen[place - 1] {
            chosen.swap(place, place - 1);
            place -= 1;
        }
    }
}
