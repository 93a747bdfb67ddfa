//! Memory that guests share copy on write: where its pages are, and how many use a block of it.
//!
//! A page is in the block that the guests have in common, or in a frame of one guest's. Its guest
//! alone moves it ([`Entry`]), while a snapshot of that guest's memory looks for it on another
//! core. Whoever is left alone with a block writes it where it is ([`Users`]); what others did with
//! it is over by then.

use crate::sync::{AtomicU16, AtomicU64, Ordering};

/// The address of what was put in the place of something: of a frame, or of a table of entries; or
/// none. It is a word in memory, which is 0 if it is none.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Entry(pub(crate) AtomicU64);

impl Entry {
    /// Returns the address, for any core. What was written there before it was
    /// [put](Self::put) here is found there.
    #[inline]
    pub fn find(&self) -> Option<u64> {
        some(self.0.load(Ordering::Acquire))
    }

    /// Returns the address, for the one core that puts it here.
    #[inline]
    pub fn own(&self) -> Option<u64> {
        some(self.0.load(Ordering::Relaxed))
    }

    /// Makes the address this one, which is not 0. One core does so at a time.
    #[inline]
    pub fn put(&self, address: u64) {
        self.0.store(address, Ordering::Release);
    }

    /// Takes the address out, when no other core looks for it any more.
    #[inline]
    pub fn take(&mut self) -> Option<u64> {
        some(self.0.swap(0, Ordering::Relaxed))
    }
}

/// Returns the address that a word is, if it is one.
fn some(word: u64) -> Option<u64> {
    (word != 0).then_some(word)
}

/// How many memories use a block.
#[derive(Debug)]
#[repr(transparent)]
pub struct Users(AtomicU16);

impl Default for Users {
    /// Returns the one user who makes it.
    fn default() -> Self {
        Self(AtomicU16::new(1))
    }
}

impl Users {
    /// Counts one more, on behalf of a user.
    #[inline]
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns whether there is one user, who asks. What others did with the block was before.
    #[inline]
    pub fn is_one(&self) -> bool {
        self.0.load(Ordering::Acquire) == 1
    }

    /// Counts one less: a user does nothing with the block any more. Returns whether it was the
    /// last one. Then what all did with the block was before.
    #[inline]
    #[must_use = "the last one gives the block back"]
    pub fn leave(&self) -> bool {
        self.0.fetch_sub(1, Ordering::AcqRel) == 1
    }
}
