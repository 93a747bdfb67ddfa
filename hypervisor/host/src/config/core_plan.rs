//! How a core's time is divided: a frame that repeats for ever, and the windows of guests in it.
//!
//! A window belongs to all vCPUs that its guest has on the core. What is in no window belongs to
//! those without a window: see [`crate::sched`].

use alloc::string::String;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use super::time::Time;
use super::{Configuration, property::PropertyProblem};
use stasis_console::text::quoted;

/// The core that the console's commands run on.
pub const CONSOLE_CORE: u32 = 0;
/// How long a frame may be, in microseconds.
pub const FRAME_US: RangeInclusive<u64> = 100..=60_000_000;
/// The shortest window, in microseconds: below this the switches would take most of it.
pub const MIN_WINDOW_US: u64 = 50;
/// The most windows of a frame.
pub const MAX_WINDOWS: usize = 64;

/// The plan of one core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreConfig {
    /// The core. Whether the machine has it, the caller knows.
    pub number: u32,
    /// Microseconds after which the plan begins again.
    pub frame_us: u64,
    /// The windows, in the order of time; none begins before the one before it ends.
    pub windows: Vec<WindowConfig>,
}

/// Returns whether these plans leave time on a core for the guest of this name.
pub fn has_time(plans: &[CoreConfig], core: usize, guest: &str) -> bool {
    let plan = plans.iter().find(|plan| plan.number as usize == core);
    plan.is_none_or(|plan| plan.has_time_for(guest))
}

impl CoreConfig {
    /// Returns whether a guest of this name ever runs on the core: it has a window there, or the
    /// windows, which [`check`] found in order, leave some of the frame.
    pub(super) fn has_time_for(&self, guest: &str) -> bool {
        self.left_us() > 0 || self.windows.iter().any(|window| window.guest == guest)
    }

    /// What its windows leave of the frame, in microseconds.
    fn left_us(&self) -> u64 {
        self.frame_us - self.windows.iter().map(|window| window.length_us).sum::<u64>()
    }
}

/// The time in a frame that a guest has its core for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowConfig {
    /// The guest's name.
    pub guest: String,
    /// Microseconds from the frame's beginning.
    pub at_us: u64,
    /// Microseconds.
    pub length_us: u64,
}

impl WindowConfig {
    /// Microseconds from the frame's beginning to its own end.
    fn end_us(&self) -> u64 {
        self.at_us.saturating_add(self.length_us)
    }
}

/// A plan is for a core that the machine does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("core {0} has a frame, and is not there")]
pub struct NoPlannedCore(pub u32);

/// What can be wrong with a core's plan. Windows are counted from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoreProblem {
    /// A property is missing, unknown or of another type.
    #[error(transparent)]
    Property(#[from] PropertyProblem),
    /// A property of a window is.
    #[error("window {window}: {problem}")]
    WindowProperty {
        /// The window.
        window: usize,
        /// The rule.
        problem: PropertyProblem,
    },
    /// A child of a core's node is no window.
    #[error("node \"{0}\" is not known; windows are called window@<n>")]
    UnknownNode(String),
    /// Two plans are for the same core.
    #[error("it has another plan already")]
    Duplicate,
    /// A frame of no use.
    #[error("a frame of {} is not possible; {} to {} are", Time(*.0), Time(*FRAME_US.start()), Time(*FRAME_US.end()))]
    Frame(u64),
    /// No window, or too many.
    #[error("{0} windows are not possible; 1 to {MAX_WINDOWS} are")]
    Windows(usize),
    /// A window too short to do anything in.
    #[error("window {window}: a length of {} is not possible; {} at least is", Time(*.length_us), Time(MIN_WINDOW_US))]
    Short {
        /// The window.
        window: usize,
        /// The window's length.
        length_us: u64,
    },
    /// A window that the frame has no room for.
    #[error("window {window}: it ends at {}, after the frame's end at {}", Time(*.end_us), Time(*.frame_us))]
    Outside {
        /// The window.
        window: usize,
        /// The window's end.
        end_us: u64,
        /// The frame's end.
        frame_us: u64,
    },
    /// Windows that overlap, or stand in another order than that of time.
    #[error("window {window}: it begins at {}, before the window before it ends, at {}", Time(*.at_us), Time(*.end_us))]
    Overlap {
        /// The later window.
        window: usize,
        /// The window's beginning.
        at_us: u64,
        /// The end of the one before it.
        end_us: u64,
    },
    /// Windows that leave the console nothing.
    #[error("the windows leave {} of the frame, and the console is on this core; {} at least it needs", Time(*.0), Time(MIN_WINDOW_US))]
    NoTimeForConsole(u64),
    /// A window of nobody.
    #[error("window {window}: there is no guest {}", quoted(.guest))]
    NoSuchGuest {
        /// The window.
        window: usize,
        /// Whom it names.
        guest: String,
    },
    /// A window of a guest that is elsewhere.
    #[error("window {window}: guest \"{guest}\" is not configured to have a vCPU on this core")]
    NotHere {
        /// The window.
        window: usize,
        /// Whom it names.
        guest: String,
    },
}

