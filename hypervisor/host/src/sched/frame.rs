//! A core's frame: windows at the same places in it, again and again.
//!
//! A place in the frame is kept in ticks and millionths of a tick: a microsecond times the
//! counter's frequency is a number of those. So a frame whose length is no whole number of ticks
//! does not drift, and nothing is divided when a stretch begins.

use alloc::vec::Vec;

use super::GroupId;

/// In place of a tick: nobody has asked yet whose time it is.
const NEVER_ASKED: u64 = u64::MAX;

/// Parts of a tick.
const PARTS: u64 = 1_000_000;

/// A distance from the beginning of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Offset {
    ticks: u64,
    /// Parts of the tick that follows, below [`PARTS`].
    parts: u64,
}

impl Offset {
    fn of(parts: u64) -> Self {
        Self { ticks: parts / PARTS, parts: parts % PARTS }
    }
}

/// A frame, and where it was when it was last looked at.
///
/// A frame is taken to begin with its first window: then no time without a window goes on from one
/// frame to the next.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    /// The frame's length.
    length: Offset,
    /// All of it, in the order of time: the windows, and what lies between them.
    sections: Vec<Section>,
    /// The tick in which the frame has begun that the next one of `sections` is in.
    begin: u64,
    /// And the parts of that tick that were over then.
    rest: u64,
    next: usize,
    /// What came before.
    stretch: Stretch,
    /// Windows that have begun before this tick are not told of as late; [`NEVER_ASKED`] before the
    /// first question.
    told_from: u64,
}

/// A part of the frame.
#[derive(Clone, Copy, Debug)]
struct Section {
    /// Whose window it is.
    group: Option<GroupId>,
    /// Where it ends.
    end: Offset,
    /// Ticks by which its beginning may be late: a tenth of it.
    tolerance: u64,
}

/// A time that belongs to a window as a whole, or to none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    /// Whose window it is.
    pub(super) group: Option<GroupId>,
    /// The first tick that does not belong to it.
    pub(super) end: u64,
}

impl Frame {
    /// Returns a frame of `length_us` that begins at tick `epoch`, of a counter of `frequency` Hz,
    /// and again whenever it has ended. Each window has its group, its place in the frame and its
    /// length, in microseconds; they are in the order of time. What of them does not fit into the
    /// frame is left out.
    pub(super) fn new(
        length_us: u64,
        windows: impl Iterator<Item = (GroupId, u64, u64)>,
        frequency: u64,
        epoch: u64,
    ) -> Self {
        let length = length_us.saturating_mul(frequency).clamp(PARTS, u64::MAX / 4);
        let place = |us: u64| us.saturating_mul(frequency).min(length);
        let mut sections = Vec::<Section>::new();
        let mut first = None;
        for (group, at_us, window_us) in windows {
            let begin = *first.get_or_insert(place(at_us));
            let after_begin = |us| Offset::of(place(us) - begin);
            let (at, end) = (after_begin(at_us), after_begin(at_us.saturating_add(window_us)));
            if sections.last().is_some_and(|last| last.end < at) {
                sections.push(Section { group: None, end: at, tolerance: u64::MAX });
            }
            let tolerance = place(window_us) / PARTS / 10;
            sections.push(Section { group: Some(group), end, tolerance });
        }
        let length = Offset::of(length);
        if sections.last().is_none_or(|last| last.end < length) {
            sections.push(Section { group: None, end: length, tolerance: u64::MAX });
        }
        let first = first.unwrap_or(0);
        let begin = epoch + first / PARTS;
        let stretch = Stretch { group: None, end: begin };
        let rest = first % PARTS;
        Self { length, sections, begin, rest, next: 0, stretch, told_from: NEVER_ASKED }
    }

    /// Tells of no window as late that has begun before `now`: the frame was not the core's then.
    pub(super) fn tell_from(&mut self, now: u64) {
        self.told_from = now;
    }

    /// Returns whose time it is at `now`, which is not before the last one, and until when.
    ///
    /// Calls `is_late` for each window of which more than a tenth was over before anybody has
    /// asked, with its group and the ticks that were over; for several that have passed as a whole,
    /// once with their number.
    #[inline]
    pub(super) fn at(&mut self, now: u64, is_late: impl FnMut(GroupId, u64, u64)) -> Stretch {
        if now >= self.stretch.end && !self.goes_on(now) {
            self.look(now, is_late);
        }
        self.stretch
    }

    /// Goes on to the section that follows, if `now` is in that, and no window begins late. Returns
    /// `false` if not: then nothing was done.
    #[inline]
    fn goes_on(&mut self, now: u64) -> bool {
        // Before the first look no section has begun.
        let (mut begin, mut rest, mut next) = (self.begin, self.rest, self.next);
        if next == self.sections.len() {
            (begin, rest) = self.next_frame();
            next = 0;
        } else if next == 0 {
            return false;
        }
        let Some(&Section { group, end, tolerance }) = self.sections.get(next) else {
            return false;
        };
        let end = tick(begin, rest, end);
        if now >= end || now - self.stretch.end > tolerance {
            return false;
        }
        (self.begin, self.rest, self.next) = (begin, rest, next + 1);
        self.stretch = Stretch { group, end };
        true
    }

