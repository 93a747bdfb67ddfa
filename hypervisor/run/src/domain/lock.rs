//! The lock of what a guest's vCPUs share, as a vCPU's turn has it or does not have it.
//!
//! A turn begins with [`Unlocked`]. [`Domain::lock`] takes that and gives [`Locked`], and
//! [`Locked::unlock`] gives it back; [`Domain::try_lock`] borrows it. What a turn does outside of
//! its guest, such as to kick a core, to send a byte or to log a line, takes a reference to
//! [`Unlocked`]. So it does not compile under the lock. The console's task alone is woken under it,
//! by a device that asks for memory which is still to be loaded.

use super::{Domain, NOBODY, Resident};
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU8, Ordering};
use stasis_arch::cpu;
use stasis_cores::sync::{Lock, LockGuard};

/// The lock of what a guest's vCPUs share. Whoever parks a guest keeps it for long, and would wait
/// for itself for ever: that is a panic.
pub(super) struct ResidentLock {
    lock: Lock<Resident>,
    /// Core that has the guest parked, or [`NOBODY`]. Whoever has the lock writes it; a core reads
    /// there whether it did so itself, so all accesses are relaxed.
    parked_on: AtomicU8,
}

impl ResidentLock {
    /// Returns the lock, which nobody has.
    pub fn new(resident: Resident) -> Self {
        Self { lock: Lock::new(resident), parked_on: AtomicU8::new(NOBODY) }
    }

    /// Returns what is locked; `None` if somebody else has it.
    #[inline(always)]
    pub fn try_lock(&self) -> Option<LockGuard<'_, Resident>> {
        self.lock.try_lock()
    }

    /// Returns what is locked, when nobody else has it any more.
    ///
    /// # Panics
    ///
    /// If the calling core has the guest parked.
    #[inline(always)]
    pub fn lock(&self) -> LockGuard<'_, Resident> {
        // The wait is not part of the many functions that take the lock.
        self.lock.try_lock().unwrap_or_else(|| self.wait())
    }

    #[cold]
    fn wait(&self) -> LockGuard<'_, Resident> {
        self.check_not_parked_here();
        loop {
            while self.lock.is_locked() {
                cpu::wait_for_core();
            }
            if let Some(guard) = self.lock.try_lock() {
                return guard;
            }
        }
    }

    /// Panics if the calling core has the guest parked: the caller is about to wait for what only
    /// it could give back.
    pub fn check_not_parked_here(&self) {
        let by_this_core = self.parked_on.load(Ordering::Relaxed) == cpu::number() as u8;
        assert!(!by_this_core, "whoever has a guest parked asks the Parked, not the guest");
    }

    /// Notes that the calling core has the guest parked from now on, or not any more. The caller
    /// has the lock.
    pub fn set_parked(&self, is_parked: bool) {
        let core = if is_parked { cpu::number() as u8 } else { NOBODY };
        self.parked_on.store(core, Ordering::Relaxed);
    }
}

/// Proof that a vCPU's turn does not have the lock of what the guest's vCPUs share. A turn has one
/// of this, or [`Locked`], and can copy neither.
#[derive(Debug)]
pub struct Unlocked(());

impl Unlocked {
    /// Returns the proof of a turn that begins on this core. The caller has no lock of the guest
    /// but its vCPU's, and makes one proof per turn.
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

/// What a guest's vCPUs share, locked for a part of the first look at an exit, until this is
/// dropped.
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
        Locked(self.resident.lock())
    }

    /// Returns what the guest's vCPUs share, locked; `None` if somebody else has it. The turn has
    /// its proof back when the result is dropped.
    #[inline(always)]
    pub(super) fn try_lock<'a>(&'a self, _: &'a mut Unlocked) -> Option<LockedBriefly<'a>> {
        self.resident.try_lock().map(LockedBriefly)
    }
}
