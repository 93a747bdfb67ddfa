//! What a guest is doing.

use super::{Resident, STOPPED, Slot};
use crate::device_interrupts;
use core::sync::atomic::Ordering;
use stasis_arch::timer;

/// What a guest is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Its vCPUs have their turns.
    Running,
    /// It stands still until somebody has it go on.
    Paused,
    /// It has switched itself off.
    Off,
    /// It has reset its machine, and is to start again.
    Reset,
    /// It could not go on.
    Crashed,
    /// A resume in its place failed while its RAM was written: its state is gone.
    Lost,
    /// It was removed. Nobody finds it but who has looked for it before.
    Removed,
}

impl RunState {
    /// As the console's list has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Off | Self::Reset => "off",
            Self::Crashed => "crashed",
            Self::Lost => "lost",
            Self::Removed => "removed",
        }
    }

    /// Whether it goes on from where it is, now or when it is unpaused.
    pub fn is_alive(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

impl Slot {
    /// Has the guest do something else from now on.
    pub(super) fn set_state(&self, resident: &mut Resident, state: RunState) {
        if state != RunState::Running {
            resident.guest.clock.stop(timer::counter());
        }
        if state == RunState::Running {
            device_interrupts::engage(self);
        }
        resident.state = state;
        match state {
            RunState::Running => self.barred.fetch_and(!STOPPED, Ordering::Release),
            _ => self.barred.fetch_or(STOPPED, Ordering::Release),
        };
    }
}
