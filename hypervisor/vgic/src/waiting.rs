//! What waits for a vCPU outside its list registers: all that is pending, enabled and not active,
//! whatever GICD_CTLR says (IHI 0048B.b 4.3.1), and what it holds active.
//!
//! GICD_CTLR forwards each of the two groups to the CPU interfaces, or does not. It is a gate
//! behind the queues, one for each group, not before them: so a guest that opens and closes it
//! moves nothing, however much waits.

use crate::queue::{LEVELS, Queue};

/// A queue of a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Pending interrupts of group 0.
    Group0,
    /// Pending interrupts of group 1.
    Group1,
    /// Active interrupts, pending again or not.
    Active,
}

/// The queues of a vCPU. Where a function says "pending", it means the interrupts alone whose group
/// is forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// The queues by their [`Kind`].
    queues: [Queue; 3],
    /// For each queue a mask of levels: all ones, or 0 if nothing of it is forwarded.
    forwarded: [u32; 3],
}

impl Waiting {
    /// Returns empty queues with room for INTIDs below `intids`, of which no group is forwarded.
    pub(crate) fn new(intids: usize) -> Self {
        Self { queues: [0; 3].map(|_| Queue::new(intids)), forwarded: [0, 0, u32::MAX] }
    }

    /// Forwards the groups that GICD_CTLR enables if it is `ctlr`, and no others.
    pub(crate) fn forward(&mut self, ctlr: u32) {
        for (kind, mask) in [(Kind::Group0, ctlr & 1), (Kind::Group1, ctlr >> 1 & 1)] {
            self.forwarded[kind as usize] = mask.wrapping_neg();
        }
    }

    /// Returns whether an interrupt in the queue makes a difference to the vCPU.
    #[inline]
    pub(crate) fn forwards(&self, kind: Kind) -> bool {
        self.forwarded[kind as usize] != 0
    }

    /// Puts an interrupt into a queue.
    #[inline]
    pub(crate) fn insert(&mut self, kind: Kind, level: u8, intid: u16) {
        self.queues[kind as usize].insert(level, intid);
    }

    /// Takes an interrupt out of a queue.
    #[inline]
    pub(crate) fn remove(&mut self, kind: Kind, level: u8, intid: u16) {
        self.queues[kind as usize].remove(level, intid);
    }

    /// Returns the levels of a queue that have something, if it is forwarded.
    #[inline]
    fn levels(&self, kind: Kind) -> u32 {
        self.queues[kind as usize].levels() & self.forwarded[kind as usize]
    }

    #[inline]
    fn pending_levels(&self) -> u32 {
        self.levels(Kind::Group0) | self.levels(Kind::Group1)
    }

    /// Returns whether any interrupt is pending.
    #[inline]
    pub(crate) fn has_pending(&self) -> bool {
        self.pending_levels() != 0
    }

    /// Returns whether any interrupt is active.
    #[inline]
    pub(crate) fn has_active(&self) -> bool {
        self.levels(Kind::Active) != 0
    }

    /// Returns whether any interrupt is pending or active.
    #[inline]
    pub(crate) fn is_any(&self) -> bool {
        // Mostly all queues are empty: then it does not matter what is forwarded.
        let queued = self.queues.iter().fold(0, |levels, queue| levels | queue.levels());
        queued != 0 && (self.has_pending() || self.has_active())
    }

    /// Returns the best pending interrupt, with its level.
    #[inline]
    pub(crate) fn first_pending(&self) -> Option<(u8, u16)> {
        self.queues[self.best_group()? as usize].first()
    }

    /// Returns the best active interrupt, with its level.
    #[inline]
    pub(crate) fn first_active(&self) -> Option<(u8, u16)> {
        self.queues[Kind::Active as usize].first()
    }

    /// Takes the best pending interrupt out, and returns it with its level.
    #[inline(always)]
    pub(crate) fn pop_pending(&mut self) -> Option<(u8, u16)> {
        self.queues[self.best_group()? as usize].pop()
    }

    /// Takes the best interrupt out, and returns it with its level, behind whether it is a pending
    /// one: at one level the active come first.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<(bool, (u8, u16))> {
        let (pending, active) = (self.pending_levels(), self.levels(Kind::Active));
        if pending.trailing_zeros() < active.trailing_zeros() {
            return self.pop_pending().map(|best| (true, best));
        }
        self.queues[Kind::Active as usize].pop().map(|best| (false, best))
    }

    /// Returns the queue of the best pending interrupt. Mostly, only one group has any.
    #[inline]
    fn best_group(&self) -> Option<Kind> {
        match (self.levels(Kind::Group0), self.levels(Kind::Group1)) {
            (0, 0) => None,
            (_, 0) => Some(Kind::Group0),
            (0, _) => Some(Kind::Group1),
            _ => {
                let [group0, group1, _] = &self.queues;
                Some(if group0.first() < group1.first() { Kind::Group0 } else { Kind::Group1 })
            }
        }
    }
}

const _: () = assert!(LEVELS == u32::BITS as usize);
