//! What has come for a guest from outside, until one of the guest's cores takes it.
//!
//! Whoever brings something puts it down first ([`Bits::set`], or behind a lock), announces it
//! ([`News::announce`]), and then kicks vCPUs of the guest. A core of the guest's looks whether
//! there is an announcement ([`News::is_there`]). If so it takes the announcement ([`News::take`]),
//! and then what was brought. So nothing is left behind: what is put down after the core has looked
//! has an announcement of its own.

use crate::sync::{AtomicBool, AtomicU32, Ordering};

/// Announcement that something has come for a guest.
#[derive(Debug)]
pub struct News {
    has_come: AtomicBool,
}

impl News {
    /// Returns the news of a new guest, with an announcement: bells may have been rung before the
    /// guest was there.
    pub fn of_new_guest() -> Self {
        Self { has_come: AtomicBool::new(true) }
    }

    /// Announces something, which the caller has put down before. The caller then kicks some vCPU
    /// of the guest.
    #[inline]
    pub fn announce(&self) {
        // A swap, too: whoever takes the announcement of the last of several finds what the others
        // have put down.
        self.has_come.swap(true, Ordering::Release);
    }

    /// Returns whether there may be an announcement.
    #[inline(always)]
    pub fn is_there(&self) -> bool {
        self.has_come.load(Ordering::Relaxed)
    }

    /// Takes the announcement. The caller then takes what was announced.
    #[inline]
    pub fn take(&self) {
        // A swap: a store would not see what was put down before the announcement that it
        // overwrites.
        self.has_come.swap(false, Ordering::Acquire);
    }

    /// Announces again what the caller could not take yet. The caller took the announcement, and
    /// holds the lock that all who take it hold.
    #[inline]
    pub fn keep(&self) {
        self.has_come.store(true, Ordering::Relaxed);
    }
}

/// Set of things that have come, such as bells that were rung and interrupts of devices: one bit
/// for each.
#[derive(Debug)]
pub struct Bits(AtomicU32);

impl Default for Bits {
    fn default() -> Self {
        Self::new()
    }
}

impl Bits {
    /// Returns an empty set.
    pub fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Adds number `n`, below 32. Whoever takes it finds what the caller has written before.
    #[inline]
    pub fn set(&self, n: usize) {
        self.0.fetch_or(1 << n, Ordering::Release);
    }

    /// Returns what has come, one bit for each, and empties the set.
    #[inline]
    pub fn take(&self) -> u32 {
        // Mostly the set is empty, and a load is faster than a swap.
        match self.0.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.0.swap(0, Ordering::Acquire),
        }
    }
}

/// A notice for one core to look at something behind a lock.
#[derive(Debug)]
pub struct Notice(AtomicBool);

impl Default for Notice {
    fn default() -> Self {
        Self::new()
    }
}

impl Notice {
    /// Returns a notice that was not left.
    pub fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Leaves the notice. The caller has held the lock before, and changed what the core must look
    /// at. It kicks the core then.
    #[inline]
    pub fn leave(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns whether the notice was left, and leaves it. The caller holds the lock.
    #[inline(always)]
    pub fn is_left(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes the notice, and returns whether it was left. The caller holds the lock.
    #[inline(always)]
    pub fn take(&self) -> bool {
        let left = self.0.load(Ordering::Relaxed);
        if left {
            self.0.store(false, Ordering::Relaxed);
        }
        left
    }
}
