//! Checkpoints that are made from time to time: when one is due, what it is called, and which old
//! ones go.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use stasis_state::guest::NAME_LEN;

use crate::config::Periodic;

/// What follows the guest's name.
const SUFFIX: &str = ".auto";

/// Most bytes of the guest's name in the name of its periodic checkpoints.
pub const GUEST_PART: usize = NAME_LEN - SUFFIX.len();

/// Returns the name of a guest's periodic checkpoints. A guest's name of more than [`GUEST_PART`]
/// bytes is cut; a configuration in which two guests would have the same one is refused.
pub fn name(guest: &str) -> String {
    let cut =
        guest.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= GUEST_PART);
    format!("{}{SUFFIX}", &guest[..cut.last().unwrap_or(0)])
}

/// Returns which checkpoints are to be deleted, the oldest first, so that `keep` of those called
/// `name` are left. Those up to the number `spared` are not deleted, and of the others the newest
/// neither; so more may be left. `all` has number and name of each, in the order of their numbers.
pub fn surplus<'a>(
    all: impl Iterator<Item = (u64, &'a str)>,
    name: &str,
    keep: u8,
    spared: u64,
) -> Vec<u64> {
    let ours = all.filter(|(_, other)| *other == name).map(|(number, _)| number);
    let (old, mut new): (Vec<u64>, Vec<u64>) = ours.partition(|number| *number <= spared);
    let too_many = (old.len() + new.len()).saturating_sub(keep.into());
    new.truncate(too_many.min(new.len().saturating_sub(1)));
    new
}

/// When a guest's next checkpoint is due.
///
/// The next checkpoint is due a whole time after the last one ended, and later if the guest would
/// not be undisturbed for the part of its time that its configuration says. The guest runs while
/// one is made, but its first write to each page takes longer, or waits for the disk.
#[derive(Clone, Copy, Debug)]
pub struct Timetable {
    periodic: Periodic,
    next_us: u64,
    /// How many in a row began more than a whole time after they were due.
    late: u8,
    /// Whether a person was told that checkpoints can't be made as often as is configured.
    is_known: bool,
    /// The last one was given up.
    was_given_up: bool,
}

/// Why checkpoints can't be made as often as is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// The guest would not be undisturbed for its part of the time.
    Share {
        /// How long one takes, in microseconds.
        took_us: u64,
        /// How long the guest is undisturbed from one to the next, in microseconds.
        rest_us: u64,
    },
    /// Commands, or the checkpoints of others, have come before, again and again.
    Others {
        /// By how much the last one was late, in microseconds.
        late_us: u64,
    },
}

impl fmt::Display for Behind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share { took_us, rest_us } => write!(
                out,
                "a periodic checkpoint takes {}, so the next one is made {} later: the guest has its checkpoint-run-share of the time undisturbed",
                Seconds(*took_us),
                Seconds(*rest_us)
            ),
            Self::Others { late_us } => write!(
                out,
                "periodic checkpoints are not made every checkpoint-every: the last one began {} late, after commands and the checkpoints of others",
                Seconds(*late_us)
            ),
        }
    }
}

/// Microseconds, as seconds with a tenth.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.0.div_ceil(100_000);
        write!(out, "{}.{} s", tenths / 10, tenths % 10)
    }
}

impl Timetable {
    /// As many late ones in a row are more than a command that has taken long.
    const LATE: u8 = 3;

    /// Returns the timetable of a guest that was made now: the first checkpoint is due when the
    /// guest is as old as the time between two.
    pub fn new(periodic: Periodic, now_us: u64) -> Self {
        let next_us = now_us.saturating_add(periodic.every_us);
        Self { periodic, next_us, late: 0, is_known: false, was_given_up: false }
    }

    /// Returns when the next checkpoint is due, in microseconds.
    pub fn next_us(&self) -> u64 {
        self.next_us
    }

    /// Notes that one was made, or was tried, from `began_us` to `ended_us`. Returns what keeps the
    /// timetable from what is configured, the first time that something does.
    pub fn made(&mut self, began_us: u64, ended_us: u64) -> Option<Behind> {
        let every_us = self.periodic.every_us;
        let late_us = began_us.saturating_sub(self.next_us);
        self.late = if late_us > every_us { self.late.saturating_add(1) } else { 0 };
        let took_us = ended_us.saturating_sub(began_us);
        let rest_us = self.rest_us(took_us);
        self.was_given_up = false;
        self.next_us = ended_us.saturating_add(rest_us.max(every_us));
        let behind = if rest_us > every_us {
            Behind::Share { took_us, rest_us }
        } else if self.late >= Self::LATE {
            Behind::Others { late_us }
        } else {
            return None;
        };
        let is_news = !core::mem::replace(&mut self.is_known, true);
        is_news.then_some(behind)
    }

