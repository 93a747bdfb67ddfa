//! When a source that has failed is tried again: [`Retry`], one for each guest whose memory is
//! loaded.
//!
//! A disk that fails may work again: a card that was pulled is put back. So the guest waits, and
//! nobody says so more than once for each time that it has to. But a disk that is there, and
//! refuses one place again and again, will not have it later: after [`MOST_TRIES`] the guest is not
//! kept waiting any more.

use alloc::vec::Vec;
use core::ops::Range;

/// Tries of one place that the disk refuses.
pub const MOST_TRIES: u32 = 10;

/// Places whose tries are counted: more than there are vCPUs that can wait for one.
const MOST_PLACES: usize = 16;

/// Why a try has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The disk is not there.
    Absent,
    /// The disk is there, and has refused the place.
    Refused,
}

/// What follows from a try that has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The guest waits, and did before.
    Wait,
    /// The guest waits from now on, which must be told.
    WaitAndTell,
    /// The guest can't get what it waits for.
    GiveUp,
}

/// When a guest's memory can be loaded again. Instants are in ticks of the counter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retry {
    /// The instant of the next try; `None` if the last one was right.
    due: Option<u64>,
    /// Addresses that the disk has refused, and how often: the newest at the end.
    refused: Vec<(u64, u32)>,
}

impl Retry {
    /// Returns whether it is time for a try.
    pub fn is_due(&self, now: u64) -> bool {
        self.due.is_none_or(|due| due <= now)
    }

    /// Returns the instant of the next try; `None` if nothing has failed, so that any instant is
    /// right.
    pub fn due(&self) -> Option<u64> {
        self.due
    }

    /// Notes that a try to load what is at `address` has failed, at the start of `pause`, and that
    /// the next one is made at its end. Returns what follows. A try before its time does not count.
    pub fn failed(&mut self, kind: Kind, address: u64, pause: Range<u64>) -> Then {
        let is_in_time = self.is_due(pause.start);
        let before = self.due.replace(pause.end);
        let is_new = match kind {
            Kind::Absent => before.is_none(),
            Kind::Refused if is_in_time => match self.count(address) {
                MOST_TRIES.. => return Then::GiveUp,
                tries => tries == 1,
            },
            Kind::Refused => false,
        };
        if is_new { Then::WaitAndTell } else { Then::Wait }
    }

    /// Counts a try of this address, and returns how many there were.
    fn count(&mut self, address: u64) -> u32 {
        let known = self.refused.iter().position(|(refused, _)| *refused == address);
        let before = known.map_or(0, |known| self.refused.remove(known).1);
        if self.refused.len() == MOST_PLACES {
            self.refused.remove(0);
        }
        self.refused.push((address, before + 1));
        before + 1
    }

    /// Notes that a try was right. Returns whether it ends a wait, which must be told: the disk is
    /// there again. It may be another place than one that was refused.
    pub fn succeeded(&mut self) -> bool {
        self.due.take().is_some() && self.refused.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_fails_is_tried_again_after_a_pause_and_told_of_once() {
        let mut retry = Retry::default();
        assert!(retry.is_due(0) && retry.due().is_none());
        assert_eq!(retry.failed(Kind::Absent, 7, 100..150), Then::WaitAndTell);
        assert!(!retry.is_due(149) && retry.is_due(150));
        assert_eq!(retry.failed(Kind::Absent, 7, 150..200), Then::Wait);
        assert_eq!(retry.due(), Some(200));
        assert!(retry.succeeded() && retry.is_due(150));
        assert!(!retry.succeeded(), "it is told again");
        assert_eq!(retry.failed(Kind::Refused, 7, 200..u64::MAX), Then::WaitAndTell);
        assert_eq!(retry.due(), Some(u64::MAX));
    }

    #[test]
    fn a_disk_that_is_not_there_is_waited_for_however_long() {
        let mut retry = Retry::default();
        for now in 0..1000 {
            assert_ne!(retry.failed(Kind::Absent, 7, now..now + 1), Then::GiveUp);
        }
    }

    /// Two vCPUs wait for two bad places, and others get theirs meanwhile.
    #[test]
    fn each_place_that_the_disk_refuses_is_tried_so_often_and_no_more() {
        let mut retry = Retry::default();
        for now in 0..u64::from(MOST_TRIES) - 1 {
            for address in [7, 9] {
                let then = if now == 0 { Then::WaitAndTell } else { Then::Wait };
                assert_eq!(retry.failed(Kind::Refused, address, now..now), then);
            }
            assert!(!retry.succeeded(), "that was another place");
        }
        assert_eq!(retry.failed(Kind::Refused, 9, 20..21), Then::GiveUp);
    }

    /// A command tries at once, as often as it is given.
    #[test]
    fn a_try_before_its_time_does_not_count() {
        let mut retry = Retry::default();
        for now in 0..100 {
            assert_ne!(retry.failed(Kind::Refused, 7, now..1000), Then::GiveUp);
        }
    }
}
