//! Guest memory, and the ranges and the pool that it is taken from.
//!
//! - [`ram`]: [`GuestRam`], the owner of a guest's memory, and the only way to it.
//! - [`snapshot`]: [`Snapshot`], the memory as it was at an instant, which a checkpoint reads while
//!   the guest writes.
//! - [`missing`]: [`Missing`], what is not there yet of the memory of a guest that runs already.
//! - [`access`]: [`GuestMemory`], what devices and loaders get of it.
//! - [`machine`]: [`Machine`], the seam to the instructions and the caches of a core, and
//!   [`Portable`], the host's.
//! - `raw`: the memory itself, by its address, behind methods that check what they are asked for.
//! - [`fake`]: [`FakeRam`], memory for tests.
//! - [`pages`]: [`PageSet`](pages::PageSet), which pages of a memory are in a state.
//! - [`frames`]: [`Frames`](frames::Frames), where guests that share their memory get single pages.
//! - [`range`]: ranges of physical memory, and the pool of what is free; [`stock`]: single pages of
//!   it.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

extern crate alloc;

pub mod access;
#[allow(unsafe_code, reason = "its memory is the heap's")]
pub mod fake;
#[allow(unsafe_code, reason = "its implementors say where memory is")]
pub mod frames;
#[allow(unsafe_code, reason = "its methods are told where memory is")]
pub mod machine;
pub mod missing;
pub mod pages;
pub mod ram;
pub mod range;
#[allow(unsafe_code, reason = "memory that guests write can't be a slice")]
mod raw;
pub mod snapshot;
pub mod stock;

pub use access::{AccessError, GuestMemory};
pub use fake::FakeRam;
pub use machine::{Machine, Portable};
pub use missing::Missing;
pub use ram::GuestRam;
pub use snapshot::Snapshot;
pub use stasis_state::{OutOfRange, ReadRam, WriteRam};

/// Bytes of a page: what stage 2 maps at least, and what a checkpoint stores at once.
pub const PAGE_SIZE: u64 = stasis_state::PAGE_SIZE as u64;
