//! What a guest is doing, and what a person can make it do from there.
//!
//! [`RunState`] is the state. Each command that changes it ([`RunState::paused`],
//! [`RunState::unpaused`], ...) returns the state that comes next, or the [`Misfit`] that the
//! console shows. What a guest does by itself is [`stasis_guest::stop`].

use alloc::string::String;

use stasis_guest::stop::Stopped;
use stasis_state::GuestState;
use stasis_state::guest::GuestPowerState;

/// What a guest is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// The guest's vCPUs have their turns.
    Running,
    /// The guest stands still until a person lets it go on.
    Paused,
    /// The guest stands still until its debugger lets it go on.
    Debugged,
    /// The guest stands still until there is memory for what it writes, or for what is loaded.
    Starved,
    /// The guest has switched its machine off, or a person has stopped it.
    Off,
    /// The guest has reset its machine, and has not started again.
    Reset,
    /// The guest could not go on.
    Crashed,
    /// A resume in its place failed while its RAM was written: its state is gone.
    Lost,
    /// The guest was removed. Only who has looked it up before still finds it.
    Removed,
}

/// Why a command does not fit what a guest is doing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// `pause` or `shutdown` of a guest that does not run.
    #[error("guest \"{guest}\" is {}", .state.name())]
    NotRunning {
        /// The guest's name.
        guest: String,
        /// What it is doing.
        state: RunState,
    },
    /// `gdb` of a guest that has a debugger.
    #[error("guest \"{guest}\" has a debugger already")]
    HasDebugger {
        /// The guest's name.
        guest: String,
    },
    /// `unpause` of a guest that is not paused.
    #[error("guest \"{guest}\" is {}, not paused", .state.name())]
    NotPaused {
        /// The guest's name.
        guest: String,
        /// What it is doing.
        state: RunState,
    },
    /// `stop` of a guest that has ended.
    #[error("guest \"{guest}\" is {} already", .state.name())]
    NotAlive {
        /// The guest's name.
        guest: String,
        /// What it is doing.
        state: RunState,
    },
    /// `start` of a guest that has not ended.
    #[error("guest \"{guest}\" is {}; {}restart starts it again", .state.name(), if *.state == RunState::Paused { "unpause lets it go on, " } else { "" })]
    Alive {
        /// The guest's name.
        guest: String,
        /// What it is doing.
        state: RunState,
    },
    /// `remove` of a guest that runs.
    #[error("guest \"{guest}\" is running; stop it first")]
    Running {
        /// The guest's name.
        guest: String,
    },
    /// `shutdown` of a guest that does not hear of its power key.
    #[error(
        "guest \"{guest}\" has no driver for its power key: line 3 of its PL061 can't interrupt; stop switches it off without asking"
    )]
    DoesNotHear {
        /// The guest's name.
        guest: String,
    },
    /// `checkpoint` of a guest that has no state.
    #[error("guest \"{guest}\" is lost since a resume failed; resume or restart it first")]
    Lost {
        /// The guest's name.
        guest: String,
    },
    /// Any command for a guest that was removed meanwhile.
    #[error("guest \"{guest}\" is not there any more")]
    Removed {
        /// The guest's name.
        guest: String,
    },
}

