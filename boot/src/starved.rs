//! Guests that stand still because there is no memory for what they write: clones, guests that have clones, and those with `overcommit`.
//!
//! A core that finds a guest without memory notes it here. The console's task says so, in one line, and lets the guest go on when there is memory again: somebody has removed a
//! guest, or a checkpoint has ended. All of that is done by the same task, which looks after each.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use stasis_host::run_state::RunState;
use stasis_host::task::TaskLock;
use stasis_run::domain::{Domain, MAX_DOMAINS};
use stasis_run::turns::Task;
use stasis_run::{roster, tables};

/// A guest that waits for memory.
struct Starved {
    domain: Weak<Domain>,
    number: usize,
    /// Whether the log says so.
    is_said: bool,
}

/// The guests that wait, the first one first. Other cores write here, too.
static STARVED: TaskLock<Vec<Starved>> = TaskLock::new(Vec::new());

/// Notes that a guest waits for memory. Several cores may note that of the same one.
pub fn note(domain: Arc<Domain>) {
    let mut starved = STARVED.lock_without_task();
    let is_known = starved.iter().any(|one| one.number == domain.number);
    if !is_known && starved.len() < MAX_DOMAINS && starved.try_reserve(1).is_ok() {
        let number = domain.number;
        starved.push(Starved { domain: Arc::downgrade(&domain), number, is_said: false });
    }
    drop(starved);
    roster::wake_console();
}

/// Says which guests have begun to wait, and lets those go on for which there is memory. Returns whether anything was done.
pub fn serve(task: &mut Task) -> bool {
    let mut is_busy = false;
    while let Some(domain) = next_unsaid(task) {
        log::warn!(
            "guest \"{}\" waits: no memory is free for what it writes; it goes on when there is some",
            domain.name
        );
        is_busy = true;
    }
    while !STARVED.lock(task).is_empty() && tables::is_any_free() {
        let Some(domain) = next(task) else { break };
        let mut parked = domain.park();
        // A person may have paused, stopped or removed the guest meanwhile.
        if parked.state == RunState::Starved {
            parked.set_state(RunState::Running);
            drop(parked);
            log::info!("guest \"{}\" goes on: there is memory again", domain.name);
        }
        is_busy = true;
    }
    is_busy
}

/// Returns the first guest of which the log does not say yet that it waits, and notes that it does.
fn next_unsaid(task: &Task) -> Option<Arc<Domain>> {
    let mut starved = STARVED.lock(task);
    starved.retain(|one| one.domain.strong_count() > 0);
    let first = starved.iter_mut().find(|one| !one.is_said)?;
    first.is_said = true;
    first.domain.upgrade()
}

/// Takes out the guest that has waited longest.
fn next(task: &Task) -> Option<Arc<Domain>> {
    let mut starved = STARVED.lock(task);
    while !starved.is_empty() {
        if let Some(domain) = starved.remove(0).domain.upgrade() {
            return Some(domain);
        }
    }
    None
}
