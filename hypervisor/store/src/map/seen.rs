//! Which nodes of maps were read already: [`SeenNodes`], a table whose memory is bounded.
//!
//! A node that is in several maps need not be read for each of them. Whether it was read is
//! remembered here and nowhere else: a block that is taken may be in a part of a
//! [`BlockSet`](crate::blockset::BlockSet) for which there was no memory, or in a run of a forged
//! map. A node that can't be remembered is read again wherever it is referred to, [`MAX_REPEATED`]
//! times in all, and more often in a large store. Half of the table is kept from leaves of volumes:
//! maps of volumes share nodes above them, too, and a volume has a leaf for each 2 MiB.

use super::{Expected, NodeRef};
use alloc::vec::Vec;

/// Slots of the table, at most: 512 KiB.
const MAX_SLOTS: usize = 1 << 16;
/// Slots of the table when it gets its first node.
const MIN_SLOTS: usize = 1 << 8;
/// Nodes that are read and not remembered, at most, in a small store: 1 GiB, which takes seconds.
pub(crate) const MAX_REPEATED: u32 = 1 << 18;
/// Blocks of a store for each of which one node more may be read: a store is read once in 16 at
/// most, and all leaves of a volume of its size 31 times.
const BLOCKS_FOR_ONE: u32 = 16;

/// A slot without a node. No node stands in block 0.
const FREE: u64 = 0;

/// A set of nodes, each with all that was expected of it.
#[derive(Debug)]
pub(crate) struct SeenNodes {
    /// A power of two of slots, a quarter of them free; none before the first node.
    slots: Vec<u64>,
    count: usize,
    /// Nodes that were read and not remembered, and how many may be.
    repeated: u32,
    most_repeated: u32,
}

impl SeenNodes {
    /// Returns an empty set, for the nodes of a store whose contents and maps have this many
    /// blocks.
    pub fn new(blocks: u32) -> Self {
        let most_repeated = MAX_REPEATED + blocks / BLOCKS_FOR_ONE;
        Self { slots: Vec::new(), count: 0, repeated: 0, most_repeated }
    }

    /// Returns whether this node is remembered.
    pub fn has(&self, node: &Expected) -> bool {
        let key = key(node);
        self.slot_of(key).is_some_and(|slot| self.slots[slot] == key)
    }

    /// Remembers a node that was read and is not damaged, if there is memory for it.
    pub fn insert(&mut self, node: &Expected) {
        let is_leaf_of_volume = node.is_sparse && node.node.level == 0;
        let is_kept_from_it = is_leaf_of_volume && self.count >= MAX_SLOTS / 8 * 3;
        if is_kept_from_it || self.count * 4 >= self.slots.len() * 3 && !self.grow() {
            return self.note_repeated();
        }
        self.put(key(node));
    }

    /// Notes that a node was read and will be read again where it is met again.
    pub fn note_repeated(&mut self) {
        self.repeated = self.repeated.saturating_add(1);
    }

    /// Returns whether so many nodes were read without being remembered that no more should be.
    pub fn is_exhausted(&self) -> bool {
        self.repeated >= self.most_repeated
    }

    /// Returns the slot that has `key`, or would get it; `None` if there are no slots.
    fn slot_of(&self, key: u64) -> Option<usize> {
        let last = self.slots.len().checked_sub(1)?;
        let mut slot = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize & last;
        // A quarter of the slots is free, so this ends.
        while self.slots[slot] != FREE && self.slots[slot] != key {
            slot = (slot + 1) & last;
        }
        Some(slot)
    }

    fn put(&mut self, key: u64) {
        if let Some(slot) = self.slot_of(key)
            && self.slots[slot] == FREE
        {
            self.slots[slot] = key;
            self.count += 1;
        }
    }

    /// Doubles the table. Returns whether there was memory for it.
    fn grow(&mut self) -> bool {
        let wanted = (self.slots.len() * 2).max(MIN_SLOTS);
        let mut slots = Vec::new();
        if wanted > MAX_SLOTS || slots.try_reserve_exact(wanted).is_err() {
            return false;
        }
        slots.resize(wanted, FREE);
        self.count = 0;
        let before = core::mem::replace(&mut self.slots, slots);
        before.into_iter().filter(|key| *key != FREE).for_each(|key| self.put(key));
        true
    }
}

/// Returns the block of a node, and 32 bits of what is expected to stand there.
fn key(of: &Expected) -> u64 {
    let Expected { node: NodeRef { block, crc, count, level }, blocks, is_sparse } = *of;
    let kind = u32::from(is_sparse) << 31;
    let expected = crc ^ blocks.rotate_left(16) ^ (count << 2) ^ u32::from(level) ^ kind;
    u64::from(block) << 32 | u64::from(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(block: u32) -> Expected {
        let node = NodeRef { block, crc: block ^ 0x5555, count: 3, level: 0 };
        Expected { node, blocks: 5, is_sparse: false }
    }

    #[test]
    fn a_node_is_seen_only_as_what_was_read() {
        let mut seen = SeenNodes::new(100);
        assert!(!seen.has(&node(50)));
        seen.insert(&node(50));
        assert!(seen.has(&node(50)));
        let other = |as_node| Expected { node: as_node, ..node(50) };
        let others = [
            other(NodeRef { crc: 7, ..node(50).node }),
            other(NodeRef { count: 4, ..node(50).node }),
            Expected { blocks: 6, ..node(50) },
            Expected { is_sparse: true, ..node(50) },
            node(51),
            node(0),
        ];
        assert!(others.iter().all(|other| !seen.has(other)));
    }

    #[test]
    fn a_full_table_remembers_what_it_has_and_counts_the_rest() {
        let mut seen = SeenNodes::new(100);
        let all = || (48..).take(MAX_SLOTS).map(node);
        all().for_each(|node| seen.insert(&node));
        let remembered = all().filter(|node| seen.has(node)).count();
        assert_eq!((remembered, seen.slots.len()), (MAX_SLOTS / 4 * 3, MAX_SLOTS));
        assert_eq!(seen.repeated as usize, MAX_SLOTS / 4);
        assert!(!seen.is_exhausted());
        (0..MAX_REPEATED).for_each(|_| seen.note_repeated());
        assert!(seen.is_exhausted());
    }

    /// A volume of 1 TiB, in the current catalog, in the other one, and as of the instants of eight
    /// checkpoints, of which each has another root and another node below it.
    #[test]
    fn all_maps_of_a_large_volume_are_looked_at() {
        let mut seen = SeenNodes::new(1 << 28);
        let at = |block, level| {
            let node = NodeRef { block, crc: 1, count: 2, level };
            Expected { node, blocks: 7, is_sparse: true }
        };
        let leaves = (1 << 28) / 496;
        for map in 0..10 {
            for upper in 0..leaves / 255 {
                let is_own = upper == map;
                let node = at(leaves + if is_own { leaves + map } else { upper }, 1);
                if seen.has(&node) {
                    continue;
                }
                seen.insert(&node);
                let below = (upper * 255..(upper + 1) * 255).map(|leaf| at(leaf + 48, 0));
                below.for_each(|leaf| {
                    if !seen.has(&leaf) {
                        seen.insert(&leaf);
                    }
                });
            }
        }
        assert!(!seen.is_exhausted());
        assert!(seen.repeated < leaves * 2, "{} nodes were read again", seen.repeated);
    }
}
