//! Which nodes of maps were read already: [`SeenNodes`], a table whose memory is bounded.
//!
//! A node that is in several maps need not be read for each of them. Whether it was read is remembered here and nowhere else: a block that is taken
//! may be in a part of a [`BlockSet`](crate::blockset::BlockSet) for which there was no memory, or in a run of a forged map. A node that can't be remembered is read again wherever it is
//! referred to, [`MAX_REPEATED`] times in all.

use super::NodeRef;
use alloc::vec::Vec;

/// Slots of the table, at most: 512 KiB.
const MAX_SLOTS: usize = 1 << 16;
/// Slots of the table when it gets its first node.
const MIN_SLOTS: usize = 1 << 8;
/// Nodes that are read and not remembered, at most: 1 GiB, which takes seconds.
pub(crate) const MAX_REPEATED: u32 = 1 << 18;

/// A slot without a node. No node stands in block 0.
const FREE: u64 = 0;

/// A set of nodes, each with all that was expected of it: of two that differ in that and stand in one block, one at most is not damaged.
#[derive(Debug, Default)]
pub(crate) struct SeenNodes {
    /// A power of two of slots, a quarter of them free; none before the first node.
    slots: Vec<u64>,
    count: usize,
    /// Nodes that were read and not remembered.
    repeated: u32,
}

impl SeenNodes {
    /// Returns whether this node, of `blocks` blocks of contents, is remembered.
    pub fn has(&self, node: &NodeRef, blocks: u32) -> bool {
        let key = key(node, blocks);
        self.slot_of(key).is_some_and(|slot| self.slots[slot] == key)
    }

    /// Remembers a node that was read and is not damaged, if there is memory for it.
    pub fn insert(&mut self, node: &NodeRef, blocks: u32) {
        if self.count * 4 >= self.slots.len() * 3 && !self.grow() {
            return self.note_repeated();
        }
        self.put(key(node, blocks));
    }

    /// Notes that a node was read and will be read again where it is met again.
    pub fn note_repeated(&mut self) {
        self.repeated = self.repeated.saturating_add(1);
    }

    /// Returns whether so many nodes were read without being remembered that no more should be.
    pub fn is_exhausted(&self) -> bool {
        self.repeated >= MAX_REPEATED
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
fn key(node: &NodeRef, blocks: u32) -> u64 {
    let expected = node.crc ^ blocks.rotate_left(16) ^ (node.count << 2) ^ u32::from(node.level);
    u64::from(node.block) << 32 | u64::from(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(block: u32) -> NodeRef {
        NodeRef { block, crc: block ^ 0x5555, count: 3, level: 0 }
    }

    #[test]
    fn a_node_is_seen_only_as_what_was_read() {
        let mut seen = SeenNodes::default();
        assert!(!seen.has(&node(50), 5));
        seen.insert(&node(50), 5);
        assert!(seen.has(&node(50), 5));
        assert!(!seen.has(&node(50), 6) && !seen.has(&node(51), 5));
        let others = [NodeRef { crc: 7, ..node(50) }, NodeRef { count: 4, ..node(50) }, node(0)];
        assert!(others.iter().all(|other| !seen.has(other, 5)));
    }

    #[test]
    fn a_full_table_remembers_what_it_has_and_counts_the_rest() {
        let mut seen = SeenNodes::default();
        let all = || (48..).take(MAX_SLOTS).map(node);
        all().for_each(|node| seen.insert(&node, 1));
        let remembered = all().filter(|node| seen.has(node, 1)).count();
        assert_eq!((remembered, seen.slots.len()), (MAX_SLOTS / 4 * 3, MAX_SLOTS));
        assert_eq!(seen.repeated as usize, MAX_SLOTS / 4);
        assert!(!seen.is_exhausted());
        (0..MAX_REPEATED).for_each(|_| seen.note_repeated());
        assert!(seen.is_exhausted());
    }
}
