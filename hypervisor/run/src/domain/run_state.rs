//! Changes of what a guest is doing.

use super::{Domain, Resident};
use crate::device_interrupts;
use stasis_arch::timer;
use stasis_host::run_state::RunState;

impl Domain {
    /// Returns what the guest is doing; `None` while somebody has it parked, who may be the caller.
    pub fn try_state(&self) -> Option<RunState> {
        self.resident.try_lock().map(|resident| resident.state)
    }

    /// Changes the guest's state to `state`, with its clock, its gate and its devices' interrupts.
    /// The guest is parked, or the calling core has a vCPU of it loaded and unloads that next: a
    /// core with another one loaded leaves its guest when it looks at the gate.
    pub(super) fn set_state(&self, resident: &mut Resident, state: RunState) {
        if state != RunState::Running {
            resident.guest.clock.stop(timer::counter());
        }
        if state == RunState::Running {
            device_interrupts::engage(self);
            // Devices of the guest may have had something to do while it did not run.
            self.news.announce();
        }
        resident.state = state;
        self.gate.set_runs(state == RunState::Running);
    }
}
