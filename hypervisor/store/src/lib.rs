//! Checkpoints on a partition of a block device, kept so that power may fail at any instant.
//!
//! - [`block`]: the seam to a disk, and a disk in memory for tests.
//! - [`partition`]: finds the store's partition, in a [`gpt`] or an [`mbr`].
//! - [`store`]: formats, opens, begins, commits, lists, deletes; [`Writer`] adds a checkpoint,
//!   [`Reader`] reads one.
//! - [`catalog`]: which checkpoints there are and where; [`layout`]: how all that stands on the
//!   disk.
//! - [`set`]: checkpoints of several guests at one instant; [`space`]: runs of blocks.
//! - `map`: which blocks a checkpoint has, some of them shared with others; `free`, over
//!   `blockset`: which blocks nobody has; `shares`: which one alone has.
//! - [`volume`]: disks of guests in the store; [`Volumes`] reads and writes them.
//! - `unit`: compressed contents; `unpacked`: the ones that were read last.
//! - `io`: what is read and written on the device; `buffer`: memory for it; `crc32c`: its
//!   checksums. `entry`, `slots`, `superblock`, `upgrade`: what stands in the catalog's slots, and
//!   how the store gets from one version to the next.
//!
//! `docs/store.md` specifies the layout for whoever wants to write a reader of their own.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod block;
mod blockset;
mod buffer;
pub mod catalog;
mod crc32c;
mod entry;
pub mod error;
mod free;
pub mod gpt;
mod io;
pub mod layout;
mod map;
pub mod mbr;
pub mod partition;
pub mod reader;
pub mod set;
mod shares;
mod slots;
pub mod space;
pub mod store;
mod superblock;
mod unit;
mod unpacked;
mod upgrade;
pub mod volume;
pub mod writer;

pub use block::{BlockDevice, RamDisk, Request, SECTOR};
pub use catalog::{Checkpoint, Identity, Which};
pub use error::{Doing, Error, PartitionFault, VolumeFault};
pub use partition::Partition;
pub use reader::Reader;
pub use set::{Member, Set};
pub use store::{Store, Usage};
pub use superblock::Compression;
pub use volume::{Instant, Volume, Volumes};
pub use writer::Writer;
