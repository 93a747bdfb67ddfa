//! What is done about a guest without anybody asking for it: when it stops by itself, and from time
//! to time.

use core::ops::RangeInclusive;

/// How often checkpoints may be made, in microseconds: once in a second to once in a year.
pub const EVERY_US: RangeInclusive<u64> = 1_000_000..=31_536_000_000_000;
/// The longest time within which a watchdog must be fed, in microseconds: twice WOR, in ticks of a
/// fast counter.
pub const MAX_WATCHDOG_US: u64 = 100_000_000;

/// How long a guest can be configured to run until it counts as well, in microseconds: up to a
/// year.
pub const WELL_AFTER_US: RangeInclusive<u64> = 0..=31_536_000_000_000;
/// How long a guest runs until it counts as well if nothing is said, in microseconds.
pub const DEFAULT_WELL_AFTER_US: u64 = 60_000_000;
/// The part of its time that a guest can be configured to run for, whatever its periodic
/// checkpoints take, in percent.
pub const RUN_SHARES: RangeInclusive<u8> = 1..=99;

/// What is done about a guest that has stopped by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The guest stays off.
    Stop,
    /// The guest starts again from its image.
    Restart,
    /// The guest goes on from its last checkpoint.
    Resume,
}

impl Policy {
    /// All of them.
    pub const ALL: [Policy; 3] = [Policy::Stop, Policy::Restart, Policy::Resume];

    /// Returns the policy's name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Policy::Stop => "stop",
            Policy::Restart => "restart",
            Policy::Resume => "resume",
        }
    }

    /// Returns the policy with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.name() == name)
    }
}

/// Checkpoints that are made from time to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Periodic {
    /// Microseconds from the end of one to the next.
    pub every_us: u64,
    /// How many are kept; older ones are deleted.
    pub keep: u8,
    /// The part of its time, in percent, in which none is made, at least: the guest is slower while
    /// one is.
    pub run_share: u8,
}

impl Periodic {
    /// How many are kept, if nothing is said.
    pub const DEFAULT_KEEP: u8 = 3;
    /// The part of its time that the guest runs for, if nothing is said.
    pub const DEFAULT_RUN_SHARE: u8 = 50;
}
