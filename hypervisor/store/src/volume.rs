//! Volumes: disks of guests, which stand in the store beside the checkpoints and share blocks with
//! them.
//!
//! - [`Volume`] is what the catalog says of one, [`Instant`] one as it was at the instant of a
//!   checkpoint.
//! - [`Volumes`] reads and writes them. What was written is in the store with the next flush of the
//!   volume, all of it or nothing.
//! - `map` is the map of a volume in use: where each of its blocks stands; `table` a part of it.
//!   `load` reads what is needed of it, within one bound of memory for all volumes, and `seal`
//!   writes what has changed.
//! - `zero` makes parts of volumes zeros, which take no room; `lost` sees to it that no flush says
//!   of lost writes that they are in the store; `late` has writes that were completed before the
//!   store has them.
//! - `manage` creates, copies, deletes and brings back volumes; `instants` is what a checkpoint has
//!   of them.
//!
//! A block that a committed map refers to is never written, as in the rest of the store. So what is
//! written to a volume goes to free blocks, and only its own map in memory refers to them until a
//! flush: those blocks can be written again in their places. What power failure leaves is the
//! volume as of a flush.

mod access;
mod instants;
mod late;
mod load;
mod lost;
mod manage;
mod map;
mod recovered;
mod seal;
mod table;
mod zero;

pub use access::Volumes;
pub use instants::Instant;
pub(crate) use instants::{InstantsRef, Taken};
pub use late::{Late, LateWrites, MOST_LATE};
pub use manage::{Before, Source};
pub(crate) use map::Open;
pub use recovered::{MOST_RECOVERED, SetAside, set_aside};

use crate::entry::{can_be_root, set_root, stored_name};
use crate::error::{Error, VolumeFault};
use crate::layout::{BLOCK, Entry, KIND_VOLUME, MAX_VOLUME_BLOCKS, MapEntry, NAME_LEN};
use crate::map::{Node, NodeRef};
use alloc::string::{String, ToString};
use arrayvec::ArrayString;
use core::fmt::{Debug, Display};
use core::ops::Range;
use zerocopy::{FromZeros, transmute};

/// The name of a volume.
pub type Name = ArrayString<NAME_LEN>;

/// A volume in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// The name. No other volume has it.
    pub name: Name,
    /// Length in bytes, a multiple of 4096.
    pub length: u64,
    /// When it was created: seconds since 1970, or 0 where the host has no clock.
    pub created: u64,
    /// The root of its map; `None` if all of it is zeros.
    pub(crate) root: Option<NodeRef>,
}

impl Volume {
    /// Returns how many blocks it has.
    pub(crate) fn blocks(&self) -> u32 {
        // Checked when it was read, and when it was created.
        (self.length / BLOCK as u64) as u32
    }

    /// Returns its entry.
    pub(crate) fn encode(&self) -> Entry {
        let mut entry = MapEntry::new_zeroed();
        entry.kind = KIND_VOLUME;
        entry.length = self.length.into();
        entry.created = self.created.into();
        entry.name[..self.name.len()].copy_from_slice(self.name.as_bytes());
        set_root(&mut entry, self.root);
        transmute!(entry)
    }

    /// Returns the volume that an entry is about, if it keeps every rule. `data` are the blocks
    /// that contents and maps may stand in.
    pub(crate) fn decode<E: Display + Debug>(
        entry: &Entry,
        data: &Range<u32>,
    ) -> Result<Self, Error<E>> {
        let entry: MapEntry = transmute!(*entry);
        let text = String::from_utf8_lossy(&entry.name);
        let invalid = || {
            Error::Volume(VolumeFault::Invalid { name: text.trim_end_matches('\0').to_string() })
        };
        let name = stored_name(&entry.name).ok_or_else(invalid)?;
        let length = entry.length.get();
        let root = root_of(&entry, length, data).ok_or_else(invalid)?;
        let unused = (entry.number.get(), entry.pages.get(), entry.instants.get());
        if unused != (0, 0, 0) || (entry.set_index, entry.set_count) != (0, 0) {
            return Err(invalid());
        }
        Ok(Self { name, length, created: entry.created.get(), root })
    }
}

/// Returns whether an entry is a volume's.
pub(crate) fn is_volume(entry: &Entry) -> bool {
    let entry: MapEntry = transmute!(*entry);
    entry.kind == KIND_VOLUME
}

/// Returns the root that an entry of a volume says, or `Some(None)` if all of the volume is zeros;
/// `None` if length and root break a rule.
fn root_of(entry: &MapEntry, length: u64, data: &Range<u32>) -> Option<Option<NodeRef>> {
    let root = NodeRef {
        block: entry.root.get(),
        crc: entry.root_crc.get(),
        count: entry.root_count.get(),
        level: entry.root_level,
    };
    check_root(root, length, data)
}

/// Returns a root as it is said on the disk, or `Some(None)` if it says that all is zeros; `None`
/// if it can't be that of a volume of `length` bytes.
fn check_root(root: NodeRef, length: u64, data: &Range<u32>) -> Option<Option<NodeRef>> {
    let blocks = blocks_of(length)?;
    if (root.block, root.crc, root.count, root.level) == (0, 0, 0, 0) {
        return Some(None);
    }
    (root.level == root_level(blocks) && can_be_root(&root, data)).then_some(Some(root))
}

/// Returns the number of blocks of a volume with this many bytes; `None` if none can have as many.
pub(crate) fn blocks_of(length: u64) -> Option<u32> {
    let blocks = u32::try_from(length / BLOCK as u64).ok()?;
    let is_whole = length.is_multiple_of(BLOCK as u64);
    (is_whole && (1..=MAX_VOLUME_BLOCKS).contains(&blocks)).then_some(blocks)
}

/// Returns the level of the root of the map of a volume with this many blocks: the lowest that will
/// do.
pub(crate) fn root_level(blocks: u32) -> u8 {
    (0..).find(|level| Node::width(*level) >= blocks.into()).unwrap_or(u8::MAX)
}

const _: () = assert!(Node::width(crate::layout::MAX_LEVEL) >= MAX_VOLUME_BLOCKS as u64);
