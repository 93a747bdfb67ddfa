//! The times at which EL2 must have its core back from the vCPU that runs there: [`Times`], for
//! which EL2's timer is set.

use super::lock::Unlocked;
use crate::clock;
use crate::interrupts::Taken;
use crate::roster::Roster;
use stasis_arch::timer;
use stasis_guest::clock::NEVER;

/// Values of the counter at which EL2 must have its core back during a vCPU's turn. The timer fires
/// at the first of them.
pub struct Times {
    /// When the guest must be told the time again.
    pub deadline: u64,
    /// When EL2 must look at the guest's virtual timer.
    pub look_at: u64,
    /// When the vCPU's turn on this core is over.
    pub turn_ends: u64,
    /// Whether EL2's timer must be set, since one of these times has changed.
    pub is_stale: bool,
}

impl Times {
    /// Returns the times of a turn that ends when the counter reads `turn_ends`, for which the
    /// timer is not set yet.
    pub const fn of_turn(turn_ends: u64) -> Self {
        Self { deadline: NEVER, look_at: NEVER, turn_ends, is_stale: true }
    }

    /// Notes that EL2's timer has fired, and is off: it is set again, or the core of `roster`
    /// decides if the vCPU's turn is over. Returns the counter; or an error, which says for what
    /// the vCPU leaves, if the turn is over, or EL2 must look at the guest's virtual timer.
    #[inline]
    pub fn note_fired(&mut self, roster: &Roster) -> Result<u64, Taken> {
        self.is_stale = true;
        let now = timer::counter();
        if now >= self.turn_ends {
            roster.timer_fired();
            return Err(Taken::TurnOver);
        }
        if now >= self.look_at { Err(Taken::Timer) } else { Ok(now) }
    }

    /// Notes that the guest must be told the time when the counter reads `deadline`.
    #[inline]
    pub fn tick_by(&mut self, deadline: u64) {
        self.deadline = deadline;
        self.is_stale = true;
    }

    /// Makes EL2 look at the guest's virtual timer within the time between two looks, where it does
    /// not always fire by itself. Its interrupt has just come, and is active.
    #[inline]
    pub fn watch_active(&mut self) {
        if self.look_at == NEVER && clock::timer_forgets() {
            self.look_at = clock::next_watch();
            self.is_stale = true;
        }
    }

    /// Sets EL2's timer, if one of its times has changed.
    ///
    /// QEMU that runs one core at a time goes on with another core after EL2's timer is set. If
    /// that core wants the lock, it spins in vain until its slice is over. So the lock is not held
    /// here.
    #[inline]
    pub fn set_timer(&mut self, _: &Unlocked) {
        if self.is_stale {
            self.is_stale = false;
            timer::set_deadline(self.deadline.min(self.look_at).min(self.turn_ends));
        }
    }
}
