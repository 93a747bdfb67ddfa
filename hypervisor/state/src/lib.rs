//! The format of a guest's saved state. `docs/format.md` specifies it.
//!
//! - [`register`]: a register in memory and in the file, and [`record!`], which declares a record.
//! - [`vgic`], [`vcpu`], [`guest`], [`device`], [`virtio`]: the records; [`devices`]: which devices
//!   there are; [`records`]: a guest's together.
//! - [`machine`]: where the guest has which devices.
//! - [`name`]: what guests and what they share can be called.
//! - [`header`], [`envelope`], [`memory`]: what is around them in the file.
//! - [`block`], [`directory`], [`index`]: a guest's memory in the file, by blocks, and how one page
//!   is found.
//! - [`capture`]: [`Capture`] writes a checkpoint in one pass.
//! - [`writer`]: [`Sink`], what it is written to.
//! - [`reader`]: [`read`], [`read_if`] and [`read_memory`] read one from a [`Source`].
//! - [`pages`]: [`Extents`] goes over a checkpoint's memory without the room for all of it.
//! - [`peek`]: [`read_name`] tells whose a checkpoint is.
//! - [`invariants`], [`warnings`], [`compatible`]: what a state, and a host, must be.
//! - [`written`]: where RAM may hold anything but zeros; [`change`]: what of it has changed since
//!   an earlier checkpoint.
//! - [`ram`]: a guest's memory, as the reader and the writer need it.
//! - [`timer`]: what follows from the registers of the guest's timers and its counter.
//! - [`routines`]: CRC-32C, replaceable by a faster one, and the search for zero pages.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod block;
pub mod capture;
pub mod change;
pub mod compatible;
mod decode;
pub mod device;
pub mod devices;
pub mod directory;
pub mod envelope;
pub mod error;
pub mod guest;
pub mod header;
pub mod index;
mod input;
pub mod invariants;
pub mod machine;
pub mod memory;
pub mod name;
pub mod pages;
pub mod peek;
pub mod ram;
pub mod reader;
pub mod records;
pub mod register;
pub mod routines;
pub mod timer;
pub mod vcpu;
pub mod vgic;
pub mod virtio;
mod walk;
pub mod warnings;
pub mod writer;
pub mod written;

pub use block::{Block, Content};
pub use capture::Capture;
pub use change::{Baseline, BlockChange, PageBits};
pub use compatible::HostFacts;
pub use envelope::{RecordHeader, RecordType};
pub use error::{Error, LoadError, SaveError};
pub use index::{Index, PageContent, Piece};
pub use input::Source;
pub use pages::Extents;
pub use peek::read_name;
pub use ram::{OutOfRange, ReadRam, WriteRam};
pub use reader::{Checkpoint, Skipped, Target, read, read_if, read_memory};
pub use records::{GuestState, Records, VcpuRecords, VcpuState};
pub use register::{Record, RegHeader};
pub use routines::{PAGE_SIZE, Routines};
pub use writer::{Sharing, Sink, Stats};
pub use written::Written;