    /// Tells whether the next one may be given up for a command. Not one after another: a program
    /// may never be quiet.
    pub fn may_be_given_up(&self) -> bool {
        !self.was_given_up
    }

    /// Notes that one was given up for a command. It is due again when the guest has had its share.
    pub fn given_up(&mut self, began_us: u64, ended_us: u64) {
        self.was_given_up = true;
        self.next_us = ended_us.saturating_add(self.rest_us(ended_us.saturating_sub(began_us)));
    }

    /// Returns how long the guest must be undisturbed after a checkpoint that took `took_us`, both
    /// in microseconds.
    fn rest_us(&self, took_us: u64) -> u64 {
        let run_share = u64::from(self.periodic.run_share);
        let checkpoint_share = 100_u64.saturating_sub(run_share).max(1);
        took_us.saturating_mul(run_share).div_ceil(checkpoint_share)
    }

    /// Notes that none is made this time, as the guest does not run.
    pub fn skip(&mut self, now_us: u64) {
        self.next_us = now_us.saturating_add(self.periodic.every_us);
        self.late = 0;
    }

    /// Returns how often checkpoints are made, and how many are kept.
    pub fn periodic(&self) -> Periodic {
        self.periodic
    }
}

/// Returns which of the guests has waited the longest for a checkpoint that is due. One at a time:
/// whoever makes it looks at what else is to be done before the next.
pub fn first_due<G>(
    tables: impl Iterator<Item = (G, Timetable)>,
    now_us: u64,
) -> Option<(G, Timetable)> {
    let due = tables.filter(|(_, table)| table.next_us <= now_us);
    due.min_by_key(|(_, table)| table.next_us)
}

/// Puts whoever types at the console before the checkpoints that are due.
///
/// A command line arrives byte by byte. A checkpoint that began between two of them would have the
/// whole command wait.
#[derive(Clone, Copy, Debug)]
pub struct Courtesy {
    typed_us: u64,
    ended_us: u64,
}

impl Courtesy {
    /// Nothing begins before the console was quiet for so long, in microseconds,
    const QUIET_US: u64 = 500_000;
    /// but after this time in any case: a program may never be quiet.
    const MOST_US: u64 = 5_000_000;

    /// Returns the courtesy of a console at which nothing was typed yet, on a machine that has made
    /// no checkpoint.
    pub const fn new() -> Self {
        Self { typed_us: 0, ended_us: 0 }
    }

    /// Notes that something was typed, or a command answered.
    pub fn typed(&mut self, now_us: u64) {
        self.typed_us = now_us;
    }

    /// Notes that a checkpoint is complete.
    pub fn made(&mut self, now_us: u64) {
        self.ended_us = now_us;
    }

    /// Returns when a checkpoint that is due at `due_us` may begin, in microseconds.
    pub fn begins_us(&self, due_us: u64) -> u64 {
        let due_us = due_us.max(self.ended_us);
        let quiet_us = self.typed_us.saturating_add(Self::QUIET_US);
        quiet_us.clamp(due_us, due_us.saturating_add(Self::MOST_US))
    }
}

impl Default for Courtesy {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    const EVERY: u64 = 10;
    const PERIODIC: Periodic = Periodic { every_us: EVERY, keep: 1, run_share: 50 };

    #[test]
    fn the_name_fits_the_store() {
        assert_eq!(name("linux"), "linux.auto");
        let longest = "x".repeat(NAME_LEN);
        assert_eq!(name(&longest).len(), NAME_LEN);
        assert_eq!(name(&"ä".repeat(16)), format!("{}.auto", "ä".repeat(13)));
    }

    const ALL: [(u64, &str); 5] =
        [(1, "a.auto"), (2, "morning"), (3, "a.auto"), (5, "a.auto"), (6, "b.auto")];

    #[test]
    fn the_newest_are_kept_and_others_left_alone() {
        let surplus = |keep| surplus(ALL.into_iter(), "a.auto", keep, 0);
        assert_eq!(surplus(1), [1, 3]);
        assert_eq!(surplus(2), [1]);
        assert_eq!(surplus(3), []);
        assert_eq!(surplus(255), []);
    }

    #[test]
    fn what_is_spared_is_kept_and_so_is_the_newest() {
        let surplus = |keep, spared| surplus(ALL.into_iter(), "a.auto", keep, spared);
        assert_eq!(surplus(1, 5), []);
        assert_eq!(surplus(1, 3), [], "one more than are kept");
        assert_eq!(surplus(1, 1), [3]);
        assert_eq!(surplus(2, 1), [3], "the older one is not deleted for the newer one");
        assert_eq!(surplus(3, 1), []);
    }

