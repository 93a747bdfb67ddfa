//! SGIs that the vCPUs of a guest send to each other, until the receiver's core takes them.
//!
//! A sender needs no lock: it puts the SGI into the receiver's [`Mailbox`], and then kicks the
//! receiver. The receiver's core takes what is there before it enters the guest, under the lock of
//! what the guest's vCPUs share, and so does whoever has that lock and needs the records whole.
//! What is put in after that has a kick of its own.

use crate::sync::{AtomicU64, Ordering};
use stasis_vgic::Sgis;

/// SGIs that a vCPU was sent, and that are not in its records yet.
#[derive(Debug)]
pub struct Mailbox([AtomicU64; 2]);

impl Default for Mailbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Mailbox {
    /// Returns an empty mailbox.
    pub fn new() -> Self {
        Self([AtomicU64::new(0), AtomicU64::new(0)])
    }

    /// Puts in SGI `sgi` from vCPU `source`. Returns whether the caller must kick the receiver: if
    /// the same source has put the SGI in before, and it was not taken yet, that kick is enough.
    /// Whoever takes the SGI finds what the caller has written before.
    ///
    /// # Panics
    ///
    /// If there is no such SGI.
    #[inline]
    pub fn put(&self, sgi: u16, source: usize) -> bool {
        let bit = usize::from(sgi) * 8 + source;
        let (word, bit) = (&self.0[bit / 64], 1 << (bit % 64));
        word.fetch_or(bit, Ordering::Release) & bit == 0
    }

    /// Takes out all SGIs. The caller holds the lock of the records that get them.
    #[inline(always)]
    pub fn take(&self) -> Sgis {
        // Mostly the mailbox is empty, and a load is faster than a swap.
        match self.0.each_ref().map(|word| word.load(Ordering::Relaxed)) {
            [0, 0] => Sgis::NONE,
            // An SGI of each word may come meanwhile, with a kick of its own.
            [low, high] => {
                Sgis(u128::from(self.swap(1, high)) << 64 | u128::from(self.swap(0, low)))
            }
        }
    }

    /// Empties word `n`, which was `found` just now, and returns what was in it.
    #[inline(always)]
    fn swap(&self, n: usize, found: u64) -> u64 {
        if found == 0 { 0 } else { self.0[n].swap(0, Ordering::Acquire) }
    }
}
