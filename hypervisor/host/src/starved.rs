//! Guests that stand still because there is no memory for what they write, or for what is loaded of
//! them, in the order in which they go on: [`Starved`].
//!
//! One that writes goes on when a page is free, and takes that. One that waits for what is loaded
//! needs no page itself: the loader may take the last ones for it. So it goes on when something of
//! it has arrived, whether a page is free or not.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

/// What a guest waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A page for what it writes.
    Page,
    /// What is loaded of its memory.
    Load,
}

/// A guest that waits for memory.
#[derive(Debug)]
struct Waiting<D> {
    guest: Weak<D>,
    number: usize,
    need: Need,
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

    /// Notes that the guest with this number waits, and for what. Several cores may note that of
    /// the same one: the last need counts, for a guest that goes on finds by itself whether it has
    /// another. There is room for as many as `most` guests, which the machine has at most.
    pub fn note(&mut self, number: usize, guest: &Arc<D>, need: Need, most: usize) {
        self.0.retain(|one| one.guest.strong_count() > 0);
        if let Some(known) = self.0.iter_mut().find(|one| one.number == number) {
            known.need = need;
        } else if self.0.len() < most && self.0.try_reserve(1).is_ok() {
            let guest = Arc::downgrade(guest);
            self.0.push(Waiting { guest, number, need, is_said: false });
        }
    }

    /// Returns whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|one| one.guest.strong_count() == 0)
    }

    /// Returns the guests that wait; nobody if there is no memory for the list.
    pub fn all(&self) -> Vec<Arc<D>> {
        let mut all = Vec::new();
        if all.try_reserve_exact(self.0.len()).is_ok() {
            all.extend(self.0.iter().filter_map(|one| one.guest.upgrade()));
        }
        all
    }

    /// Forgets a guest that does not wait any more.
    pub fn forget(&mut self, number: usize) {
        self.0.retain(|one| one.number != number);
    }

    /// Returns the first guest of which the log does not say yet that it waits, and notes that it
    /// does.
    pub fn next_unsaid(&mut self) -> Option<Arc<D>> {
        self.0.retain(|one| one.guest.strong_count() > 0);
        let first = self.0.iter_mut().find(|one| !one.is_said)?;
        first.is_said = true;
        first.guest.upgrade()
    }

    /// Returns whether somebody waits for a page.
    pub fn is_page_wanted(&self) -> bool {
        self.0.iter().any(|one| one.need == Need::Page && one.guest.strong_count() > 0)
    }

    /// Takes out the guest that has waited longest for a page, because one is free.
    pub fn take_first(&mut self) -> Option<Arc<D>> {
        self.0.retain(|one| one.guest.strong_count() > 0);
        let first = self.0.iter().position(|one| one.need == Need::Page)?;
        self.0.remove(first).guest.upgrade()
    }

    /// Takes out the guest with this number, if it waits for what is loaded: something of that has
    /// arrived.
    pub fn take_loaded(&mut self, number: usize) -> Option<Arc<D>> {
        let is_it = |one: &Waiting<D>| one.number == number && one.need == Need::Load;
        let place = self.0.iter().position(is_it)?;
        self.0.remove(place).guest.upgrade()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_waited_longest_goes_on_first() {
        let (a, b) = (Arc::new('a'), Arc::new('b'));
        let mut starved = Starved::new();
        starved.note(3, &a, Need::Page, 8);
        starved.note(1, &b, Need::Page, 8);
        assert_eq!(starved.take_first(), Some(a));
        assert_eq!(starved.take_first(), Some(b));
        assert_eq!(starved.take_first(), None);
    }

    #[test]
    fn a_guest_that_several_cores_note_waits_once_and_is_said_once() {
        let guest = Arc::new(());
        let mut starved = Starved::new();
        starved.note(0, &guest, Need::Page, 8);
        starved.note(0, &guest, Need::Page, 8);
        assert!(starved.next_unsaid().is_some() && starved.next_unsaid().is_none());
        assert!(starved.take_first().is_some() && starved.is_empty());
    }

    #[test]
    fn a_guest_that_waits_again_is_said_again() {
        let guest = Arc::new(());
        let mut starved = Starved::new();
        starved.note(0, &guest, Need::Page, 8);
        starved.next_unsaid().unwrap();
        starved.take_first().unwrap();
        starved.note(0, &guest, Need::Page, 8);
        assert!(starved.next_unsaid().is_some());
    }

    /// The loader may have taken the last page.
    #[test]
    fn a_guest_goes_on_when_what_it_waited_for_is_loaded_though_no_page_is_free() {
        let (writes, loads) = (Arc::new("writes"), Arc::new("loads"));
        let mut starved = Starved::new();
        starved.note(1, &loads, Need::Load, 8);
        assert!(!starved.is_page_wanted() && !starved.is_empty());
        assert_eq!(starved.take_first(), None, "a page is of no use to it");
        starved.note(2, &writes, Need::Page, 8);
        assert_eq!(starved.take_loaded(2), None, "it wants a page");
        assert_eq!(starved.take_loaded(1), Some(loads));
        assert_eq!(starved.take_loaded(1), None);
        assert!(starved.is_page_wanted());
        assert_eq!(starved.take_first(), Some(writes));
    }

    #[test]
    fn of_a_guest_that_waits_for_both_the_last_need_counts() {
        let guest = Arc::new(());
        let mut starved = Starved::new();
        starved.note(0, &guest, Need::Page, 8);
        starved.note(0, &guest, Need::Load, 8);
        assert!(!starved.is_page_wanted() && starved.all().len() == 1);
        starved.note(0, &guest, Need::Page, 8);
        assert!(starved.take_loaded(0).is_none() && starved.take_first().is_some());
    }

    #[test]
    fn a_guest_that_was_paused_waits_no_more_and_is_said_again_if_it_does() {
        let guest = Arc::new(());
        let mut starved = Starved::new();
        starved.note(0, &guest, Need::Load, 8);
        starved.next_unsaid().unwrap();
        starved.forget(0);
        assert!(starved.is_empty());
        starved.note(0, &guest, Need::Load, 8);
        assert!(starved.next_unsaid().is_some());
    }

    #[test]
    fn a_guest_that_was_removed_waits_no_more_and_leaves_its_number_to_the_next_one() {
        let (removed, other) = (Arc::new(1), Arc::new(2));
        let mut starved = Starved::new();
        starved.note(0, &removed, Need::Page, 1);
        drop(removed);
        assert!(starved.is_empty());
        starved.note(0, &other, Need::Page, 1);
        assert_eq!(starved.next_unsaid(), Some(other.clone()));
        assert_eq!(starved.take_first(), Some(other));
    }
}