    #[test]
    fn a_checkpoint_is_due_a_whole_time_after_the_last_one_ended() {
        let mut table = Timetable::new(PERIODIC, 100);
        assert_eq!(table.next_us(), 110);
        assert_eq!(table.made(110, 113), None);
        assert_eq!(table.next_us(), 123);
        assert_eq!(table.made(127, 137), None, "what was missed is not made up for");
        assert_eq!(table.next_us(), 147);
        table.skip(150);
        assert_eq!(table.next_us(), 160);
    }

    #[test]
    fn a_guest_has_its_share_undisturbed_whatever_its_checkpoints_take() {
        for run_share in 1..=99 {
            for took in [0, 1, 9, 10, 11, 1000, 123_456] {
                let mut table = Timetable::new(Periodic { run_share, ..PERIODIC }, 0);
                let (began, mut undisturbed, mut disturbed) = (table.next_us(), 0, 0);
                let mut now = began;
                for _ in 0..20 {
                    table.made(now, now + took);
                    now += took;
                    disturbed += took;
                    undisturbed += table.next_us() - now;
                    now = table.next_us();
                }
                let share = undisturbed * 100 / (undisturbed + disturbed);
                assert!(share >= run_share.into(), "{share} % of {run_share} %, each takes {took}");
                assert!(undisturbed >= 20 * EVERY, "more often than is configured");
            }
        }
    }

    #[test]
    fn a_checkpoint_that_takes_too_long_is_told_once() {
        let mut table = Timetable::new(Periodic { run_share: 80, ..PERIODIC }, 0);
        assert_eq!(table.made(10, 12), None);
        assert_eq!(table.made(22, 25), Some(Behind::Share { took_us: 3, rest_us: 12 }));
        assert_eq!(table.next_us(), 37);
        assert_eq!(table.made(37, 40), None);
    }

    #[test]
    fn what_is_told_has_times_that_a_person_can_read() {
        let told = Behind::Share { took_us: 2_134_567, rest_us: 10_000_000 }.to_string();
        assert!(told.contains("takes 2.2 s, so the next one is made 10.0 s later"), "{told}");
    }

    #[test]
    fn checkpoints_that_are_late_again_and_again_are_told_once() {
        let mut table = Timetable::new(PERIODIC, 0);
        let mut late = |by| {
            let now = table.next_us() + by;
            table.made(now, now + 1)
        };
        assert_eq!([late(11), late(11), late(0)], [None; 3], "a command has taken long");
        assert_eq!([late(11), late(11)], [None; 2]);
        assert_eq!(late(12), Some(Behind::Others { late_us: 12 }));
        assert_eq!(late(12), None);
    }

    #[test]
    fn one_that_is_given_up_for_a_command_is_made_soon() {
        let mut table = Timetable::new(PERIODIC, 0);
        assert!(table.may_be_given_up());
        table.given_up(10, 13);
        assert_eq!(table.next_us(), 16, "the guest has its share");
        assert!(!table.may_be_given_up(), "or else it might never be made");
        table.made(16, 20);
        assert!(table.may_be_given_up());
    }

    #[test]
    fn nothing_begins_while_a_command_is_typed() {
        const MS: u64 = 1000;
        let mut courtesy = Courtesy::new();
        assert_eq!(courtesy.begins_us(3000 * MS), 3000 * MS);
        courtesy.typed(2900 * MS);
        assert_eq!(courtesy.begins_us(3000 * MS), 3400 * MS);
        // The first byte of a command that came while another one was made, which was due later
        // than this one.
        courtesy.made(20_000 * MS);
        courtesy.typed(20_001 * MS);
        assert_eq!(courtesy.begins_us(3000 * MS), 20_501 * MS);
        courtesy.typed(26_000 * MS);
        assert_eq!(courtesy.begins_us(3000 * MS), 25_000 * MS, "it is typed without an end");
    }

    #[test]
    fn who_has_waited_the_longest_is_the_first() {
        let at = |next_us| Timetable { next_us, ..Timetable::new(PERIODIC, 0) };
        let tables = [("a", at(30)), ("b", at(10)), ("c", at(20))];
        let first = |now| first_due(tables.into_iter(), now).map(|(guest, _)| guest);
        assert_eq!([first(9), first(10), first(40)], [None, Some("b"), Some("b")]);
    }

    #[test]
    fn guests_that_share_the_disk_have_it_in_turns() {
        // Three guests whose checkpoints take as long as the time between two: none is left out,
        // and none takes the others' turns.
        let mut tables = [Timetable::new(PERIODIC, 0); 3];
        let (mut now, mut made) = (EVERY, [0_u64; 3]);
        for _ in 0..300 {
            let all = tables.iter().copied().enumerate();
            let Some((guest, _)) = first_due(all, now) else {
                now = tables.iter().map(Timetable::next_us).min().unwrap_or(now);
                continue;
            };
            tables[guest].made(now, now + EVERY);
            now += EVERY;
            made[guest] += 1;
        }
        assert!(made.iter().all(|count| made[0].abs_diff(*count) <= 1), "{made:?}");
    }
}
