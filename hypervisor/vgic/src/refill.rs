//! One list register alone: what a vCPU is offered when a single interrupt has changed since its
//! last entry, which is mostly so.
//!
//! [`Vgic::enter`] would fold all list registers into the records, and fill them again. Of the
//! others that makes no difference while nothing waits outside of list registers: each interrupt
//! keeps its own. So the one that has changed is folded and filled alone, or gets the next list
//! register that is not in use. The records are then as after a fold of that interrupt and its
//! offer. What does not fit is left to the whole way, and nothing was done: the guest can't see
//! which way was taken. [`tests::refill`](crate::tests) goes both and compares them.
//!
//! What comes again while its list register is unchanged needs even less: the fold and the offer of
//! a physical interrupt ([`Vgic::offer_again`]) or of an SGI to oneself ([`Vgic::send_again`])
//! leave all records as they are, and those of a PPI ([`Vgic::raise_again`]) change its line alone.
//!
//! No list register is read more often by that than before: what the short way has read, the whole
//! one does not read again.

use crate::changed::Changed;
use crate::hardware::VirtualInterface;
use crate::interface::Control;
use crate::irq::{Cause, FIRST_SPI, SGIS};
use crate::links::Link;
use crate::list_register::{Packed, State};
use crate::place::Place;
use crate::queue::level;
use crate::vgic::{MAX_LIST_REGISTERS, Order, Resident, Vgic, VirtualCpu};
use crate::waiting::Kind;

impl Vgic {
    /// Passes a physical interrupt on that has come again while `vcpu` is loaded on this core, as
    /// [`Self::hardware_interrupt`] and [`Self::enter`] would together. Returns `false` if it takes
    /// these: then nothing was done.
    ///
    /// The guest has ended the interrupt before, or this one could not have come. So nothing is
    /// read, and the list register is written as it was.
    #[inline]
    pub fn offer_again(&mut self, vcpu: usize, intid: u16, hw: &mut impl VirtualInterface) -> bool {
        // One that was latched is pending once more than its line says.
        let Some(n) = self.unchanged(vcpu, intid, Cause::None) else { return false };
        let cpu = &mut self.cpus[vcpu];
        let value = cpu.offered[n];
        if !value.is_hardware() || !value.is_pending() {
            return false;
        }
        cpu.taken += 1;
        hw.write_packed(n, value);
        true
    }

    /// Sends an SGI from `vcpu`, which is loaded on this core, to itself, if the one before is or
    /// was in a list register: as [`Self::record`] and [`Self::enter`] would together. Returns
    /// `false` if it takes these: then nothing was done.
    #[inline(always)]
    pub fn send_again(&mut self, vcpu: usize, sgi: u16, hw: &mut impl VirtualInterface) -> bool {
        self.come_again(vcpu, sgi, vcpu as u8, hw).is_some()
    }

    /// Offers an SGI from vCPU `source` once more to `vcpu`, which is loaded on this core, if the
    /// one before is or was in a list register, and nothing else has changed. Returns whether that
    /// is all, and [`Vgic::enter`] has nothing left to do; `None` if nothing was done.
    #[inline(always)]
    pub(crate) fn come_again(
        &mut self,
        vcpu: usize,
        sgi: u16,
        source: u8,
        hw: &mut impl VirtualInterface,
    ) -> Option<bool> {
        let n = self.sent_before(vcpu, sgi, source)?;
        let cpu = &mut self.cpus[vcpu];
        let found = hw.read_state(n);
        cpu.found[n] = found;
        match found {
            // Two of one source that are pending are one.
            State::Pending => Some(true),
            State::Inactive => {
                cpu.taken += 1;
                hw.write_packed(n, cpu.offered[n]);
                Some(true)
            }
            State::Active | State::PendingAndActive => {
                self.send_while_active(vcpu, n, hw);
                Some(!self.cpus[vcpu].is_dirty())
            }
        }
    }

    /// Notes the SGI in list register `n`, which is active, as pending once more, and fills the
    /// list register.
    #[inline(never)]
    fn send_while_active(&mut self, vcpu: usize, n: usize, hw: &mut impl VirtualInterface) {
        if let Resident { intid, cause: Cause::Source(source), .. } = self.cpus[vcpu].residents[n] {
            let _ = self.add_sources(vcpu, intid, 1 << source);
            self.refill_found(vcpu, n, hw);
        }
    }

