//! Checkpoints that are made from time to time: when one is due, what it is called, and which old ones go.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use stasis_state::guest::NAME_LEN;

use crate::config::Periodic;

/// What follows the guest's name.
const SUFFIX: &str = ".auto";

/// The name of a guest's periodic checkpoints. Where it would be too long, the guest's name is cut.
pub fn name(guest: &str) -> String {
    let room = NAME_LEN - SUFFIX.len();
    let cut = guest.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= room);
    format!("{}{SUFFIX}", &guest[..cut.last().unwrap_or(0)])
}

/// Which checkpoints are to be deleted, the oldest first, so that `keep` of those called `name` are left. `all` has number and
/// name of each, in the order of their numbers.
pub fn surplus<'a>(all: impl Iterator<Item = (u64, &'a str)>, name: &str, keep: u8) -> Vec<u64> {
    let mut ours: Vec<u64> =
        all.filter(|(_, other)| *other == name).map(|(number, _)| number).collect();
    ours.truncate(ours.len().saturating_sub(keep.into()));
    ours
}

/// When a guest's next checkpoint is due.
#[derive(Clone, Copy, Debug)]
pub struct Timetable {
    every_us: u64,
    next_us: u64,
}

impl Timetable {
    /// The first one is due when the guest is as old as the time between two.
    pub fn new(periodic: Periodic, now_us: u64) -> Self {
        let every_us = periodic.every_us;
        Self { every_us, next_us: now_us.saturating_add(every_us) }
    }

    /// When the next one is due, in microseconds.
    pub fn next_us(&self) -> u64 {
        self.next_us
    }

    /// Whether one is due; if so, the next one is due a whole time later. What was missed is not made up for.
    pub fn take(&mut self, now_us: u64) -> bool {
        let due = now_us >= self.next_us;
        if due {
            let missed = (now_us - self.next_us) / self.every_us;
            let step = self.every_us.saturating_mul(missed.saturating_add(1));
            self.next_us = self.next_us.saturating_add(step);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_fits_the_store() {
        assert_eq!(name("linux"), "linux.auto");
        let longest = "x".repeat(NAME_LEN);
        assert_eq!(name(&longest).len(), NAME_LEN);
        assert_eq!(name(&"ä".repeat(16)), format!("{}.auto", "ä".repeat(13)));
    }

    #[test]
    fn the_newest_are_kept_and_others_left_alone() {
        let all = [(1, "a.auto"), (2, "morning"), (3, "a.auto"), (5, "a.auto"), (6, "b.auto")];
        let surplus = |keep| surplus(all.into_iter(), "a.auto", keep);
        assert_eq!(surplus(1), [1, 3]);
        assert_eq!(surplus(2), [1]);
        assert_eq!(surplus(3), []);
        assert_eq!(surplus(255), []);
    }

    #[test]
    fn a_checkpoint_is_due_once_in_its_time() {
        let mut table = Timetable::new(Periodic { every_us: 10, keep: 1 }, 100);
        assert!(!table.take(109));
        assert!(table.take(110));
        assert!(!table.take(119));
        assert!(table.take(121));
        assert_eq!(table.next_us(), 130, "it does not drift");
        assert!(table.take(175), "what was missed");
        assert!(!table.take(179), "is not made up for");
        assert_eq!(table.next_us(), 180);
    }
}
