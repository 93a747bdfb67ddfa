//! Frames that have come for a guest's network cards while it could not take them: [`Arrivals`].

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// The most frames that wait for a guest.
pub const MOST: usize = 32;

/// A frame that waits for a guest.
#[derive(Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The slot of the card that it is for.
    pub slot: u8,
    /// The frame.
    pub frame: Box<[u8]>,
}

impl Arrival {
    /// Returns a copy of a frame that has come for the card in `slot`; `None` if there is no memory
    /// for one.
    pub fn new(slot: u8, frame: &[u8]) -> Option<Self> {
        let mut copy = Vec::new();
        copy.try_reserve_exact(frame.len()).ok()?;
        copy.extend_from_slice(frame);
        Some(Self { slot, frame: copy.into_boxed_slice() })
    }
}

/// Frames that wait for a guest, in the order in which they have come: [`MOST`] at most.
#[derive(Debug, Default)]
pub struct Arrivals(VecDeque<Arrival>);

impl Arrivals {
    /// Keeps a frame, in place of the one that has waited longest if there are [`MOST`]: on a
    /// network with much that is for all, the last frames are those that somebody waits for.
    /// Returns whether none is lost.
    pub fn keep(&mut self, arrival: Arrival) -> bool {
        let was_full = self.0.len() == MOST && self.take().is_some();
        let has_room = self.0.try_reserve(1).is_ok();
        if has_room {
            self.0.push_back(arrival);
        }
        has_room && !was_full
    }

    /// Takes the frame that has come first.
    pub fn take(&mut self) -> Option<Arrival> {
        self.0.pop_front()
    }

    /// Returns whether none waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Drops all of them.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_as_they_have_come_and_the_oldest_of_too_many_is_lost() {
        let mut arrivals = Arrivals::default();
        let frame = |n: usize| Arrival::new(n as u8, &[n as u8; 60]).unwrap();
        assert!((0..MOST).all(|n| arrivals.keep(frame(n))), "there is room");
        assert!(!arrivals.keep(frame(MOST)), "one is lost");
        assert_eq!(arrivals.take(), Some(frame(1)));
        assert!(arrivals.keep(frame(100)), "there is room again");
        let rest: Vec<u8> = core::iter::from_fn(|| arrivals.take()).map(|it| it.slot).collect();
        assert_eq!(rest, (2..=MOST as u8).chain([100]).collect::<Vec<_>>());
        assert!(arrivals.is_empty());
    }

    #[test]
    fn none_is_left_of_a_guest_that_is_no_longer() {
        let mut arrivals = Arrivals::default();
        assert!(arrivals.keep(Arrival::new(0, &[1; 60]).unwrap()));
        arrivals.clear();
        assert_eq!(arrivals.take(), None);
    }
}
