//! What is done about a guest that has stopped by itself, and how often.
//!
//! A guest's configuration says what ([`Policy`]). A guest that stops again and again is left alone after a while:
//! otherwise it would keep the machine busy for nothing. One that stops again soon after it was resumed is resumed from an
//! older checkpoint, for it may have been ill when the last one was made.

use core::fmt;

use crate::config::Policy;

/// Guests are helped this often within [`PERIOD_US`].
pub const ATTEMPTS: usize = 3;
/// Microseconds after which an attempt counts no more.
pub const PERIOD_US: u64 = 60_000_000;

/// How a guest has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It has switched its machine off. Nothing is done about it.
    Off,
    /// It has reset its machine.
    Reset,
    /// It can't go on.
    Crash(Crash),
}

/// Why a guest can't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The first instruction of its exception handler takes that very exception.
    ExceptionLoop {
        /// Where it is.
        pc: u64,
    },
    /// It has not fed its watchdog.
    Watchdog,
}

impl fmt::Display for Stopped {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => out.write_str("is off"),
            Self::Reset => out.write_str("has reset its machine"),
            Self::Crash(Crash::Watchdog) => out.write_str("has not fed its watchdog"),
            Self::Crash(Crash::ExceptionLoop { pc }) => {
                write!(
                    out,
                    "has crashed: its exception handler at {pc:#x} takes an exception itself, for ever"
                )
            }
        }
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing.
    Stop,
    /// Nothing: it has been helped too often.
    GiveUp,
    /// It starts again.
    Restart,
    /// It goes on from its last checkpoint, or from an older one, that many before the last.
    Resume {
        /// How many newer checkpoints are left aside.
        older: usize,
    },
}

/// What was done about a guest lately.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// When, in microseconds, and whether it was resumed. The latest are at the end.
    attempts: [Option<(u64, bool)>; ATTEMPTS],
}

impl Recovery {
    /// What is to be done now about a guest that has stopped, and is configured so. It counts as done.
    pub fn decide(
        &mut self,
        stopped: Stopped,
        on_reset: Policy,
        on_crash: Policy,
        now_us: u64,
    ) -> Remedy {
        let policy = match stopped {
            Stopped::Off => Policy::Stop,
            Stopped::Reset => on_reset,
            Stopped::Crash(_) => on_crash,
        };
        if policy == Policy::Stop {
            return Remedy::Stop;
        }
        let lately = |at: u64| now_us.saturating_sub(at) < PERIOD_US;
        if self.attempts.iter().flatten().filter(|(at, _)| lately(*at)).count() == ATTEMPTS {
            return Remedy::GiveUp;
        }
        let resumes =
            self.attempts.iter().flatten().filter(|(at, resumed)| *resumed && lately(*at));
        let older = resumes.count();
        let resume = policy == Policy::Resume;
        self.attempts.rotate_left(1);
        self.attempts[ATTEMPTS - 1] = Some((now_us, resume));
        if resume { Remedy::Resume { older } } else { Remedy::Restart }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRASH: Stopped = Stopped::Crash(Crash::ExceptionLoop { pc: 0x200 });
    const SECOND: u64 = 1_000_000;

    #[test]
    fn what_is_configured_is_done() {
        let decide =
            |stopped| Recovery::default().decide(stopped, Policy::Restart, Policy::Resume, 0);
        assert_eq!(decide(Stopped::Off), Remedy::Stop);
        assert_eq!(decide(Stopped::Reset), Remedy::Restart);
        assert_eq!(decide(CRASH), Remedy::Resume { older: 0 });
        let stopped = Recovery::default().decide(CRASH, Policy::Restart, Policy::Stop, 0);
        assert_eq!(stopped, Remedy::Stop);
    }

    #[test]
    fn a_guest_that_stops_again_and_again_is_left_alone() {
        let mut recovery = Recovery::default();
        let mut reset = |seconds| {
            recovery.decide(Stopped::Reset, Policy::Restart, Policy::Stop, seconds * SECOND)
        };
        assert_eq!([reset(100), reset(110), reset(120)], [Remedy::Restart; 3]);
        assert_eq!(reset(159), Remedy::GiveUp);
        assert_eq!(reset(160), Remedy::Restart, "the first is a minute ago");
        assert_eq!(reset(161), Remedy::GiveUp);
        assert_eq!(reset(1000), Remedy::Restart);
    }

    #[test]
    fn a_guest_that_soon_crashes_again_is_resumed_from_an_older_checkpoint() {
        let mut recovery = Recovery::default();
        let mut crash =
            |seconds| recovery.decide(CRASH, Policy::Restart, Policy::Resume, seconds * SECOND);
        assert_eq!(crash(10), Remedy::Resume { older: 0 });
        assert_eq!(crash(20), Remedy::Resume { older: 1 });
        assert_eq!(crash(75), Remedy::Resume { older: 1 }, "the first is more than a minute ago");
        assert_eq!(crash(500), Remedy::Resume { older: 0 });
    }
}
