//! What the crate that runs guests asks of this one.

use crate::{care, console};
use alloc::sync::Arc;
use stasis_arch::timer;
use stasis_guest::stop::Stopped;
use stasis_run::above::Above;
use stasis_run::slot::Slot;

/// See the module.
pub struct Duties;

impl Above for Duties {
    fn serve(&self) -> Option<u64> {
        // One command, and one thing that nobody has asked for: both may take long, and neither waits for all of the others.
        let more_is_typed = console::serve();
        // What is typed meanwhile is kept, with the UART's interrupt off: whoever did something looks at it again before it sleeps.
        if care::serve() || more_is_typed { Some(timer::counter()) } else { care::next_due() }
    }

    fn stopped(&self, slot: Arc<Slot>, how: Stopped) {
        care::stopped(slot, how);
    }

    fn transmit(&self, slot: &Slot, byte: u8) {
        console::guest_output(slot, byte);
    }
}
