//! Tasks that wait for the core, in the order of what they have had.

use alloc::collections::VecDeque;

use super::TaskId;

/// A task that waits for the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ready {
    /// What the task has had, by its weight. It does not change while the task waits.
    pub(super) had: u128,
    /// The task.
    pub(super) id: TaskId,
}

/// Tasks that wait for the core: first those that have had the least; of several, the one that has
/// waited longest.
///
/// A task that gives the core up has mostly had as much as any other one, and goes to the end at
/// once.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue(VecDeque<Ready>);

impl Queue {
    /// Returns the task that is next.
    #[inline]
    pub(super) fn first(&self) -> Option<&Ready> {
        self.0.front()
    }

    /// Takes out the task that is next.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<TaskId> {
        self.0.pop_front().map(|first| first.id)
    }

    /// Takes out the task that is next, and puts in `id`. Returns the former. Panics if nobody
    /// waits.
    #[inline]
    pub(super) fn exchange(&mut self, id: TaskId, had: u128) -> TaskId {
        let first = self.pop().expect("somebody waits");
        self.insert(id, had);
        first
    }

    /// Puts in a task, which is not there, behind all that have had as much as it, or less.
    #[inline]
    pub(super) fn insert(&mut self, id: TaskId, had: u128) {
        let ready = Ready { had, id };
        match self.0.back() {
            Some(last) if last.had > had => self.insert_before_last(ready),
            _ => self.0.push_back(ready),
        }
    }

    #[inline(never)]
    fn insert_before_last(&mut self, ready: Ready) {
        let place = self.0.iter().rposition(|other| other.had <= ready.had);
        self.0.insert(place.map_or(0, |n| n + 1), ready);
    }

    /// Takes out a task, if it is there.
    pub(super) fn remove(&mut self, id: TaskId) {
        self.0.retain(|other| other.id != id);
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_least_comes_first_and_of_equals_the_one_that_came_first(
            had in prop::collection::vec(0_u128..8, 0..20),
            gone in 0_usize..20,
        ) {
            let mut queue = Queue::default();
            had.iter().enumerate().for_each(|(id, had)| queue.insert(id, *had));
            queue.remove(gone);
            let mut expected: Vec<_> = (0..had.len()).filter(|id| *id != gone).collect();
            // A sort that keeps the order of equals.
            expected.sort_by_key(|id| had[*id]);
            prop_assert_eq!(queue.first().map(|first| first.id), expected.first().copied());
            let found: Vec<_> = core::iter::from_fn(|| queue.pop()).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