    /// Does what [`Self::at`] says, whatever `now` is.
    #[inline(never)]
    fn look(&mut self, now: u64, mut is_late: impl FnMut(GroupId, u64, u64)) {
        while now >= self.stretch.end {
            // The counter runs long before a core decides for the first time.
            if self.told_from == NEVER_ASKED {
                self.told_from = now;
            }
            if self.next == self.sections.len() {
                let begin = self.stretch.end;
                let passed = self.advance(now);
                if passed > 0 && begin >= self.told_from {
                    let groups = self.sections.iter().filter_map(|section| section.group);
                    groups.for_each(|group| is_late(group, now - begin, passed));
                }
                self.next = 0;
            }
            let Section { group, end, tolerance } = self.sections[self.next];
            let begin = if self.next == 0 { self.begin } else { self.stretch.end };
            if let Some(group) = group
                && now - begin > tolerance
                && begin >= self.told_from
            {
                is_late(group, now - begin, 1);
            }
            self.stretch = Stretch { group, end: self.tick(end) };
            self.next += 1;
        }
    }

    /// The tick in which a place of the frame lies.
    fn tick(&self, place: Offset) -> u64 {
        tick(self.begin, self.rest, place)
    }

    /// Returns the tick in which the next frame begins, and the parts of it that are over then.
    #[inline]
    fn next_frame(&self) -> (u64, u64) {
        let rest = self.length.parts + self.rest;
        let begin = tick(self.begin, self.rest, self.length);
        (begin, if rest >= PARTS { rest - PARTS } else { rest })
    }

    /// Goes to the frame that `now` lies in, which is a later one. Returns the number of frames
    /// between the two.
    fn advance(&mut self, now: u64) -> u64 {
        (self.begin, self.rest) = self.next_frame();
        // Mostly it is the next one.
        if now >= self.tick(self.length) { self.find(now) } else { 0 }
    }

    /// Where a core was long idle, a division finds the frame.
    #[cold]
    fn find(&mut self, now: u64) -> u64 {
        let parts = (u128::from(now - self.begin) + 1) * u128::from(PARTS);
        let length =
            u128::from(self.length.ticks) * u128::from(PARTS) + u128::from(self.length.parts);
        let frames = (parts - u128::from(self.rest) - 1) / length;
        let parts = frames * length + u128::from(self.rest);
        self.begin += (parts / u128::from(PARTS)) as u64;
        self.rest = (parts % u128::from(PARTS)) as u64;
        frames as u64
    }
}

/// Returns the tick in which a place of the frame lies that has begun in tick `begin`, of which
/// `rest` parts were over then.
#[inline]
fn tick(begin: u64, rest: u64, place: Offset) -> u64 {
    begin + place.ticks + u64::from(place.parts + rest >= PARTS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The tick in which microsecond `us` begins, by division alone.
    fn tick(us: u128, frequency: u64) -> u64 {
        (us * u128::from(frequency) / u128::from(PARTS)) as u64
    }

    #[test]
    fn a_frame_of_no_whole_number_of_ticks_does_not_drift_for_a_year() {
        // 333 us at 24 MHz are 7992 ticks; at 62.5 MHz + 1 Hz they are no whole number.
        const FREQUENCY: u64 = 62_500_001;
        let mut frame = Frame::new(333, [(1, 100, 100)].into_iter(), FREQUENCY, 0);
        let frames = 365 * 24 * 3600 * 1_000_000 / 333_u128;
        for number in (0..frames).step_by(999_983) {
            let begin = tick(number * 333 + 100, FREQUENCY);
            let end = tick(number * 333 + 200, FREQUENCY);
            assert_eq!(
                frame.at(begin - 1, |_, _, _| ()),
                Stretch { group: None, end: begin },
                "{number}"
            );
            assert_eq!(frame.at(begin, |_, _, _| ()), Stretch { group: Some(1), end }, "{number}");
            assert_eq!(
                frame.at(end - 1, |_, _, _| ()),
                Stretch { group: Some(1), end },
                "{number}"
            );
            let next = tick((number + 1) * 333 + 100, FREQUENCY);
            assert_eq!(frame.at(end, |_, _, _| ()), Stretch { group: None, end: next }, "{number}");
        }
    }

    proptest! {
        #[test]
        fn every_instant_belongs_to_the_window_that_a_division_says(
            length in 100_u64..100_000,
            frequency in 1_000_000_u64..1_000_000_000,
            window in (0_u64..1000, 1_u64..=1000),
            steps in prop::collection::vec(0_u64..10_000_000, 1..100),
        ) {
            let at = length * window.0 / 1000;
            let end = (at + (length * window.1).div_ceil(1000)).min(length);
            let mut frame = Frame::new(length, [(7, at, end - at)].into_iter(), frequency, 0);
            let mut now = 0;
            for step in steps {
                now += step;
                let stretch = frame.at(now, |_, _, _| ());
                // The number of the frame that has begun last.
                let number = ((u128::from(now) + 1) * u128::from(PARTS) - 1)
                    / (u128::from(length) * u128::from(frequency));
                let place = |us: u64| tick(number * u128::from(length) + u128::from(us), frequency);
                let inside = place(at) <= now && now < place(end);
                prop_assert_eq!(stretch.group.is_some(), inside);
                prop_assert!(stretch.end > now);
            }
        }
    }
}
