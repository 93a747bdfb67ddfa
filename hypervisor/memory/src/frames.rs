//! Single pages of physical memory for guests that share theirs: the seam [`Frames`].
//!
//! A clone has no memory of its own at first: it shares that of its original, block by block. What
//! either of them writes is copied to a frame before. [`GuestRam`](crate::GuestRam) takes frames
//! and gives them back; `run` has them in a [`Stock`](crate::stock::Stock).

use core::fmt::Debug;
use core::ptr::NonNull;

use crate::stock::NotShared;

/// A source of frames: pages that have one user when they are taken, and are free when the last
/// user has given them back.
///
/// # Safety
///
/// 1. A frame begins at a multiple of a page. It is normal memory, mapped for reading and writing,
///    its physical address is its virtual one, and its provenance is exposed.
/// 2. From [`take`](Self::take) until its last user has given it back, nobody but its users has the
///    frame, and nobody has a reference to it.
/// 3. No instruction cache has anything of a frame that is taken.
pub unsafe trait Frames: Debug + Send + Sync {
    /// Takes a frame, as it is; `None` if there is none.
    fn take(&self) -> Option<NonNull<u8>>;

    /// Notes one more user of a frame, by its address.
    ///
    /// # Errors
    ///
    /// [`NotShared`] if it has as many users as can be counted.
    fn share(&self, frame: u64) -> Result<(), NotShared>;

    /// Returns whether a frame has several users.
    fn is_shared(&self, frame: u64) -> bool;

    /// Takes a frame back from one of its users.
    ///
    /// # Safety
    ///
    /// The caller is a user of the frame, and does not access it any more.
    unsafe fn give_back(&self, frame: u64);

    /// Takes back a block of [`BLOCK_SIZE`](stasis_state::written::BLOCK_SIZE) bytes that the
    /// memory of a guest was made of.
    ///
    /// # Safety
    ///
    /// Nobody accesses the block any more.
    unsafe fn give_back_block(&self, start: u64);
}

/// There is no frame: no memory is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoFrame;
