//! The lock of what a guest's vCPUs share, as a vCPU's turn has it or does not have it.
//!
//! A turn begins with [`Unlocked`]. [`Domain::lock`] takes that and gives [`Locked`], and [`Locked::unlock`] gives it back. What a turn does outside of
//! its guest, such as to kick a core, to send a byte or to log a line, takes a reference to [`Unlocked`]. So it does not compile under the lock.

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

impl Domain {
    /// Returns what the guest's vCPUs share, locked.
    #[inline(always)]
    pub(super) fn lock(&self, _: Unlocked) -> Locked<'_> {
        // The wait is not part of the many functions that take the lock.
        Locked(self.resident.try_lock().unwrap_or_else(|| self.wait_for_lock()))
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

/// The lock after the first look at an exit, which may have needed it.
pub(super) enum MaybeLocked<'a> {
    /// The look has needed the lock, and has it still.
    Locked(Locked<'a>),
    /// The look was without the lock.
    Unlocked(Unlocked),
}

impl<'a> MaybeLocked<'a> {
    /// Returns what the vCPUs of the guest in `domain` share, locked.
    #[inline(always)]
    pub fn lock(self, domain: &'a Domain) -> Locked<'a> {
        match self {
            Self::Locked(resident) => resident,
            Self::Unlocked(unlocked) => domain.lock(unlocked),
        }
    }
}
