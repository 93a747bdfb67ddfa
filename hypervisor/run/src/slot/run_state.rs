//! Changing what a guest is doing.

use super::{Resident, Slot};
use crate::device_interrupts;
use stasis_arch::timer;
use stasis_host::run_state::RunState;

impl Slot {
    /// Makes the guest do something else from now on. Its vCPUs are not loaded, or stop being so before the lock is free.
    pub(super) fn set_state(&self, resident: &mut Resident, state: RunState) {
        if state != RunState::Running {
            resident.guest.clock.stop(timer::counter());
        }
        if state == RunState::Running {
            device_interrupts::engage(self);
        }
        resident.state = state;
        self.gate.set_runs(state == RunState::Running);
    }
}