    /// Raises the line of a vCPU's PPI while `vcpu` is loaded on this core, if the interrupt was in
    /// a list register before: as [`Self::set_ppi_level`] and [`Self::enter`] would together.
    /// Returns `false` if it takes these.
    #[inline]
    pub fn raise_again(&mut self, vcpu: usize, intid: u16, hw: &mut impl VirtualInterface) -> bool {
        let Some(n) = self.unchanged(vcpu, intid, Cause::None) else { return false };
        let cpu = &mut self.cpus[vcpu];
        let (bit, offered, state) = (1 << (intid % 32), cpu.offered[n], &cpu.state);
        let is_plain = !offered.is_hardware() && (SGIS..FIRST_SPI).contains(&intid);
        if !is_plain || (*state.priv_level | *state.priv_latch | *state.priv_edge) & bit != 0 {
            return false;
        }
        let group = if *state.priv_group & bit != 0 { Kind::Group1 } else { Kind::Group0 };
        let is_forwarded = *state.priv_enable & bit != 0 && cpu.waiting.forwards(group);
        cpu.found[n] = hw.read_state(n);
        *cpu.state.priv_level |= bit;
        if cpu.found[n] != State::Inactive || !is_forwarded {
            self.refill_found(vcpu, n, hw);
            return self.cpus[vcpu].changed == Changed::Nothing;
        }
        *cpu.state.priv_active &= !bit;
        cpu.taken += u64::from(offered.is_pending());
        let value = offered.pending_with_maintenance();
        cpu.values[n] = value;
        cpu.offered[n] = value;
        hw.write_packed(n, value);
        true
    }

    /// Folds list register `n`, whose state was found and whose interrupt has changed, and fills it
    /// again. If that is not all, the next entry does the rest.
    #[inline(never)]
    fn refill_found(&mut self, vcpu: usize, n: usize, hw: &mut impl VirtualInterface) {
        match self.refilled(vcpu, n) {
            Some(Some(n)) => hw.write_packed(n, self.cpus[vcpu].values[n]),
            Some(None) => {}
            None => self.cpus[vcpu].changed = Changed::Anything,
        }
    }

    /// Returns the list register in which an interrupt was offered for `cause`, if nothing has
    /// changed since the last entry, and nothing but this list register must be looked at if this
    /// interrupt does.
    #[inline(always)]
    fn unchanged(&mut self, vcpu: usize, intid: u16, cause: Cause) -> Option<usize> {
        let cpu = &self.cpus[vcpu];
        if cpu.changed != Changed::Nothing || cpu.control != Control::on(false, false) {
            return None;
        }
        let n = cpu.residents.iter().position(|one| one.intid == intid && one.cause == cause)?;
        if cpu.order.orderly_at == self.links.generation {
            debug_assert!(self.is_orderly(vcpu));
            return Some(n);
        }
        // One alone is in order, and there is no line to be looked at.
        if cpu.residents.len() == 1 && self.links.is_idle(vcpu) {
            self.cpus[vcpu].order.orderly_at = self.links.generation;
            return Some(n);
        }
        self.needs_no_other(vcpu, n, intid).then_some(n)
    }

    /// Returns whether no other list register than number `n` must be looked at if its interrupt
    /// comes again. When that was asked before, looks at all of them, once: mostly nothing must be
    /// asked any more.
    #[cold]
    #[inline(never)]
    fn needs_no_other(&mut self, vcpu: usize, n: usize, intid: u16) -> bool {
        let now = self.links.generation;
        let order = &mut self.cpus[vcpu].order;
        if order.one_at != now {
            order.one_at = now;
        } else if order.all_at != now {
            order.all_at = now;
            if self.is_orderly(vcpu) {
                self.cpus[vcpu].order.orderly_at = now;
                return true;
            }
        }
        let cpu = &self.cpus[vcpu];
        let is_in_order =
            cpu.residents.len() == 1 || cpu.is_in_order(n, cpu.offered[n].level(), intid);
        is_in_order && !self.leaves_a_line(vcpu, intid)
    }

    /// Returns whether all interrupts in list registers stand in the order of INTIDs with those of
    /// their level, and each physical interrupt that is active for the vCPU has its virtual one
    /// among them.
    pub(crate) fn is_orderly(&self, vcpu: usize) -> bool {
        let cpu = &self.cpus[vcpu];
        let mut residents = cpu.residents.iter().enumerate();
        let is_listed =
            |link: &Link| !link.is_active_for(vcpu) || self.is_resident(vcpu, link.intid);
        residents.all(|(n, one)| cpu.is_in_order(n, cpu.offered[n].level(), one.intid))
            && self.links.all.iter().all(is_listed)
    }

    /// Returns the list register in which an SGI from vCPU `source` was offered, as
    /// [`Self::unchanged`] says, if no other source waits.
    #[inline(always)]
    fn sent_before(&mut self, vcpu: usize, sgi: u16, source: u8) -> Option<usize> {
        let n = self.unchanged(vcpu, sgi, Cause::Source(source))?;
        let cpu = &self.cpus[vcpu];
        let is_single = cpu.state.sgi_src[usize::from(sgi)] == 0;
        (is_single && cpu.offered[n].with_state(State::Pending) == cpu.offered[n]).then_some(n)
    }

