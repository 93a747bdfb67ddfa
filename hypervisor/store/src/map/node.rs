//! A node of a block map: [`NodeRef`], [`Node`].

use crate::layout::{
    BLOCK, ChildEntry, LEAF_BLOCKS, MAX_CHILDREN, MAX_LEVEL, MAX_RUNS, NodeHeader, RunEntry, crc32c,
};
use crate::space::Extent;
use alloc::vec::Vec;
use core::ops::Range;
use zerocopy::{FromBytes, IntoBytes};

/// What is known of a node before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeRef {
    /// The block that it stands in.
    pub block: u32,
    /// The CRC-32C of that block.
    pub crc: u32,
    /// How many entries it has.
    pub count: u32,
    /// How many levels of nodes are below it.
    pub level: u8,
}

/// A node that keeps every rule.
#[derive(Debug)]
pub(crate) struct Node {
    bytes: Vec<u8>,
    level: u8,
    count: usize,
    blocks: u32,
}

impl Node {
    /// Returns the most entries that a node of this level has.
    pub fn most(level: u8) -> usize {
        if level == 0 { MAX_RUNS } else { MAX_CHILDREN }
    }

    /// Returns the most blocks that a node of this level maps in a volume's map, where each but the last has as many.
    pub const fn width(level: u8) -> u64 {
        LEAF_BLOCKS as u64 * (MAX_CHILDREN as u64).pow(level as u32)
    }

    /// Returns the node that stands in a block, if it is the one that is expected, has `blocks` blocks of contents, and keeps every rule of a map: of one that
    /// `is_sparse`, if it is a volume's. `data` are the blocks that contents and maps may stand in.
    pub fn check(
        bytes: Vec<u8>,
        of: &NodeRef,
        blocks: u32,
        data: &Range<u32>,
        is_sparse: bool,
    ) -> Option<Self> {
        let (header, _) = NodeHeader::read_from_prefix(&bytes).ok()?;
        let NodeHeader { magic, level, reserved, count, .. } = header;
        let count = usize::from(count.get());
        let is_it = magic == NodeHeader::MAGIC
            && (level, count) == (of.level, of.count as usize)
            && header.blocks.get() == blocks
            && (reserved, header.reserved_end.get()) == (0, 0)
            && (1..=Self::most(level)).contains(&count)
            && level <= MAX_LEVEL;
        if !is_it || bytes.len() != BLOCK || crc32c(&bytes) != of.crc {
            return None;
        }
        let node = Self { bytes, level, count, blocks };
        let mut expected = 0;
        for nth in 0..count {
            let span = node.span(nth);
            // The first one begins at 0, each has a block at least, and the last one ends where the node does.
            let begins = nth > 0 || span.start == 0;
            let is_hole = is_sparse && node.is_hole(nth);
            let has_place = !is_sparse || node.has_place(nth);
            if !(is_hole || node.entry_stands(nth, data))
                || !has_place
                || !begins
                || span.start != expected
                || span.is_empty()
            {
                return None;
            }
            expected = span.end;
        }
        (expected == blocks).then_some(node)
    }

    /// Returns whether what an entry refers to can stand where the entry says.
    fn entry_stands(&self, nth: usize, data: &Range<u32>) -> bool {
        if self.level == 0 {
            return self.run(nth).is_within(data);
        }
        let child = self.child(nth);
        let can_be = (1..=Self::most(child.level)).contains(&(child.count as usize));
        can_be && Extent::one(child.block).is_within(data)
    }

    /// Returns whether an entry is about the blocks that it must be about in a volume's map.
    fn has_place(&self, nth: usize) -> bool {
        let Some(below) = self.level.checked_sub(1) else { return true };
        u64::from(self.span(nth).start) == nth as u64 * Self::width(below)
            && self.span(nth).len() as u64 <= Self::width(below)
    }

    /// Returns whether an entry says that its blocks are zeros and stand nowhere.
    pub fn is_hole(&self, nth: usize) -> bool {
        let fields = if self.level == 0 { 2 } else { 4 };
        (1..fields).all(|field| self.field(nth, field) == 0)
    }

    /// Returns the bytes of a node of `blocks` blocks of contents with these entries, of which `at` counts from the node's beginning.
    pub fn encode(level: u8, blocks: u32, entries: &[ChildEntry]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BLOCK);
        let header = NodeHeader {
            magic: NodeHeader::MAGIC,
            level,
            reserved: 0,
            // At most MAX_RUNS.
            count: (entries.len() as u16).into(),
            blocks: blocks.into(),
            reserved_end: 0.into(),
        };
        bytes.extend_from_slice(header.as_bytes());
        let entry_len = Self::entry_len(level);
        // A run is what an entry begins with.
        entries.iter().for_each(|entry| bytes.extend_from_slice(&entry.as_bytes()[..entry_len]));
        bytes.resize(BLOCK, 0);
        bytes
    }

    const fn entry_len(level: u8) -> usize {
        if level == 0 { size_of::<RunEntry>() } else { size_of::<ChildEntry>() }
    }

    /// The 32-bit field with this index of an entry.
    fn field(&self, nth: usize, field: usize) -> u32 {
        let at = size_of::<NodeHeader>() + nth * Self::entry_len(self.level) + field * 4;
        self.bytes[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    /// Returns the number of blocks of contents.
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Returns the number of entries.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Returns the blocks of contents that an entry is about, counted from where the node begins.
    pub fn span(&self, nth: usize) -> Range<u32> {
        let is_last = nth + 1 == self.count;
        self.field(nth, 0)..if is_last { self.blocks } else { self.field(nth + 1, 0) }
    }

    /// Returns the index of the entry that is about a block of contents, counted from where the node begins.
    pub fn index_of(&self, at: u32) -> usize {
        let (mut low, mut high) = (0, self.count);
        while high - low > 1 {
            let middle = low.midpoint(high);
            if self.field(middle, 0) <= at { low = middle } else { high = middle }
        }
        low
    }

    /// Returns the run that an entry of a leaf is.
    pub fn run(&self, nth: usize) -> Extent {
        let span = self.span(nth);
        Extent { first: self.field(nth, 1), blocks: span.end.saturating_sub(span.start) }
    }

    /// Returns the node that an entry of another node refers to.
    pub fn child(&self, nth: usize) -> NodeRef {
        let [block, crc, count] = [1, 2, 3].map(|field| self.field(nth, field));
        NodeRef { block, crc, count, level: self.level.saturating_sub(1) }
    }
}

const _: () =
    assert!(core::mem::offset_of!(ChildEntry, block) == core::mem::offset_of!(RunEntry, block));
