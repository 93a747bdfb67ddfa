//! An entry of the catalog, and the checkpoint that it is about: [`encode`], [`decode`].

use crate::catalog::{Checkpoint, Location, valid_name};
use crate::error::Error;
use crate::layout::{
    BLOCK, Entry, EntryExtent, KINDS_IN_ENTRIES, MAPS_IN_ENTRIES, MAX_LEVEL, MapEntry, NAME_LEN,
    SETS_BY_NAME,
};
use crate::map::{Node, NodeRef};
use crate::set::Member;
use crate::space::{Extent, Extents};
use crate::volume::InstantsRef;
use arrayvec::ArrayString;
use core::fmt::{Debug, Display};
use core::num::NonZeroU32;
use core::ops::Range;
use zerocopy::{FromZeros, transmute};

/// Returns the entry of a checkpoint, of the kind that `sets` says.
pub(crate) fn encode(checkpoint: &Checkpoint, sets: u32) -> Entry {
    let mut entry = Entry::new_zeroed();
    entry.number = checkpoint.number.into();
    entry.length = checkpoint.length.into();
    entry.created = checkpoint.created.into();
    entry.pages = checkpoint.pages.map_or(0, NonZeroU32::get).into();
    if let Some(member) = checkpoint.member.filter(|_| sets != SETS_BY_NAME) {
        (entry.set_index, entry.set_count) = (member.index, member.count);
    }
    entry.name[..checkpoint.name.len()].copy_from_slice(checkpoint.name.as_bytes());
    match &checkpoint.place {
        Location::Extents(extents) => {
            // At most MAX_EXTENTS.
            entry.extent_count = extents.len() as u8;
            for (stored, extent) in entry.extents.iter_mut().zip(extents) {
                *stored = EntryExtent { first: extent.first.into(), blocks: extent.blocks.into() };
            }
            entry
        }
        Location::Map(root) => {
            let mut entry: MapEntry = transmute!(entry);
            (entry.identity, entry.parent) = (checkpoint.identity, checkpoint.parent);
            set_root(&mut entry, *root);
            if let Some(InstantsRef { block, crc, count }) = checkpoint.instants {
                (entry.instants, entry.instants_crc) = (block.into(), crc.into());
                entry.instants_count = count.into();
            }
            transmute!(entry)
        }
    }
}

/// Makes an entry say where the root of its map is.
pub(crate) fn set_root(entry: &mut MapEntry, root: Option<NodeRef>) {
    if let Some(NodeRef { block, crc, count, level }) = root {
        (entry.root, entry.root_crc) = (block.into(), crc.into());
        (entry.root_count, entry.root_level) = (count.into(), level);
    }
}

/// Returns the checkpoint that an entry of the kind `sets` is about, if it keeps every rule. `next`
/// is the number that was not given out yet, `data` are the blocks that contents and maps may stand
/// in.
pub(crate) fn decode<E: Display + Debug>(
    entry: &Entry,
    sets: u32,
    next: u64,
    data: &Range<u32>,
) -> Result<Checkpoint, Error<E>> {
    let number = entry.number.get();
    if number == 0 || number >= next {
        return Err(Error::NumberNotIssued { number, next });
    }
    let name = stored_name(&entry.name).ok_or(Error::StoredNameInvalid { number })?;
    let member = check_member(entry, sets, next)?;
    let length = entry.length.get();
    let (created, pages) = (entry.created.get(), NonZeroU32::new(entry.pages.get()));
    let (mut identity, mut parent, mut instants) = ([0; 16], [0; 16], None);
    let place = if sets == MAPS_IN_ENTRIES || sets == KINDS_IN_ENTRIES {
        let entry: MapEntry = transmute!(*entry);
        (identity, parent) = (entry.identity, entry.parent);
        if sets == KINDS_IN_ENTRIES {
            instants = InstantsRef::of(&entry, data)?;
        }
        Location::Map(check_root(&entry, data)?)
    } else {
        let (extents, blocks) = check_extents(entry, data)?;
        if length.div_ceil(BLOCK as u64) != blocks {
            return Err(Error::LengthMismatch { number, length, blocks });
        }
        Location::Extents(extents)
    };
    Ok(Checkpoint {
        number,
        name,
        length,
        created,
        pages,
        member,
        identity,
        parent,
        instants,
        place,
    })
}