    /// Fills the list register of the interrupt `intid`, with which alone something has changed. An
    /// error says that nothing was done, and has a bit for each list register whose state was read
    /// for that, and is in `found`.
    #[inline(always)]
    pub(crate) fn refill(
        &mut self,
        vcpu: usize,
        intid: u16,
        hw: &mut impl VirtualInterface,
    ) -> Result<(), u32> {
        let cpu = &mut self.cpus[vcpu];
        debug_assert!(cpu.loaded && !cpu.synced);
        let place = cpu.residents.iter().position(|resident| resident.intid == intid);
        // Something is spilled, so what becomes free may be for that; or there are lines to be
        // looked at.
        if cpu.control != Control::on(false, false) || self.leaves_a_line(vcpu, intid) {
            return Err(0);
        }
        let written = match place {
            Some(n) => {
                let cpu = &mut self.cpus[vcpu];
                cpu.found[n] = if cpu.is_over(n) { State::Inactive } else { hw.read_state(n) };
                match self.cpus[vcpu].resent(n) {
                    Some(written) => written,
                    None => self.refilled(vcpu, n).ok_or(1u32 << n)?,
                }
            }
            None => self.newly_filled(vcpu, intid, hw)?,
        };
        if let Some(n) = written {
            hw.write_packed(n, self.cpus[vcpu].values[n]);
        }
        Ok(())
    }

    /// Gives an interrupt that is in no list register the first one whose interrupt the guest has
    /// ended, or else the next one that is not in use.
    #[inline(always)]
    fn newly_filled(
        &mut self,
        vcpu: usize,
        intid: u16,
        hw: &mut impl VirtualInterface,
    ) -> Result<Option<usize>, u32> {
        let cpu = &mut self.cpus[vcpu];
        let (used, mut read) = (cpu.residents.len(), 0);
        for n in 0..used {
            cpu.found[n] = hw.read_state(n);
            read |= 1 << n;
            if cpu.found[n] == State::Inactive {
                return self.moved_in(vcpu, intid, n).map(Some).ok_or(read);
            }
        }
        if used == hw.list_registers().min(MAX_LIST_REGISTERS) {
            return Err(read);
        }
        self.moved_in(vcpu, intid, used).map(Some).ok_or(read)
    }

    /// Returns whether another physical interrupt than that of `intid` is active for `vcpu` whose
    /// virtual one is in no list register. The guest may have lowered its line since.
    #[inline]
    fn leaves_a_line(&self, vcpu: usize, intid: u16) -> bool {
        if self.links.is_idle(vcpu) {
            return false;
        }
        let mut links = self.links.all.iter().filter(|link| link.is_active_for(vcpu));
        links.any(|link| link.intid != intid && !self.is_resident(vcpu, link.intid))
    }

    /// Folds list register `n`, whose state was found, and fills it with the same interrupt.
    /// Returns its number if it must be written; `None` if that is not all that there is to do.
    #[inline(never)]
    fn refilled(&mut self, vcpu: usize, n: usize) -> Option<Option<usize>> {
        let cpu = &self.cpus[vcpu];
        let Resident { intid, cause, .. } = cpu.residents[n];
        let offered = cpu.offered[n];
        let found = offered.with_state(cpu.found[n]);
        let physical = self.links.active_physical(vcpu, intid);
        // What becomes of a physical interrupt is for the whole way, unless this is the next one.
        if physical.is_some() != offered.is_hardware() || (physical.is_some() && !cpu.is_over(n)) {
            return None;
        }
        let mut irq = self.irq(vcpu, intid);
        irq.fold(vcpu, cause, found);
        let pends = irq.is_pending() && irq.is_enabled() && cpu.waiting.forwards(irq.group());
        let (list_register, cause) = if irq.is_active() {
            irq.keep(vcpu, intid, physical, pends, true)
        } else if pends && irq.target() == Some(vcpu) {
            irq.offer_any(intid, physical)
        } else {
            return None;
        };
        let value = Packed::new(list_register);
        if !cpu.is_in_order(n, value.level(), intid) {
            return None;
        }
        self.write_back(vcpu, intid, &irq, Place::resident(vcpu));
        if physical.is_some() {
            self.links.take_fresh_of(vcpu, intid);
        }
        let cpu = &mut self.cpus[vcpu];
        cpu.taken += u64::from(offered.is_pending() && !found.is_pending());
        cpu.hold(n, Resident { intid, cause, refired: false }, value);
        Some((value != found).then_some(n))
    }

