//! What is done about a guest that has stopped by itself, and how often.
//!
//! A guest's configuration says what ([`Policy`]). A guest that stops again and again is left alone
//! after a while ([`LIMITS`]): otherwise it would keep the machine busy for nothing.
//!
//! A guest is on probation from its making, its start, its resume or its stop until it has been
//! well for a time that its configuration says. For so long, nobody knows which of its checkpoints
//! are ill. So if it stops again, it is resumed from an older one than before, and the checkpoints
//! from before the probation are not deleted to make room for new ones ([`Recovery::spared`]).
//! Checkpoints are told by their numbers, which grow with time: their list changes meanwhile.

use alloc::vec::Vec;
use core::fmt;

use stasis_guest::stop::Stopped;

use crate::config::{DEFAULT_WELL_AFTER_US, Policy, Time};

/// How often guests are helped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// At most so many times,
    pub times: usize,
    /// within so many microseconds.
    pub within_us: u64,
}

/// What a guest must exceed to be left alone, any of them. The second is for one that takes long to
/// stop, as by a watchdog: its longest time is 100 s.
pub const LIMITS: [Limit; 2] =
    [Limit { times: 3, within_us: 60_000_000 }, Limit { times: 10, within_us: 3_600_000_000 }];
/// The most that any limit looks at.
const MOST: usize = 10;
const _: () = assert!(LIMITS[0].times <= MOST && LIMITS[1].times <= MOST);

impl fmt::Display for Limit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} times in {}", self.times, Time(self.within_us))
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing.
    Stop,
    /// Nothing: the guest has been helped too often.
    GiveUp(Limit),
    /// The guest starts again.
    Restart,
    /// The guest goes on from its last checkpoint that is good.
    Resume {
        /// Only checkpoints with a lower number count, if this is one: from this one it was
        /// resumed, and has stopped again.
        before: Option<u64>,
    },
}

/// What is remembered of a guest's troubles.
#[derive(Clone, Debug)]
pub struct Recovery {
    well_after_us: u64,
    /// When it was helped, in microseconds, the latest at the end; no more than [`MOST`].
    helped: Vec<u64>,
    probation: Option<Probation>,
}

/// A time in which nobody knows yet whether the guest is well.
#[derive(Clone, Copy, Debug, Default)]
struct Probation {
    /// When it ends, in microseconds; not while the guest does not run.
    ends_us: Option<u64>,
    /// The oldest of the checkpoints that the guest was resumed from meanwhile.
    tried: Option<u64>,
    /// The guest has stopped meanwhile.
    has_stopped: bool,
    /// The newest of the checkpoints from before that, or from before the probation, once somebody
    /// has asked.
    spared: Option<u64>,
}

impl Default for Recovery {
    fn default() -> Self {
        Self::new(DEFAULT_WELL_AFTER_US)
    }
}

impl Recovery {
    /// Returns what is remembered of a new guest, which does not run yet, and counts as well when
    /// it has run for `well_after_us`.
    pub fn new(well_after_us: u64) -> Self {
        let probation = Some(Probation::default());
        Self { well_after_us, helped: Vec::new(), probation }
    }

    /// Decides what is to be done now about a guest that has stopped, and is configured so.
    pub fn decide(
        &mut self,
        stopped: Stopped,
        on_reset: Policy,
        on_crash: Policy,
        now_us: u64,
    ) -> Remedy {
        self.settle(now_us);
        let policy = match stopped {
            Stopped::Off => {
                self.rests();
                return Remedy::Stop;
            }
            Stopped::Reset => on_reset,
            Stopped::Crash(_) => on_crash,
        };
        let probation = self.probation.get_or_insert_default();
        probation.ends_us = None;
        if !core::mem::replace(&mut probation.has_stopped, true) {
            // Of those that it has made until now, some may be good.
            probation.spared = None;
        }
        let before = probation.tried;
        if policy == Policy::Stop {
            return Remedy::Stop;
        }
        if let Some(limit) = LIMITS.into_iter().find(|limit| self.has_reached(*limit, now_us)) {
            // Whoever starts it now is a person, who has a reason.
            self.helped.clear();
            return Remedy::GiveUp(limit);
        }
        if policy == Policy::Resume { Remedy::Resume { before } } else { Remedy::Restart }
    }

    /// Notes that what was decided is done: the guest was helped. How long that took does not
    /// count.
    pub fn helped(&mut self, now_us: u64) {
        if self.helped.len() == MOST {
            self.helped.remove(0);
        }
        self.helped.push(now_us);
    }

    /// Notes that the guest runs from now on, whoever has started it.
    pub fn runs(&mut self, now_us: u64) {
        if let Some(probation) = &mut self.probation {
            probation.ends_us = Some(now_us.saturating_add(self.well_after_us));
        }
    }

    /// Notes that the guest starts anew, whoever has started it: nobody knows yet whether it is
    /// well.
    pub fn starts(&mut self, now_us: u64) {
        self.settle(now_us);
        self.probation.get_or_insert_default();
        self.runs(now_us);
    }

    /// Notes that the guest does not run from now on.
    pub fn rests(&mut self) {
        if let Some(probation) = &mut self.probation {
            probation.ends_us = None;
        }
    }

    /// Notes that the guest was resumed from the checkpoint with this number, by whomever.
    pub fn resumed(&mut self, number: u64, now_us: u64) {
        self.settle(now_us);
        let probation = self.probation.get_or_insert_default();
        probation.tried = Some(probation.tried.map_or(number, |tried| tried.min(number)));
        self.runs(now_us);
    }

    /// Returns up to which number the guest's periodic checkpoints are not to be deleted; 0: any
    /// may be. `newest` is the highest number that the store has, before a new one is made.
    pub fn spared(&mut self, newest: u64, now_us: u64) -> u64 {
        self.settle(now_us);
        // The guest has made none since the probation began, or since it stopped: they are made
        // while it runs, and each asks before.
        self.probation.as_mut().map_or(0, |probation| *probation.spared.get_or_insert(newest))
    }

    /// Ends the probation, if the guest has been well for long enough.
    fn settle(&mut self, now_us: u64) {
        let ends_us = self.probation.and_then(|probation| probation.ends_us);
        if ends_us.is_some_and(|ends_us| now_us >= ends_us) {
            self.probation = None;
        }
    }

    fn has_reached(&self, limit: Limit, now_us: u64) -> bool {
        let lately = |at: &&u64| now_us.saturating_sub(**at) < limit.within_us;
        self.helped.iter().filter(lately).count() >= limit.times
    }
}

#[cfg(test)]
mod tests;
