//! Ranges of memory, and the pool that guests' RAM is taken from.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

/// Bytes of a page: what stage 2 maps at least, and what a checkpoint stores at once.
pub const PAGE_SIZE: u64 = 4096;

pub mod range;
