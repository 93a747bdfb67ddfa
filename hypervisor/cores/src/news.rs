//! What has come for a guest from outside, and waits for a core of the guest's to come by.
//!
//! Whoever brings something puts it down first ([`Bits::set`], or behind a lock), says so ([`News::announce`]), and then kicks vCPUs of the guest.
//! A core that comes by looks whether there is anything ([`News::is_there`]); if so it takes the announcement ([`News::take`]), and then
//! what was brought. So nothing is left lying: what is put down after the core has looked has an announcement of its own.

use crate::sync::{AtomicBool, AtomicU32, Ordering};

/// Whether something has come for a guest.
#[derive(Debug)]
pub struct News {
    has_come: AtomicBool,
}

impl News {
    /// Returns the news of a guest that was made just now: what was rung before it was there has come.
    pub fn of_new_guest() -> Self {
        Self { has_come: AtomicBool::new(true) }
    }

    /// Says that something has come, which the caller has put down before. Some vCPU of the guest is to be kicked then.
    #[inline]
    pub fn announce(&self) {
        // A swap, too: so who takes the flag of the last one of several finds what the others have put down.
        self.has_come.swap(true, Ordering::Release);
    }

    /// Returns whether something may have come.
    #[inline(always)]
    pub fn is_there(&self) -> bool {
        self.has_come.load(Ordering::Relaxed)
    }

    /// Takes the announcement. What was announced is then to be taken.
    #[inline]
    pub fn take(&self) {
        // A swap, for a store would not see what was put down before the announcement that it overwrites.
        self.has_come.swap(false, Ordering::Acquire);
    }

    /// Says that some of what has come could not be taken yet. The caller took it, and has the lock that whoever takes it has.
    #[inline]
    pub fn keep(&self) {
        self.has_come.store(true, Ordering::Relaxed);
    }
}

/// A bit for each of what may have come: bells that were rung, interrupts of devices.
#[derive(Debug)]
pub struct Bits(AtomicU32);

impl Default for Bits {
    fn default() -> Self {
        Self::new()
    }
}

impl Bits {
    /// Returns that nothing has come.
    pub fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Says that the `n`th has come. What the caller has written before is there for who takes it.
    #[inline]
    pub fn set(&self, n: usize) {
        self.0.fetch_or(1 << n, Ordering::Release);
    }

    /// Returns, and forgets, what has come.
    #[inline]
    pub fn take(&self) -> u32 {
        // Mostly nothing of this sort has come.
        match self.0.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.0.swap(0, Ordering::Acquire),
        }
    }
}

/// What somebody leaves for one core, whose task is to look at something behind a lock.
#[derive(Debug)]
pub struct Notice(AtomicBool);

impl Default for Notice {
    fn default() -> Self {
        Self::new()
    }
}

impl Notice {
    /// Returns that nothing was left.
    pub fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Leaves the notice. The caller had the lock before, in which it changed what is to be looked at, and kicks the core then.
    #[inline]
    pub fn leave(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns whether the notice was left, and takes it. The caller has the lock.
    #[inline(always)]
    pub fn take(&self) -> bool {
        let left = self.0.load(Ordering::Relaxed);
        if left {
            self.0.store(false, Ordering::Relaxed);
        }
        left
    }
}