/// The root of a checkpoint's map.
fn check_root<E: Display + Debug>(
    entry: &MapEntry,
    data: &Range<u32>,
) -> Result<Option<NodeRef>, Error<E>> {
    let (block, crc, count) = (entry.root.get(), entry.root_crc.get(), entry.root_count.get());
    let (number, length, level) = (entry.number.get(), entry.length.get(), entry.root_level);
    let blocks = length.div_ceil(BLOCK as u64);
    if (blocks, block, crc, count, level) == (0, 0, 0, 0, 0) {
        return Ok(None);
    }
    let root = NodeRef { block, crc, count, level };
    if !can_be_root(&root, data) || !(1..=u32::MAX.into()).contains(&blocks) {
        return Err(Error::RootInvalid { number, length, block, level, count });
    }
    Ok(Some(root))
}

/// Returns whether a root of a map can be there.
pub(crate) fn can_be_root(root: &NodeRef, data: &Range<u32>) -> bool {
    let is_node =
        root.level <= MAX_LEVEL && (1..=Node::most(root.level)).contains(&(root.count as usize));
    is_node && Extent::one(root.block).is_within(data)
}

/// What an entry says of a set. `next` is the number that was not given out yet.
fn check_member<E: Display + Debug>(
    entry: &Entry,
    sets: u32,
    next: u64,
) -> Result<Option<Member>, Error<E>> {
    let number = entry.number.get();
    let Entry { extent_count, set_index: index, set_count: count, reserved, .. } = *entry;
    if sets == SETS_BY_NAME && (index, count, reserved) != (0, 0, 0) {
        // There the number of extents has four bytes.
        let found = u32::from_le_bytes([extent_count, index, count, reserved]);
        return Err(Error::TooManyExtents { number, found });
    }
    if (index, count, reserved) == (0, 0, 0) {
        return Ok(None);
    }
    let first = number.checked_sub(index.into()).filter(|first| *first > 0);
    let all_given_out = first.is_some_and(|first| first.saturating_add(count.into()) <= next);
    if reserved != 0 || count < 2 || index >= count || !all_given_out {
        return Err(Error::MemberInvalid { number, index, count });
    }
    Ok(Some(Member { index, count }))
}

/// The extents of an entry, and their blocks together.
fn check_extents<E: Display + Debug>(
    entry: &Entry,
    data: &Range<u32>,
) -> Result<(Extents, u64), Error<E>> {
    let number = entry.number.get();
    let found = entry.extent_count.into();
    let stored =
        entry.extents.get(..found as usize).ok_or(Error::TooManyExtents { number, found })?;
    let unused = entry.extents.iter().skip(found as usize);
    if unused.into_iter().any(|extent| extent.first.get() != 0 || extent.blocks.get() != 0) {
        return Err(Error::UnusedExtent { number, found });
    }
    let mut extents = Extents::new();
    let mut blocks = 0u64;
    for extent in stored {
        let extent = Extent { first: extent.first.get(), blocks: extent.blocks.get() };
        if !extent.is_within(data) {
            return Err(Error::ExtentOutside {
                number,
                first: extent.first,
                blocks: extent.blocks,
                from: data.start,
                to: data.end,
            });
        }
        blocks += u64::from(extent.blocks);
        extents.push(extent);
    }
    Ok((extents, blocks))
}

/// Returns the name that an entry has, if it is valid.
pub(crate) fn stored_name(bytes: &[u8; NAME_LEN]) -> Option<ArrayString<NAME_LEN>> {
    let len = bytes.iter().position(|&b| b == 0).unwrap_or(NAME_LEN);
    let (name, padding) = bytes.split_at(len);
    if padding.iter().any(|&b| b != 0) {
        return None;
    }
    valid_name(core::str::from_utf8(name).ok()?)
}
