//! Guests that stand still because there is no memory for what they write, or for what is loaded of
//! them while they run: clones, guests that have clones, and those with `overcommit`.
//!
//! A core that finds a guest without memory notes it here, and so does who loads. The console's
//! task says so, in one line, and lets the guest go on when there is memory again: somebody has
//! removed a guest, or a checkpoint has ended. All of that is done by the same task, which looks
//! after each. A guest that waits for what is loaded goes on when the loader brings that.

use alloc::sync::Arc;
use stasis_host::run_state::RunState;
use stasis_host::starved::{Need, Starved};
use stasis_host::task::TaskLock;
use stasis_run::domain::{Domain, MAX_DOMAINS};
use stasis_run::turns::Task;
use stasis_run::{roster, tables};

/// The guests that wait. Other cores write here, too.
static STARVED: TaskLock<Starved<Domain>> = TaskLock::new(Starved::new());

/// Notes that a guest waits for memory that it writes. Several cores may note that of the same one.
pub fn note(domain: &Arc<Domain>) {
    note_need(domain, Need::Page);
}

fn note_need(domain: &Arc<Domain>, need: Need) {
    STARVED.lock_without_task().note(domain.number, domain, need, MAX_DOMAINS);
    roster::wake_console();
}

/// Makes a guest stand still until what is loaded of it has come, if it runs. The caller has no
/// guest parked.
pub fn await_load(domain: &Arc<Domain>) {
    let mut parked = domain.park();
    if parked.state == RunState::Running {
        parked.set_state(RunState::Starved);
        drop(parked);
        note_need(domain, Need::Load);
    }
}

/// Lets a guest go on, of which all was loaded that somebody wanted, if it has waited for that. The
/// caller does not have the guest parked.
pub fn loaded(task: &mut Task, domain: &Domain) {
    let waiting = STARVED.lock(task).take_loaded(domain.number);
    if let Some(domain) = waiting {
        go_on(&domain, "what it waited for is loaded");
    }
}

/// Lets a guest go on, if it still waits, and says why.
fn go_on(domain: &Domain, why: &str) {
    let mut parked = domain.park();
    // A person may have paused, stopped or removed it meanwhile.
    if parked.state == RunState::Starved {
        parked.set_state(RunState::Running);
        drop(parked);
        log::info!("guest \"{}\" goes on: {why}", domain.name);
    }
}

/// Says which guests have begun to wait, and lets those go on for which there is memory. Returns
/// whether anything was done.
pub fn serve(task: &mut Task) -> bool {
    let mut is_busy = false;
    let waiting = STARVED.lock(task).all();
    for domain in waiting.iter().filter(|domain| domain.look().state != RunState::Starved) {
        // A person has paused, stopped or resumed it.
        STARVED.lock(task).forget(domain.number);
    }
    while let Some(domain) = STARVED.lock(task).next_unsaid() {
        log::warn!(
            "guest \"{}\" waits: no memory is free for what it writes or loads; it goes on when there is some",
            domain.name
        );
        is_busy = true;
    }
    while STARVED.lock(task).is_page_wanted() && tables::is_any_free() {
        let Some(domain) = STARVED.lock(task).take_first() else { break };
        go_on(&domain, "there is memory again");
        is_busy = true;
    }
    is_busy
}