    /// Moves the interrupt `intid` from its queue to list register `n`, whose interrupt the guest
    /// has ended, or which is the next one after those in use. Returns its number; `None` if that
    /// is not all that there is to do.
    #[inline(never)]
    fn moved_in(&mut self, vcpu: usize, intid: u16, n: usize) -> Option<usize> {
        let cpu = &self.cpus[vcpu];
        let (level, first) = cpu.waiting.first_pending()?;
        if first != intid || !cpu.is_in_order(n, level, intid) {
            return None;
        }
        // The line of a physical interrupt that did not come just now must be looked at.
        if self.links.active_physical(vcpu, intid).is_some()
            && !self.links.take_fresh_of(vcpu, intid)
        {
            return None;
        }
        if n < self.cpus[vcpu].residents.len() {
            self.move_out(vcpu, n)?;
        }
        self.cpus[vcpu].waiting.pop_pending();
        let (list_register, cause) = self.offer(vcpu, intid);
        let resident = Resident { intid, cause, refired: false };
        self.cpus[vcpu].hold(n, resident, Packed::new(list_register));
        Some(n)
    }

    /// Folds list register `n`, whose interrupt the guest has ended. Returns `None`, and does
    /// nothing, if that is not the end of it: the interrupt is pending again, or a physical one
    /// must be ended.
    #[inline]
    fn move_out(&mut self, vcpu: usize, n: usize) -> Option<()> {
        let cpu = &self.cpus[vcpu];
        let Resident { intid, cause, .. } = cpu.residents[n];
        let offered = cpu.offered[n];
        let is_linked = self.links.active_physical(vcpu, intid).is_some();
        if is_linked != offered.is_hardware() {
            return None;
        }
        let mut irq = self.irq(vcpu, intid);
        irq.fold(vcpu, cause, offered.with_state(State::Inactive));
        if is_linked {
            // The guest's own deactivation has ended the physical interrupt.
            irq.lower();
        }
        if irq.wanted_place() != Place::NOWHERE {
            return None;
        }
        if is_linked {
            self.links.note(vcpu, intid, false);
        }
        self.write_back(vcpu, intid, &irq, Place::NOWHERE);
        self.cpus[vcpu].taken += u64::from(offered.is_pending());
        Some(())
    }
}

impl VirtualCpu {
    /// Offers the SGI in list register `n`, whose state was found, once more, if the same source
    /// has sent it again and nothing else about it has changed: then the fold and the offer take
    /// the source out of the records, and that is all. Returns the number if the list register must
    /// be written; `None`, and does nothing, if it is another case.
    #[inline]
    fn resent(&mut self, n: usize) -> Option<Option<usize>> {
        let Resident { intid, cause: Cause::Source(source), .. } = self.residents[n] else {
            return None;
        };
        let (sgi, offered, found) = (usize::from(intid), self.offered[n], self.found[n]);
        let is_same = self.state.sgi_src[sgi] == 1 << source
            && level(self.state.priv_prio[sgi]) == offered.level()
            && (*self.state.priv_group >> sgi & 1 != 0) == offered.is_group1();
        let was_single = !offered.with_state(State::Inactive).matters();
        let is_apart = self.residents.len() == 1 || self.is_in_order(n, offered.level(), intid);
        if !is_same || !was_single || !is_apart || found.is_active() || offered.is_active() {
            return None;
        }
        self.state.sgi_src[sgi] = 0;
        self.changed = Changed::Nothing;
        let was_taken = found == State::Inactive;
        self.taken += u64::from(was_taken);
        Some(was_taken.then_some(n))
    }

    /// Returns whether the guest is known to have ended the interrupt in list register `n`: its
    /// physical interrupt has come again.
    #[inline]
    fn is_over(&self, n: usize) -> bool {
        self.residents[n].refired && self.offered[n].is_hardware()
    }

    /// Notes that list register `n`, one of those in use or the next one, holds this from the next
    /// entry on, and that all of them hold what they must.
    #[inline]
    fn hold(&mut self, n: usize, resident: Resident, value: Packed) {
        match self.residents.get_mut(n) {
            Some(place) => *place = resident,
            None => self.residents.push(resident),
        }
        self.used = self.residents.len();
        self.values[n] = value;
        self.offered[n] = value;
        self.order = Order::UNKNOWN;
        self.changed = Changed::Nothing;
    }

    /// Returns whether the interrupt `intid` in list register `n` stands in the order of INTIDs
    /// with those of its `level`, as pending ones must.
    #[inline]
    fn is_in_order(&self, n: usize, level: u8, intid: u16) -> bool {
        let mut others = self.residents.iter().zip(&self.offered).enumerate();
        others.all(|(m, (one, offered))| {
            m == n || offered.level() != level || (m < n) == (one.intid < intid)
        })
    }
}
