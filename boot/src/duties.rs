//! What the crate that runs guests asks of this one.

use crate::{care, console};
use alloc::sync::Arc;
use stasis_run::above::Above;
use stasis_run::slot::Slot;
use stasis_vm::recovery::Stopped;

/// See the module.
pub struct Duties;

impl Above for Duties {
    fn serve(&self) -> Option<u64> {
        // Before everything else: what is done without a command may take long.
        console::serve();
        care::serve();
        care::next_due()
    }

    fn stopped(&self, slot: Arc<Slot>, how: Stopped) {
        care::stopped(slot, how);
    }

    fn transmit(&self, slot: &Slot, byte: u8) {
        console::guest_output(slot, byte);
    }
}
