//! The two slots of the catalog, as they stand on the device: [`Content`], and the [`Image`] of a
//! catalog.
//!
//! A catalog is not written over whatever is there. What an interrupted write has left is destroyed
//! first ([`DESTROYED`]): else its remains and those of the next interrupted write could add up to
//! a catalog that nobody has committed. And of a slot that is known, only the blocks are written
//! that change; for that an entry keeps its place in the slot, wherever its number would sort it.

use crate::block::SECTOR;
use crate::catalog::Checkpoint;
use crate::layout::{BLOCK, CatalogHeader, Entry};
use crate::volume::Volume;
use alloc::vec::Vec;
use core::ops::Range;
use zerocopy::FromBytes;

/// The first sector of a slot that was destroyed. No byte of a header's magic is 0xff, nor could
/// this be any part of an entry.
pub(crate) const DESTROYED: [u8; SECTOR] = [0xff; SECTOR];

/// What stands in a slot.
#[derive(Debug)]
pub(crate) enum Content {
    /// Any mix of catalogs: a write was cut short, or failed, or somebody wrote nonsense. Also a
    /// catalog, for all we know.
    Unknown,
    /// No catalog, for sure and for good.
    Destroyed,
    /// A catalog: its bytes, and the checkpoints and volumes in it.
    Catalog(Image, Vec<Checkpoint>, Vec<Volume>),
}

impl Content {
    /// Returns the checkpoints that a catalog in the slot refers to. Of [`Content::Unknown`] nobody
    /// knows them.
    pub fn checkpoints(&self) -> &[Checkpoint] {
        match self {
            Self::Catalog(_, checkpoints, _) => checkpoints,
            Self::Unknown | Self::Destroyed => &[],
        }
    }

    /// Returns the volumes that a catalog in the slot refers to.
    pub fn volumes(&self) -> &[Volume] {
        match self {
            Self::Catalog(_, _, volumes) => volumes,
            Self::Unknown | Self::Destroyed => &[],
        }
    }

    /// Returns the catalog in the slot, if it is known.
    pub fn image(&self) -> Option<&Image> {
        match self {
            Self::Catalog(image, ..) => Some(image),
            Self::Unknown | Self::Destroyed => None,
        }
    }
}

/// The bytes of a catalog that keeps every rule, to a whole number of sectors.
#[derive(Debug)]
pub(crate) struct Image(Vec<u8>);

impl Image {
    /// Takes what was encoded, or was read and found good.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Returns all bytes of the image.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the entries, in their places.
    pub fn entries(&self) -> &[Entry] {
        CatalogHeader::ref_from_prefix(&self.0)
            .ok()
            .and_then(|(header, rest)| {
                <[Entry]>::ref_from_prefix_with_elems(rest, header.count.get() as usize).ok()
            })
            .map_or(&[], |(entries, _)| entries)
    }

    /// Returns the runs of bytes, in whole blocks as far as it has them, that differ from `before`.
    pub fn changes(&self, before: Option<&Self>) -> Vec<Range<usize>> {
        let before = before.map_or(&[][..], Self::bytes);
        let mut runs: Vec<Range<usize>> = Vec::new();
        for start in (0..self.0.len()).step_by(BLOCK) {
            let block = start..self.0.len().min(start + BLOCK);
            if before.get(block.clone()) == self.0.get(block.clone()) {
                continue;
            }
            match runs.last_mut() {
                Some(last) if last.end == block.start => last.end = block.end,
                _ => runs.push(block),
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn only_the_blocks_that_change_are_written() {
        let old = Image::new(vec![1; 4 * BLOCK]);
        let mut bytes = vec![1; 4 * BLOCK + SECTOR];
        bytes[BLOCK] = 2;
        bytes[3 * BLOCK - 1] = 2;
        let new = Image::new(bytes);
        assert_eq!(new.changes(Some(&old)), [BLOCK..3 * BLOCK, 4 * BLOCK..4 * BLOCK + SECTOR]);
        assert_eq!(new.changes(None), [Range { start: 0, end: 4 * BLOCK + SECTOR }]);
        assert_eq!(old.changes(Some(&new)), [Range { start: BLOCK, end: 3 * BLOCK }]);
    }
}
