//! The lock of what a guest's vCPUs share, as a vCPU's turn has it or does not have it.
//!
//! A turn begins with [`Unlocked`]. [`Domain::lock`] takes that and gives [`Locked`], and [`Locked::unlock`] gives it back; [`Domain::try_lock`]
//! borrows it. What a turn does outside of its guest, such as to kick a core, to send a byte or to log a line, takes a reference to [`Unlocked`]. So it
//! does not compile under the lock.

use super::{Domain, Resident};
use core::ops::{Deref, DerefMut};
use stasis_arch::cpu;
use stasis_cores::sync::LockGuard;

/// Proof that a vCPU's turn does not have the lock of what the guest's vCPUs share. A turn has one of this, or [`Locked`], and can copy neither.
#[derive(Debug)]
pub struct Unlocked(());

impl Unlocked {
    /// Returns the proof of a turn that begins on this core. The caller has no lock of the guest but its vCPU's, and makes one proof per turn.
    pub(super) fn at_begin_of_turn() -> Self {
        Self(())
    }
}

/// What a guest's vCPUs share, locked by a vCPU's turn.
pub(super) struct Locked<'a>(LockGuard<'a, Resident>);

impl Locked<'_> {
    /// Gives the lock back.
    #[inline(always)]
    pub fn unlock(self) -> Unlocked {
        Unlocked(())
    }
}

impl Deref for Locked<'_> {
    type Target = Resident;

    #[inline(always)]
    fn deref(&self) -> &Resident {
        &self.0
    }
}

impl DerefMut for Locked<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Resident {
        &mut self.0
    }
}

/// What a guest's vCPUs share, locked for a part of the first look at an exit, until this is dropped.
pub(super) struct LockedBriefly<'a>(LockGuard<'a, Resident>);

impl Deref for LockedBriefly<'_> {
    type Target = Resident;

    #[inline(always)]
    fn deref(&self) -> &Resident {
        &self.0
    }
}

impl DerefMut for LockedBriefly<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Resident {
        &mut self.0
    }
}

impl Domain {
    /// Returns what the guest's vCPUs share, locked.
    #[inline(always)]
    pub(super) fn lock(&self, _: Unlocked) -> Locked<'_> {
        // The wait is not part of the many functions that take the lock.
        Locked(self.resident.try_lock().unwrap_or_else(|| self.wait_for_lock()))
    }

    /// Returns what the guest's vCPUs share, locked; `None` if somebody else has it. The turn has its proof back when the result is dropped.
    #[inline(always)]
    pub(super) fn try_lock<'a>(&'a self, _: &'a mut Unlocked) -> Option<LockedBriefly<'a>> {
        self.resident.try_lock().map(LockedBriefly)
    }

    #[cold]
    fn wait_for_lock(&self) -> LockGuard<'_, Resident> {
        loop {
            while self.resident.is_locked() {
                cpu::wait_for_core();
            }
            if let Some(guard) = self.resident.try_lock() {
                return guard;
            }
        }
    }
}
