//! What waits to be offered to a vCPU: all that is pending, enabled and not active, whatever GICD_CTLR says (IHI 0048B.b 4.3.1).
//!
//! GICD_CTLR forwards each of the two groups to the CPU interfaces, or does not. It is a gate behind the
//! queues, one for each group, not before them: so a guest that opens and closes it moves nothing, however much waits.

use crate::queue::{LEVELS, Queue};

/// A group of interrupts that GICD_CTLR can forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Zero,
    One,
}

/// See the module. What it is asked for is about the groups that are forwarded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    groups: [Queue; 2],
    /// Per group all ones, or 0: a mask of levels.
    forwarded: [u32; 2],
}

impl Pending {
    pub(crate) fn new(intids: usize) -> Self {
        Self { groups: [Queue::new(intids), Queue::new(intids)], forwarded: [0; 2] }
    }

    /// Forwards the groups that this GICD_CTLR enables.
    pub(crate) fn forward(&mut self, ctlr: u32) {
        self.forwarded = [ctlr, ctlr >> 1].map(|bit| if bit & 1 != 0 { u32::MAX } else { 0 });
    }

    /// Whether what is inserted into this group is forwarded.
    #[inline]
    pub(crate) fn forwards(&self, group: Group) -> bool {
        self.forwarded[group as usize] != 0
    }

    #[inline]
    pub(crate) fn insert(&mut self, group: Group, level: u8, intid: u16) {
        self.groups[group as usize].insert(level, intid);
    }

    #[inline]
    pub(crate) fn remove(&mut self, group: Group, level: u8, intid: u16) {
        self.groups[group as usize].remove(level, intid);
    }

    #[inline]
    fn levels(&self, group: Group) -> u32 {
        self.groups[group as usize].levels() & self.forwarded[group as usize]
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.best_level() == LEVELS as u32
    }

    /// The level of the best interrupt; [`LEVELS`] if there is none.
    #[inline]
    pub(crate) fn best_level(&self) -> u32 {
        (self.levels(Group::Zero) | self.levels(Group::One)).trailing_zeros()
    }

    /// The best interrupt, with its level.
    #[inline]
    pub(crate) fn first(&self) -> Option<(u8, u16)> {
        self.queue(self.best_group()?).first()
    }

    /// Takes the best interrupt out.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<(u8, u16)> {
        let group = self.best_group()?;
        self.groups[group as usize].pop()
    }

    #[inline]
    fn queue(&self, group: Group) -> &Queue {
        &self.groups[group as usize]
    }

    /// The group of the best interrupt. Of both, mostly one is empty.
    #[inline]
    fn best_group(&self) -> Option<Group> {
        match (self.levels(Group::Zero), self.levels(Group::One)) {
            (0, 0) => None,
            (_, 0) => Some(Group::Zero),
            (0, _) => Some(Group::One),
            _ if self.queue(Group::Zero).first() < self.queue(Group::One).first() => {
                Some(Group::Zero)
            }
            _ => Some(Group::One),
        }
    }
}
