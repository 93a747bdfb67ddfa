//! Physical interrupts that are answered before all registers of the vCPU are saved: those of the
//! guest's timers and devices that come again, and kicks for list registers alone.

use super::VcpuPlace;
use super::first_look::{AtExit, Glimpse, fill};
use crate::gic;
use crate::interrupts::{self, Taken};
use stasis_arch::world::Looked;
use stasis_guest::stats::Reason;
use stasis_hw::gic::Acknowledged;

impl AtExit<'_> {
    /// Takes the physical interrupt that is pending. Answers it if it is that of a timer or a
    /// device of the guest, and the list register in which it was offered before is all that
    /// changes; or a kick. Else the vCPU leaves for it.
    #[inline(always)]
    pub(super) fn interrupt(&mut self, glimpse: Glimpse<'_>) -> Looked {
        self.host.place.stats.left(Reason::Interrupt);
        let Some(interrupt) = self.host.gic.take() else { return self.leave_for(Taken::Own) };
        match interrupt.intid() {
            gic::VIRTUAL_TIMER => self.take_virtual_timer(interrupt),
            gic::KICK => self.take_kick(interrupt),
            gic::EL2_TIMER => self.take_timer(glimpse, interrupt),
            _ => self.take_device(interrupt),
        }
    }

    /// Offers the interrupt of the guest's virtual timer once more.
    #[inline(always)]
    fn take_virtual_timer(&mut self, interrupt: Acknowledged) -> Looked {
        if !self.offer_again(None) {
            return self.leave_for(Taken::Other(interrupt));
        }
        self.host.times.watch_active();
        self.host.times.set_timer(&self.unlocked);
        Looked::GoOn
    }

    /// Offers an interrupt of a device of the guest's once more.
    #[inline(never)]
    fn take_device(&mut self, interrupt: Acknowledged) -> Looked {
        let spi = self.host.domain.given.spi(interrupt.intid());
        match spi.is_some() && self.offer_again(spi) {
            true => Looked::GoOn,
            false => self.leave_for(Taken::Other(interrupt)),
        }
    }

    /// Offers the interrupt of the virtual timer, or of the device with the guest's SPI number
    /// `spi`, once more. Returns `false` if that is not all that there is to do, or somebody else
    /// has the lock: then nothing was done.
    #[inline(always)]
    fn offer_again(&mut self, spi: Option<u32>) -> bool {
        let Some(mut resident) = self.host.domain.try_lock(&mut self.unlocked) else {
            return false;
        };
        resident.guest.comes_again(self.host.place.index, spi, &mut self.host.gic)
    }

    /// Makes the vCPU leave for an interrupt that was taken.
    #[inline(always)]
    fn leave_for(&mut self, taken: Taken) -> Looked {
        self.host.taken = taken;
        Looked::Interrupt
    }

    /// Ends the interrupt of EL2's timer. The vCPU leaves if its turn is over.
    #[inline(always)]
    fn take_timer(&mut self, glimpse: Glimpse<'_>, interrupt: Acknowledged) -> Looked {
        interrupts::end_timer(interrupt, &self.host.gic);
        match self.host.times.note_fired(self.host.place.roster) {
            Ok(now) => self.raise_timer(glimpse, now),
            Err(taken) => self.leave_for(taken),
        }
    }

    /// Raises the line of the guest's physical timer, if EL2's timer has fired for that when the
    /// counter reads `now`, and it is all that changes. Else the vCPU leaves.
    #[inline(never)]
    fn raise_timer(&mut self, glimpse: Glimpse<'_>, now: u64) -> Looked {
        let index = self.host.place.index;
        let Some(mut resident) = self.host.domain.try_lock(&mut self.unlocked) else {
            return self.leave_for(Taken::Timer);
        };
        let guest = &mut resident.guest;
        let due = guest.timer_comes_again(index, glimpse.vcpu, now, &mut self.host.gic);
        drop(resident);
        let Some(due) = due else { return self.leave_for(Taken::Timer) };
        self.host.times.tick_by(due);
        self.host.times.set_timer(&self.unlocked);
        Looked::GoOn
    }

    /// Answers a kick, if it was sent for the vCPU's list registers alone. Whoever wants something
    /// else from now on sends a kick of its own.
    #[inline(never)]
    fn take_kick(&mut self, interrupt: Acknowledged) -> Looked {
        let taken = interrupts::end_kick(interrupt, &self.host.gic);
        let VcpuPlace { index, roster, hold, takes_over, .. } = self.host.place;
        let domain = self.host.domain;
        let is_left_to_do = roster.must_decide()
            || domain.must_leave()
            || hold.is_wanted()
            || domain.news.is_there();
        if is_left_to_do {
            return self.leave_for(taken);
        }
        let Some(mut resident) = domain.try_lock(&mut self.unlocked) else {
            return self.leave_for(taken);
        };
        let guest = &mut resident.guest;
        let steps = guest.clock.is_stepped() || guest.crash().is_some();
        if steps || takes_over.is_left() || resident.ram.has_unseen() {
            drop(resident);
            return self.leave_for(taken);
        }
        let guest = &mut resident.guest;
        if self.host.place.receive_at_entry(guest, &mut self.host.gic) {
            return Looked::GoOn;
        }
        let kick = fill(guest, *index, &mut self.host.gic);
        drop(resident);
        domain.kick(kick);
        Looked::GoOn
    }
}