impl RunState {
    /// Returns its name in the console's list of guests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Debugged => "debugged",
            Self::Starved => "waiting",
            Self::Off | Self::Reset => "off",
            Self::Crashed => "crashed",
            Self::Lost => "lost",
            Self::Removed => "removed",
        }
    }

    /// Returns whether the guest goes on from where it is, now or when it is unpaused.
    pub fn is_alive(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Debugged | Self::Starved)
    }

    /// Returns whether something is to be done about a guest that has stopped by itself: nothing if
    /// a command has started it again before, and nothing if a command has removed it.
    pub fn needs_care(self) -> bool {
        !self.is_alive() && self != Self::Removed
    }

    /// Returns what a guest does that is made from its configuration.
    pub fn made(autostart: bool) -> Self {
        if autostart { Self::Running } else { Self::Paused }
    }

    /// Returns what a guest does that was resumed: one that had switched its machine off, or reset
    /// it, has nothing to go on with.
    pub fn resumed(state: &GuestState) -> Self {
        match state.power_state() {
            GuestPowerState::On => Self::Running,
            GuestPowerState::Off => Self::Off,
            GuestPowerState::Reset => Self::Reset,
        }
    }

    /// Returns the state of a guest that has stopped by itself.
    pub fn stopped_by_itself(how: Stopped) -> Self {
        match how {
            Stopped::Off => Self::Off,
            Stopped::Reset => Self::Reset,
            Stopped::Crash(_) => Self::Crashed,
        }
    }

    /// Returns the state after `pause`.
    pub fn paused(self, guest: &str) -> Result<Self, Misfit> {
        match self {
            Self::Running | Self::Starved => Ok(Self::Paused),
            state => Err(Misfit::NotRunning { guest: guest.into(), state }),
        }
    }

    /// Returns the state of a guest that a debugger begins to have, which `has_debugger` already or
    /// not.
    pub fn debugged(self, guest: &str, has_debugger: bool) -> Result<Self, Misfit> {
        match self {
            _ if has_debugger => Err(Misfit::HasDebugger { guest: guest.into() }),
            Self::Running | Self::Paused | Self::Starved => Ok(Self::Debugged),
            state => Err(Misfit::NotRunning { guest: guest.into(), state }),
        }
    }

    /// Returns the state of a guest whose debugger leaves: what it was doing `before`, as long as
    /// nobody else has changed that. One that waited for memory tries again, and waits by itself if
    /// there is none.
    pub fn after_debugger(self, before: Self) -> Self {
        match (self, before) {
            (Self::Debugged | Self::Running | Self::Starved, Self::Paused) => Self::Paused,
            (Self::Debugged, _) => Self::Running,
            (state, _) => state,
        }
    }

    /// Returns the state of a clone of a guest in this one. The clone of a guest that goes on is in
    /// the state `restored`, which its registers say. What a person has stopped, or could not go
    /// on, does not go on by being cloned, and a debugger that has the guest does not have the
    /// clone.
    pub fn of_clone(self, restored: Self) -> Self {
        match self {
            Self::Running | Self::Starved => restored,
            Self::Debugged => Self::Paused,
            other => other,
        }
    }

    /// Returns the state after `unpause`.
    pub fn unpaused(self, guest: &str) -> Result<Self, Misfit> {
        match self {
            Self::Paused => Ok(Self::Running),
            state => Err(Misfit::NotPaused { guest: guest.into(), state }),
        }
    }

    /// Checks that `shutdown` may press the power key of the guest, which hears of it or not.
    pub fn check_shutdown(self, guest: &str, hears: bool) -> Result<(), Misfit> {
        match self {
            Self::Running if hears => Ok(()),
            Self::Running => Err(Misfit::DoesNotHear { guest: guest.into() }),
            state => Err(Misfit::NotRunning { guest: guest.into(), state }),
        }
    }

    /// Returns the state after `stop`.
    pub fn stopped(self, guest: &str) -> Result<Self, Misfit> {
        match self {
            Self::Running | Self::Paused | Self::Debugged | Self::Starved => Ok(Self::Off),
            state => Err(Misfit::NotAlive { guest: guest.into(), state }),
        }
    }

    /// Checks that `start` may start the guest from its image, which throws away all that it has.
    pub fn check_start(self, guest: &str) -> Result<(), Misfit> {
        match self {
            Self::Off | Self::Reset | Self::Crashed | Self::Lost => Ok(()),
            Self::Running | Self::Paused | Self::Debugged | Self::Starved => {
                Err(Misfit::Alive { guest: guest.into(), state: self })
            }
            Self::Removed => Err(Misfit::Removed { guest: guest.into() }),
        }
    }

    /// Checks that `remove` may take the guest off the machine.
    pub fn check_remove(self, guest: &str) -> Result<(), Misfit> {
        match self {
            Self::Running => Err(Misfit::Running { guest: guest.into() }),
            Self::Removed => Err(Misfit::Removed { guest: guest.into() }),
            _ => Ok(()),
        }
    }

    /// Checks that the guest has a state that can be stored.
    pub fn check_store(self, guest: &str) -> Result<(), Misfit> {
        match self {
            Self::Lost => Err(Misfit::Lost { guest: guest.into() }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
