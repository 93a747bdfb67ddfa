//! Where blocks of contents stand: [`Run`].

use crate::layout::UNIT_BLOCKS;
use crate::space::Extent;
use core::ops::Range;

/// Blocks of contents that follow each other, and where they stand: on the disk one behind the
/// other, or in a packed unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// The first of the blocks on the disk, or the first block of the unit.
    first: u32,
    /// The number of blocks of contents.
    pub blocks: u32,
    /// The place in the unit; `None` if the blocks are not packed.
    pub pack: Option<Pack>,
}

/// A packed unit, and a place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pack {
    /// Blocks that the unit takes on the disk.
    pub len: u8,
    /// Blocks of contents in the unit before the first one that is meant.
    pub skip: u8,
}

impl From<Extent> for Run {
    fn from(Extent { first, blocks }: Extent) -> Self {
        Self { first, blocks, pack: None }
    }
}

impl Run {
    /// Returns the first `blocks` blocks of contents of the unit that stands there.
    pub fn packed(unit: Extent, blocks: u32) -> Self {
        // A unit has fewer blocks than 256.
        Self { first: unit.first, blocks, pack: Some(Pack { len: unit.blocks as u8, skip: 0 }) }
    }

    /// Returns the run that an entry of a leaf is: its `block`, the word behind it, and the number
    /// of blocks that it is about.
    pub fn decode(block: u32, word: u32, blocks: u32) -> Self {
        let [len, skip, ..] = word.to_le_bytes();
        Self { first: block, blocks, pack: (len > 0).then_some(Pack { len, skip }) }
    }

    /// Returns `block` of the entry that is this run, and the word behind it.
    pub fn encode(self) -> (u32, u32) {
        let Pack { len, skip } = self.pack.unwrap_or(Pack { len: 0, skip: 0 });
        (self.first, u32::from_le_bytes([len, skip, 0, 0]))
    }

    /// Returns whether all of it lies within `data`, and within what a unit can have.
    pub fn can_be(&self, data: &Range<u32>) -> bool {
        let fits = self.pack.is_none_or(|Pack { len, skip }| {
            u32::from(len) < UNIT_BLOCKS && self.blocks.saturating_add(skip.into()) <= UNIT_BLOCKS
        });
        fits && self.blocks > 0 && self.on_disk().is_within(data)
    }

    /// Returns the blocks on the disk: all of the unit, if the run is in one.
    pub fn on_disk(&self) -> Extent {
        let blocks = self.pack.map_or(self.blocks, |pack| pack.len.into());
        Extent { first: self.first, blocks }
    }

    /// Returns the run without its first `blocks` blocks, of which it has more.
    #[must_use]
    pub fn skip(self, blocks: u32) -> Self {
        let left = self.blocks - blocks;
        match self.pack {
            None => Self { first: self.first + blocks, blocks: left, pack: None },
            // A unit has 16 blocks at most.
            Some(Pack { len, skip }) => {
                Self { blocks: left, pack: Some(Pack { len, skip: skip + blocks as u8 }), ..self }
            }
        }
    }

    /// Returns the first `blocks` blocks of the run, or all if it has fewer.
    #[must_use]
    pub fn at_most(self, blocks: u32) -> Self {
        Self { blocks: self.blocks.min(blocks), ..self }
    }

    /// Returns whether `next` is what comes behind this run on the disk, or in its unit.
    pub fn goes_on_with(&self, next: &Self) -> bool {
        match (self.pack, next.pack) {
            (None, None) => self.first.checked_add(self.blocks) == Some(next.first),
            (Some(here), Some(there)) => {
                self.on_disk() == next.on_disk()
                    && u32::from(here.skip) + self.blocks == u32::from(there.skip)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: Range<u32> = 48..100;

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let unit = Run::packed(Extent { first: 60, blocks: 5 }, 16).skip(3).at_most(7);
        let plain = Run::from(Extent { first: 70, blocks: 9 });
        for run in [unit, plain] {
            let (block, word) = run.encode();
            assert_eq!(Run::decode(block, word, run.blocks), run);
            assert!(run.can_be(&DATA));
        }
        assert_eq!(unit.on_disk(), Extent { first: 60, blocks: 5 });
        assert_eq!(unit.encode(), (60, 0x0305));
    }

    #[test]
    fn what_no_unit_can_have_is_refused() {
        let refused = [
            (60, 0x10, 1),
            (60, 0x0f05, 2),
            (60, 0x0005, 17),
            (98, 0x0003, 4),
            (60, 0x0005, 0),
            (47, 5, 1),
        ];
        for (block, word, blocks) in refused {
            assert!(!Run::decode(block, word, blocks).can_be(&DATA), "{block} {word:#x} {blocks}");
        }
        assert!(Run::decode(60, 0x0f05, 1).can_be(&DATA));
    }

    #[test]
    fn parts_of_a_unit_join_only_in_their_order() {
        let unit = Run::packed(Extent { first: 60, blocks: 5 }, 16);
        let (one, two) = (unit.at_most(4), unit.skip(4));
        assert!(one.goes_on_with(&two) && !two.goes_on_with(&one));
        assert!(!one.goes_on_with(&unit.skip(5)));
        assert!(!one.goes_on_with(&Extent { first: 64, blocks: 1 }.into()));
        let other = Run::packed(Extent { first: 60, blocks: 6 }, 16).skip(4);
        assert!(!one.goes_on_with(&other));
    }
}