impl CoreProblem {
    /// Returns the window that is wrong, as far as one is, and the key of the written
    /// configuration.
    pub fn place(&self) -> (Option<usize>, &'static str) {
        match *self {
            Self::Property(_) | Self::UnknownNode(_) | Self::Duplicate => (None, "number"),
            Self::Frame(_) => (None, "frame"),
            Self::Windows(_) | Self::NoTimeForConsole(_) => (None, "windows"),
            Self::Short { window, .. } | Self::Outside { window, .. } => (Some(window), "length"),
            Self::Overlap { window, .. } => (Some(window), "at"),
            Self::WindowProperty { window, .. }
            | Self::NoSuchGuest { window, .. }
            | Self::NotHere { window, .. } => (Some(window), "guest"),
        }
    }
}

/// Checks the plan of a core, number `index` of `configuration`'s.
pub(super) fn check(
    index: usize,
    core: &CoreConfig,
    configuration: &Configuration,
) -> Result<(), CoreProblem> {
    if configuration.cores[..index].iter().any(|other| other.number == core.number) {
        return Err(CoreProblem::Duplicate);
    }
    if !FRAME_US.contains(&core.frame_us) {
        return Err(CoreProblem::Frame(core.frame_us));
    }
    if !(1..=MAX_WINDOWS).contains(&core.windows.len()) {
        return Err(CoreProblem::Windows(core.windows.len()));
    }
    let mut previous_end = 0;
    for (window, plan) in core.windows.iter().enumerate() {
        check_guest(window, plan, core.number, configuration)?;
        let WindowConfig { at_us, length_us, .. } = *plan;
        if length_us < MIN_WINDOW_US {
            return Err(CoreProblem::Short { window, length_us });
        }
        if at_us < previous_end {
            return Err(CoreProblem::Overlap { window, at_us, end_us: previous_end });
        }
        previous_end = plan.end_us();
        if previous_end > core.frame_us {
            let frame_us = core.frame_us;
            return Err(CoreProblem::Outside { window, end_us: previous_end, frame_us });
        }
    }
    match core.left_us() {
        left_us @ ..MIN_WINDOW_US if core.number == CONSOLE_CORE => {
            Err(CoreProblem::NoTimeForConsole(left_us))
        }
        _ => Ok(()),
    }
}

/// Checks that a window's guest has a vCPU on the core.
fn check_guest(
    window: usize,
    plan: &WindowConfig,
    core: u32,
    configuration: &Configuration,
) -> Result<(), CoreProblem> {
    let guest = || plan.guest.clone();
    match configuration.guests.iter().find(|guest| guest.name == plan.guest) {
        None => Err(CoreProblem::NoSuchGuest { window, guest: guest() }),
        Some(found) if !found.cores.contains(&core) => {
            Err(CoreProblem::NotHere { window, guest: guest() })
        }
        Some(_) => Ok(()),
    }
}
