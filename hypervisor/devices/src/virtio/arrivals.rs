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
pub struct Arrivals {
    frames: VecDeque<Arrival>,
    /// Whether the first one waits for memory that is still to be loaded.
    is_held: bool,
}

/// What can be done about the frames that wait for a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Waiting {
    /// No frame waits.
    None,
    /// The guest can be given the first one, if it is served.
    Ready,
    /// The first one waits until some of the guest's memory has arrived, and the others behind it.
    Held,
}

impl Arrivals {
    /// Keeps a frame, in place of the one that has waited longest if there are [`MOST`]: on a
    /// network with much that is for all, the last frames are those that somebody waits for.
    /// Returns whether none is lost.
    pub fn keep(&mut self, arrival: Arrival) -> bool {
        let was_full = self.frames.len() == MOST && self.take().is_some();
        let has_room = self.frames.try_reserve(1).is_ok();
        if has_room {
            self.frames.push_back(arrival);
        }
        has_room && !was_full
    }

    /// Takes the frame that has come first.
    pub fn take(&mut self) -> Option<Arrival> {
        self.frames.pop_front()
    }

    /// Puts back a frame that was taken, and that the guest could not be given. Returns false if it
    /// is lost, as there are [`MOST`] by now, or there is no memory for it.
    pub fn put_back(&mut self, arrival: Arrival) -> bool {
        let has_room = self.frames.len() < MOST && self.frames.try_reserve(1).is_ok();
        if has_room {
            self.frames.push_front(arrival);
        }
        has_room
    }

    /// Makes the frames wait until some of the guest's memory [has arrived](Self::go_on).
    pub fn hold(&mut self) {
        self.is_held = true;
    }

    /// Notes that some of the guest's memory has arrived.
    pub fn go_on(&mut self) {
        self.is_held = false;
    }

    /// Returns what can be done about them.
    pub fn waiting(&self) -> Waiting {
        match (self.frames.is_empty(), self.is_held) {
            (true, _) => Waiting::None,
            (false, false) => Waiting::Ready,
            (false, true) => Waiting::Held,
        }
    }

    /// Drops all of them.
    pub fn clear(&mut self) {
        *self = Self::default();
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
        assert_eq!(arrivals.waiting(), Waiting::None);
    }

    #[test]
    fn a_frame_that_can_not_be_given_yet_stays_the_first_one_until_memory_has_arrived() {
        let mut arrivals = Arrivals::default();
        let frame = |n: usize| Arrival::new(n as u8, &[n as u8; 60]).unwrap();
        assert!((0..3).all(|n| arrivals.keep(frame(n))));
        assert_eq!(arrivals.waiting(), Waiting::Ready);
        let first = arrivals.take().unwrap();
        assert!(arrivals.put_back(first));
        arrivals.hold();
        assert!(arrivals.keep(frame(3)));
        assert_eq!(arrivals.waiting(), Waiting::Held);
        arrivals.go_on();
        assert_eq!(arrivals.waiting(), Waiting::Ready);
        let order: Vec<u8> = core::iter::from_fn(|| arrivals.take()).map(|it| it.slot).collect();
        assert_eq!(order, [0, 1, 2, 3]);
        // The last ones are those that somebody waits for.
        assert!((0..MOST).all(|n| arrivals.keep(frame(n))) && !arrivals.put_back(frame(40)));
        assert_eq!(arrivals.take(), Some(frame(0)));
        // What has waited in vain holds up nobody.
        arrivals.hold();
        arrivals.clear();
        assert!(arrivals.keep(frame(0)));
        assert_eq!(arrivals.waiting(), Waiting::Ready);
    }

    #[test]
    fn none_is_left_of_a_guest_that_is_no_longer() {
        let mut arrivals = Arrivals::default();
        assert!(arrivals.keep(Arrival::new(0, &[1; 60]).unwrap()));
        arrivals.clear();
        assert_eq!(arrivals.take(), None);
    }
}
