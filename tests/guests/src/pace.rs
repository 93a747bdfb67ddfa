//! A periodic deadline, how late it was met, and the line in which a real-time guest tells of it.
//!
//! `pulse` and the application on ArceOS (`tests/arceos`) keep a [`Pace`] and print [`Beat`]s; the
//! host reads them. The time is the guest's own: while a guest is not there to see it, none passes.

use core::fmt;

/// Deadlines at a fixed distance, on whatever clock the guest reads.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    start: u64,
    period: u64,
    number: u64,
    latest: u64,
    worst: u64,
    lost: u64,
}

impl Pace {
    /// Deadlines each `period` after `start`.
    pub const fn new(start: u64, period: u64) -> Self {
        Self { start, period, number: 0, latest: 0, worst: 0, lost: 0 }
    }

    /// Returns the next deadline.
    pub const fn deadline(&self) -> u64 {
        self.start + (self.number + 1) * self.period
    }

    /// Notes that the guest has come to its deadline at `now`. Deadlines that are over as well are
    /// lost: there is one beat for all of them. Returns the number of the last.
    pub fn beat(&mut self, now: u64) -> u64 {
        let late = now.saturating_sub(self.deadline());
        let lost = late / self.period;
        self.number += 1 + lost;
        self.lost += lost;
        self.latest = self.latest.max(late);
        self.worst = self.worst.max(late);
        self.number
    }

    /// Returns the line to print at `now`, with the hash of what the guest keeps in its memory;
    /// `per_second` are the clock's units in a second. From here on [`Beat::late_us`] is about what
    /// comes.
    pub fn tell(&mut self, now: u64, per_second: u64, hash: u64) -> Beat {
        let us =
            |units: u64| (u128::from(units) * 1_000_000 / u128::from(per_second.max(1))) as u64;
        let beat = Beat {
            number: self.number,
            at_us: us(now - self.start),
            late_us: us(self.latest),
            worst_us: us(self.worst),
            lost: self.lost,
            hash,
        };
        self.latest = 0;
        beat
    }
}

/// A line of a real-time guest: `beat <number> at <µs> late <µs> worst <µs> lost <count> hash <16
/// hex digits>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// The number of the deadline, from 1 on.
    pub number: u64,
    /// The guest's time since its start, in microseconds.
    pub at_us: u64,
    /// The most that a deadline was missed by since the line before, in microseconds.
    pub late_us: u64,
    /// The most ever.
    pub worst_us: u64,
    /// The number of deadlines that were over when the next one was, ever.
    pub lost: u64,
    /// The hash of what the guest keeps in its memory after that many beats.
    pub hash: u64,
}

impl Beat {
    /// Reads a line; what stands before it in the line does not count.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line[line.find("beat ")?..].split_ascii_whitespace();
        let mut field = |name: &str| (words.next()? == name).then(|| words.next())?;
        let number = |text: &str| text.parse().ok();
        let beat = Self {
            number: number(field("beat")?)?,
            at_us: number(field("at")?)?,
            late_us: number(field("late")?)?,
            worst_us: number(field("worst")?)?,
            lost: number(field("lost")?)?,
            hash: field("hash")
                .filter(|hash| hash.len() == 16)
                .and_then(|hash| u64::from_str_radix(hash, 16).ok())?,
        };
        words.next().is_none().then_some(beat)
    }
}

impl fmt::Display for Beat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, at_us, late_us, worst_us, lost, hash } = self;
        write!(
            f,
            "beat {number} at {at_us} late {late_us} worst {worst_us} lost {lost} hash {hash:016x}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_that_is_met_late_is_not_lost() {
        let mut pace = Pace::new(1000, 100);
        assert_eq!((pace.deadline(), pace.beat(1100)), (1100, 1));
        assert_eq!((pace.deadline(), pace.beat(1299)), (1200, 2));
        let beat = pace.tell(1299, 1_000_000, 7);
        assert_eq!((beat.at_us, beat.late_us, beat.worst_us, beat.lost), (299, 99, 99, 0));
    }

    #[test]
    fn deadlines_that_are_over_with_the_next_are_lost() {
        let mut pace = Pace::new(0, 100);
        assert_eq!((pace.beat(350), pace.deadline()), (3, 400));
        assert_eq!(pace.tell(350, 1_000_000, 0).lost, 2);
    }

    #[test]
    fn lateness_is_told_once_and_the_worst_is_kept() {
        let mut pace = Pace::new(0, 100);
        pace.beat(150);
        pace.tell(150, 1_000_000, 0);
        pace.beat(210);
        let beat = pace.tell(210, 1_000_000, 0);
        assert_eq!((beat.late_us, beat.worst_us), (10, 50));
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let beat =
            Beat { number: 20, at_us: 200_017, late_us: 17, worst_us: 4000, lost: 0, hash: 0xab };
        assert_eq!(Beat::parse(&beat.to_string()), Some(beat));
        assert_eq!(Beat::parse(&format!("stasis> {beat}")), Some(beat));
    }

    #[test]
    fn lines_are_taken_whole_or_not_at_all() {
        let line = "beat 20 at 1 late 2 worst 3 lost 4 hash 00000000000000ab";
        assert!(Beat::parse(line).is_some());
        assert_eq!(Beat::parse(&line[..line.len() - 1]), None);
        assert_eq!(Beat::parse(&format!("{line} x")), None);
        assert_eq!(Beat::parse("beat"), None);
    }
}
