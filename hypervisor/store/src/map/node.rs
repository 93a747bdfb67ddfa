//! A node of a block map: [`NodeRef`], [`Node`].

use super::Run;
use crate::layout::{
    BLOCK, ChildEntry, LEAF_BLOCKS, MAX_CHILDREN, MAX_LEVEL, MAX_PACKED_RUNS, MAX_RUNS, NodeHeader,
    PACKED_RUNS, PackedEntry, RUNS, RunEntry, UNIT_BLOCKS,
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
    /// Of a leaf, what its entries are.
    kind: u8,
    count: usize,
    blocks: u32,
}

impl Node {
    /// Returns the most entries that a node of this level has.
    pub fn most(level: u8) -> usize {
        Self::most_of(level, RUNS)
    }

    /// Returns the most entries that a node of this level and kind has.
    const fn most_of(level: u8, kind: u8) -> usize {
        match (level, kind) {
            (0, RUNS) => MAX_RUNS,
            (0, _) => MAX_PACKED_RUNS,
            _ => MAX_CHILDREN,
        }
    }

    /// Returns the most blocks that a node of this level maps in a volume's map, where each but the
    /// last has as many.
    pub const fn width(level: u8) -> u64 {
        LEAF_BLOCKS as u64 * (MAX_CHILDREN as u64).pow(level as u32)
    }

    /// Returns the node that stands in a block, if it is the one that is expected, has `blocks`
    /// blocks of contents, and keeps every rule of a map: of one that `is_sparse`, if it is a
    /// volume's. `data` are the blocks that contents and maps may stand in.
    pub fn check(
        bytes: Vec<u8>,
        of: &NodeRef,
        blocks: u32,
        data: &Range<u32>,
        is_sparse: bool,
    ) -> Option<Self> {
        let (header, _) = NodeHeader::read_from_prefix(&bytes).ok()?;
        let NodeHeader { magic, level, kind, count, .. } = header;
        let count = usize::from(count.get());
        let is_it = magic == NodeHeader::MAGIC
            && (level, count) == (of.level, of.count as usize)
            && header.blocks.get() == blocks
            && header.reserved_end.get() == 0
            && (kind == RUNS || kind == PACKED_RUNS && level == 0 && !is_sparse)
            && (1..=Self::most_of(level, kind)).contains(&count)
            && level <= MAX_LEVEL;
        if !is_it || bytes.len() != BLOCK {
            return None;
        }
        let node = Self { bytes, level, kind, count, blocks };
        let mut expected = 0;
        for nth in 0..count {
            let span = node.span(nth);
            // The first one begins at 0, each has a block at least, and the last one ends where the
            // node does.
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
            return self.run(nth).can_be(data) && self.run(nth).encode().1 == self.word(nth);
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

    /// Returns the bytes of a node of `blocks` blocks of contents with these entries, of which `at`
    /// counts from the node's beginning.
    pub fn encode(level: u8, blocks: u32, entries: &[ChildEntry]) -> Vec<u8> {
        Self::encode_as(level, RUNS, blocks, entries)
    }

    /// Returns the bytes of a leaf whose runs may be packed. `crc` of an entry is the word of its
    /// [`Run`].
    pub fn encode_packed(blocks: u32, entries: &[ChildEntry]) -> Vec<u8> {
        Self::encode_as(0, PACKED_RUNS, blocks, entries)
    }

    fn encode_as(level: u8, kind: u8, blocks: u32, entries: &[ChildEntry]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BLOCK);
        let header = NodeHeader {
            magic: NodeHeader::MAGIC,
            level,
            kind,
            // At most MAX_RUNS.
            count: (entries.len() as u16).into(),
            blocks: blocks.into(),
            reserved_end: 0.into(),
        };
        bytes.extend_from_slice(header.as_bytes());
        let entry_len = Self::entry_len(level, kind);
        // A run, packed or not, is what an entry begins with.
        entries.iter().for_each(|entry| bytes.extend_from_slice(&entry.as_bytes()[..entry_len]));
        bytes.resize(BLOCK, 0);
        bytes
    }

    const fn entry_len(level: u8, kind: u8) -> usize {
        match (level, kind) {
            (0, RUNS) => size_of::<RunEntry>(),
            (0, _) => size_of::<PackedEntry>(),
            _ => size_of::<ChildEntry>(),
        }
    }

    /// The 32-bit field with this index of an entry.
    fn field(&self, nth: usize, field: usize) -> u32 {
        let at = size_of::<NodeHeader>() + nth * Self::entry_len(self.level, self.kind) + field * 4;
        self.bytes[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    /// Returns the number of blocks of contents.
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Returns whether its entries may be in packed units.
    pub fn is_packed(&self) -> bool {
        self.kind == PACKED_RUNS
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

    /// Returns the index of the entry that is about a block of contents, counted from where the
    /// node begins.
    pub fn index_of(&self, at: u32) -> usize {
        let (mut low, mut high) = (0, self.count);
        while high - low > 1 {
            let middle = low.midpoint(high);
            if self.field(middle, 0) <= at { low = middle } else { high = middle }
        }
        low
    }

    /// Returns the run that an entry of a leaf is.
    pub fn run(&self, nth: usize) -> Run {
        let span = self.span(nth);
        Run::decode(self.field(nth, 1), self.word(nth), span.end.saturating_sub(span.start))
    }

    /// Returns what an entry of a leaf says of a packed unit; 0 if none does.
    fn word(&self, nth: usize) -> u32 {
        if self.is_packed() { self.field(nth, 2) } else { 0 }
    }

    /// Returns whether an entry of a leaf is about a packed unit that one close before it is about,
    /// too: a unit of which some blocks were replaced.
    pub fn is_again(&self, nth: usize) -> bool {
        let run = self.run(nth);
        let close = nth.saturating_sub(2 * UNIT_BLOCKS as usize)..nth;
        run.pack.is_some() && close.rev().any(|before| self.run(before).on_disk() == run.on_disk())
    }

    /// Returns the node that an entry of another node refers to.
    pub fn child(&self, nth: usize) -> NodeRef {
        let [block, crc, count] = [1, 2, 3].map(|field| self.field(nth, field));
        NodeRef { block, crc, count, level: self.level.saturating_sub(1) }
    }
}

const _: () = {
    use core::mem::offset_of;
    assert!(offset_of!(ChildEntry, block) == offset_of!(RunEntry, block));
    assert!(offset_of!(ChildEntry, block) == offset_of!(PackedEntry, block));
    assert!(offset_of!(ChildEntry, crc) == offset_of!(PackedEntry, unit_blocks));
};
