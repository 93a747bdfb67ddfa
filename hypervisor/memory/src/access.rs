//! What devices and loaders get of a guest's memory: [`GuestMemory`].
//!
//! Bytes are read and written by [`ReadRam`] and [`WriteRam`]. What guest and device tell each
//! other through memory, such as the index of a virtqueue, needs one access of the right width, in
//! order with the others: that is what this trait adds.

use core::fmt::{self, Debug};
use core::ops::Range;
use stasis_state::{OutOfRange, ReadRam, WriteRam};

/// Why memory was not accessed. It was the guest that said where, so this is no fault of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// The access lies outside of the memory.
    #[error(transparent)]
    OutOfRange(#[from] OutOfRange),
    /// The access is not at a multiple of its width.
    #[error("offset {offset:#x} is no multiple of {width}")]
    Misaligned {
        /// Offset from the start of the memory.
        offset: usize,
        /// Bytes of the access.
        width: usize,
    },
}

impl Debug for dyn GuestMemory + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

/// A guest's memory, which its vCPUs may access at the same time. Offsets are bytes from its start;
/// numbers are little-endian.
///
/// Each load and store is one access of its width. A load sees all that was stored before what it
/// finds, a store shows all that was done before it, and a load is not exchanged with a store
/// before it: of the two sides that each store to a place of their own and then load the other's,
/// one finds what the other has stored. So a queue needs no barrier besides.
///
/// # Errors
///
/// [`AccessError`], if the bytes are not all in the memory, or the offset is no multiple of the
/// width. Nothing is accessed then.
pub trait GuestMemory: ReadRam + WriteRam {
    /// Returns whether a write was refused because no frame is free for its page, which is shared
    /// copy on write. It can be made when the guest has waited for one.
    fn lacks_frame(&self) -> bool {
        false
    }

    /// Asks for those of these bytes that are still to be [loaded](crate::missing), or for some of
    /// them if they are many. Returns whether any are: an access to those was refused. It can be
    /// made when the guest has waited for them. Bytes that are not in the memory are no such ones.
    fn ask_for(&self, _: Range<usize>) -> bool {
        false
    }

    /// Returns the number of 16 bits at `offset`.
    fn load_u16(&self, offset: usize) -> Result<u16, AccessError>;

    /// Returns the number of 32 bits at `offset`.
    fn load_u32(&self, offset: usize) -> Result<u32, AccessError>;

    /// Returns the number of 64 bits at `offset`.
    fn load_u64(&self, offset: usize) -> Result<u64, AccessError>;

    /// Makes `value` the number of 16 bits at `offset`.
    fn store_u16(&mut self, offset: usize, value: u16) -> Result<(), AccessError>;

    /// Makes `value` the number of 32 bits at `offset`.
    fn store_u32(&mut self, offset: usize, value: u32) -> Result<(), AccessError>;

    /// Makes `value` the number of 64 bits at `offset`.
    fn store_u64(&mut self, offset: usize, value: u64) -> Result<(), AccessError>;
}
