//! What the crate that runs guests asks of this one.

use crate::work::Work;
use crate::{care, console};
use alloc::sync::Arc;
use stasis_arch::timer;
use stasis_guest::stop::Stopped;
use stasis_run::above::Above;
use stasis_run::slot::Slot;

/// What comes from the cores that run vCPUs.
pub struct Duties;

impl Above for Duties {
    fn stopped(&self, slot: Arc<Slot>, how: Stopped) {
        care::stopped(slot, how);
    }

    fn transmit(&self, slot: &Slot, byte: u8) {
        console::guest_output(slot, byte);
    }
}

/// Does in the task's turn what is due, and what was typed. Returns what the counter reads when something is due again.
pub fn serve(work: &mut Work) -> Option<u64> {
    // One command, and one thing that nobody has asked for: both may take long, and neither waits for all of the others.
    let more_is_typed = console::serve(work);
    // What is typed meanwhile is kept, with the UART's interrupt off: whoever did something looks at it again before it sleeps.
    if care::serve(work) || more_is_typed { Some(timer::counter()) } else { care::next_due() }
}
