//! What this crate does for `stasis_run`: [`Duties`] takes what the cores report, and [`serve`] is
//! the turn of the console's task. In the pauses of long work, `Duties` is [`Meanwhile`].

use crate::meanwhile::Meanwhile;
use crate::work::Work;
use crate::{care, chores, clearing, notes, starved, terminal};
use alloc::sync::Arc;
use stasis_arch::timer;
use stasis_guest::stop::Stopped;
use stasis_host::chores::{self as host, Chores};
use stasis_run::above::Above;
use stasis_run::domain::Domain;
use stasis_run::network::uplink;
use stasis_run::turns::Task;

/// Takes what the cores that run vCPUs report, and does what the task can do in the pauses of long
/// work.
pub struct Duties;

impl Above for Duties {
    fn stopped(&self, domain: Arc<Domain>, how: Stopped) {
        notes::stopped(domain, how);
    }

    fn starved(&self, domain: Arc<Domain>) {
        starved::note(&domain);
    }

    fn transmit(&self, domain: &Domain, byte: u8) {
        terminal::guest_output(domain, byte);
    }

    fn print(&self, domain: &Domain, text: &[u8]) {
        terminal::guest_text(domain, text);
    }
}

impl Meanwhile for Duties {
    fn answer(&self, task: &mut Task) {
        chores::answer(task);
    }

    fn serve(&self, work: &mut Work) -> bool {
        chores::undisturbed(|| care::serve(work)) || chores::load(work) || clearing::serve()
    }

    fn next_due(&self, work: &Work) -> Option<u64> {
        next_due(work)
    }
}

/// The chores of the console's task.
struct Console<'w, 't>(&'w mut Work<'t>);

impl Chores for Console<'_, '_> {
    fn command(&mut self) -> bool {
        chores::command(self.0)
    }

    fn duty(&mut self) -> bool {
        starved::serve(self.0.task) | chores::duty(self.0) | care::serve(self.0)
    }

    fn load(&mut self) -> bool {
        // The task has moved some frames at the beginning of its turn.
        chores::load(self.0) | uplink::has_work() | clearing::serve()
    }

    fn next_due(&mut self) -> Option<u64> {
        next_due(self.0)
    }
}

/// Returns the value of the counter at which something is due without a command; `None` if nothing
/// is planned.
fn next_due(work: &Work) -> Option<u64> {
    notes::next_due().into_iter().chain(chores::next_due(work)).chain(clearing::next_due()).min()
}

/// Does what is due in the task's turn, and what was typed. Returns the value of the counter at
/// which something is due again.
pub fn serve(work: &mut Work) -> Option<u64> {
    host::turn(&mut Console(work), timer::counter)
}
