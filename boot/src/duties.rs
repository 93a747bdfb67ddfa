//! What this crate does for `stasis_run`: [`Duties`] takes what the cores report, and [`serve`] is the turn of the console's task.

use crate::work::Work;
use crate::{care, console, notes, terminal};
use alloc::sync::Arc;
use stasis_arch::timer;
use stasis_guest::stop::Stopped;
use stasis_run::above::Above;
use stasis_run::domain::Domain;

/// Takes what the cores that run vCPUs report.
pub struct Duties;

impl Above for Duties {
    fn stopped(&self, domain: Arc<Domain>, how: Stopped) {
        notes::stopped(domain, how);
    }

    fn transmit(&self, domain: &Domain, byte: u8) {
        terminal::guest_output(domain, byte);
    }
}

/// Does what is due in the task's turn, and what was typed. Returns the value of the counter at which something is due again.
pub fn serve(work: &mut Work) -> Option<u64> {
    // Do one command and one duty in each turn: both may take long, and neither must wait for all of the other kind.
    let more_is_typed = console::serve(work);
    // What is typed during a duty is kept, with the UART's interrupt off. So after a duty the task looks at it again before it sleeps.
    if care::serve(work) || more_is_typed { Some(timer::counter()) } else { notes::next_due() }
}
