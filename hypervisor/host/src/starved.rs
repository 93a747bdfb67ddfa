//! Guests that stand still because there is no memory for what they write, in the order in which
//! they go on: [`Starved`].

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

/// A guest that waits for memory.
#[derive(Debug)]
struct Waiting<D> {
    guest: Weak<D>,
    number: usize,
    /// Whether the log says so.
    is_said: bool,
}

/// The guests that wait for memory, the first one first. A guest is a `D` here, which goes when it
/// is removed. Cores note guests at any time, so nothing here may fail for want of memory.
#[derive(Debug, Default)]
pub struct Starved<D>(Vec<Waiting<D>>);

impl<D> Starved<D> {
    /// Returns a list of nobody.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Notes that the guest with this number waits. Several cores may note that of the same one.
    /// There is room for as many as `most` guests, which the machine has at most.
    pub fn note(&mut self, number: usize, guest: &Arc<D>, most: usize) {
        self.0.retain(|one| one.guest.strong_count() > 0);
        let is_known = self.0.iter().any(|one| one.number == number);
        if !is_known && self.0.len() < most && self.0.try_reserve(1).is_ok() {
            self.0.push(Waiting { guest: Arc::downgrade(guest), number, is_said: false });
        }
    }

    /// Returns whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|one| one.guest.strong_count() == 0)
    }

    /// Returns the first guest of which the log does not say yet that it waits, and notes that it
    /// does.
    pub fn next_unsaid(&mut self) -> Option<Arc<D>> {
        self.0.retain(|one| one.guest.strong_count() > 0);
        let first = self.0.iter_mut().find(|one| !one.is_said)?;
        first.is_said = true;
        first.guest.upgrade()
    }

    /// Takes out the guest that has waited longest.
    pub fn take_first(&mut self) -> Option<Arc<D>> {
        while !self.0.is_empty() {
            if let Some(guest) = self.0.remove(0).guest.upgrade() {
                return Some(guest);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_waited_longest_goes_on_first() {
        let (a, b) = (Arc::new('a'), Arc::new('b'));
        let mut starved = Starved::new();
        starved.note(3, &a, 8);
        starved.note(1, &b, 8);
        assert_eq!(starved.take_first(), Some(a));
        assert_eq!(starved.take_first(), Some(b));
        assert_eq!(starved.take_first(), None);
    }

    #[test]
    fn a_guest_that_several_cores_note_waits_once_and_is_said_once() {
        let guest = Arc::new(());
        let mut starved = Starved::new();
        starved.note(0, &guest, 8);
        starved.note(0, &guest, 8);
        assert!(starved.next_unsaid().is_some() && starved.next_unsaid().is_none());
        assert!(starved.take_first().is_some() && starved.is_empty());
    }

    #[test]
    fn a_guest_that_waits_again_is_said_again() {
        let guest = Arc::new(());
        let mut starved = Starved::new();
        starved.note(0, &guest, 8);
        starved.next_unsaid().unwrap();
        starved.take_first().unwrap();
        starved.note(0, &guest, 8);
        assert!(starved.next_unsaid().is_some());
    }

    #[test]
    fn a_guest_that_was_removed_waits_no_more_and_leaves_its_number_to_the_next_one() {
        let (removed, other) = (Arc::new(1), Arc::new(2));
        let mut starved = Starved::new();
        starved.note(0, &removed, 1);
        drop(removed);
        assert!(starved.is_empty());
        starved.note(0, &other, 1);
        assert_eq!(starved.next_unsaid(), Some(other.clone()));
        assert_eq!(starved.take_first(), Some(other));
    }
}
