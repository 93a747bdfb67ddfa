//! One interrupt and its list register: what the list register is filled with, and what has become
//! of the interrupt when it is read again. Both know nothing of other interrupts, and all but that
//! of a pending SGI work on a copy of what the records say.

use crate::irq::{Cause, Irq, SGIS};
use crate::list_register::{ListRegister, Origin, Packed, State};
use crate::vgic::VirtualCpu;

impl VirtualCpu {
    /// Returns what the list register of an SGI is filled with that is pending, may be offered and
    /// is not active. Takes the source out of the records, of which it looks at no more than it
    /// needs.
    #[inline]
    pub(crate) fn offer_sgi(&mut self, sgi: u16) -> (ListRegister, Cause) {
        let (n, records) = (usize::from(sgi), &mut self.state);
        let group1 = *records.priv_group >> sgi & 1 != 0;
        offer_source(sgi, records.priv_prio[n], group1, &mut records.sgi_src[n])
    }
}

/// Returns what the list register of an SGI is filled with that is pending from `sources`, from
/// which it takes the first.
#[inline(always)]
fn offer_source(sgi: u16, priority: u8, group1: bool, sources: &mut u8) -> (ListRegister, Cause) {
    let source = sources.trailing_zeros() as u8;
    *sources &= sources.wrapping_sub(1);
    // Other sources wait behind this one.
    let origin = Origin::Software { source, maintenance: *sources != 0 };
    let state = State::Pending;
    (ListRegister { intid: sgi, priority, group1, state, origin }, Cause::Source(source))
}

impl Irq {
    /// Returns what the list register of an interrupt is filled with, be it an SGI or not: as
    /// [`Self::offer`] says.
    #[inline]
    pub(crate) fn offer_any(&mut self, intid: u16, physical: Option<u16>) -> (ListRegister, Cause) {
        if intid >= SGIS {
            return self.offer(intid, physical);
        }
        offer_source(intid, self.priority, self.is_group1(), &mut self.sources)
    }

    /// Returns what the list register of an interrupt is filled with that is no SGI, pending, may
    /// be offered and is not active; `physical` is active on its behalf. Takes the cause out of the
    /// copy of the records.
    #[inline]
    pub(crate) fn offer(&mut self, intid: u16, physical: Option<u16>) -> (ListRegister, Cause) {
        let (group1, priority, state) = (self.is_group1(), self.priority, State::Pending);
        let cause = self.take_latch();
        let origin = match physical {
            Some(physical) => Origin::Hardware { physical },
            // The line may still be high then, and the interrupt must come again.
            None => Origin::Software { source: 0, maintenance: self.is_asserted() },
        };
        (ListRegister { intid, priority, group1, state, origin }, cause)
    }

    /// Returns what the list register of an active interrupt is filled with, on `vcpu`. If `again`,
    /// the interrupt is pending, too, and may be offered: at once if it also `repends`, for then
    /// nothing that was spilled is better.
    pub(crate) fn keep(
        &mut self,
        vcpu: usize,
        intid: u16,
        physical: Option<u16>,
        again: bool,
        repends: bool,
    ) -> (ListRegister, Cause) {
        let (group1, priority) = (self.is_group1(), self.priority);
        // An interrupt that is deactivated while its latch is set must come again: only software
        // can see to that.
        if let Some(physical) = physical
            && !(again && self.is_latched())
        {
            let (state, origin) = (State::Active, Origin::Hardware { physical });
            let list_register = ListRegister { intid, priority, group1, state, origin };
            return (list_register, Cause::None);
        }
        let (source, mut cause) = (self.active_source, Cause::None);
        let maintenance = if intid < SGIS {
            // Pending and active in one list register have one source.
            let next = self.sources.trailing_zeros() as u8;
            if again && next == source && repends {
                cause = Cause::Source(source);
                self.sources &= !(1 << source);
            }
            // Other sources wait behind this one.
            again && self.sources != 0
        } else {
            let target = self.target();
            if again && repends && self.is_edge() && physical.is_none() && target == Some(vcpu) {
                cause = self.take_latch();
            }
            again && cause == Cause::None && target.is_some()
        };
        let state = match cause {
            Cause::None => State::Active,
            _ => State::PendingAndActive,
        };
        let origin = Origin::Software { source, maintenance };
        (ListRegister { intid, priority, group1, state, origin }, cause)
    }

    /// Notes what has become of an interrupt that was pending for `cause`, and whose list register
    /// has this value by now. Returns whether it is over: the guest has acknowledged and
    /// deactivated it.
    #[inline]
    pub(crate) fn fold(&mut self, vcpu: usize, cause: Cause, value: Packed) -> bool {
        let pending = value.is_pending();
        match cause {
            Cause::Latch if pending => self.latch(),
            Cause::Source(source) if pending => self.sources |= 1 << source,
            _ => {}
        }
        if value.is_active() {
            self.activate(vcpu, value.source());
            return false;
        }
        if pending && !self.is_active() {
            return false;
        }
        self.deactivate();
        true
    }
}
