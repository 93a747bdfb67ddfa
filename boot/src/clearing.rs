//! Memory of guests that was not cleared before they ran, and that they have not touched yet: the
//! console's task clears it when it has nothing else to do.

use crate::registry;
use core::sync::atomic::{AtomicU64, Ordering};
use stasis_arch::timer;
use stasis_run::domain::Domain;
use stasis_run::turns::Task;

/// Milliseconds for which a new guest clears what it touches by itself, before the task does
/// anything: it has its boot to do.
const PAUSE_MS: u64 = 100;

/// The value of the counter from which on the task clears; `u64::MAX` if all is clear. The task
/// alone accesses it; relaxed.
static DUE: AtomicU64 = AtomicU64::new(u64::MAX);

/// Notes that a guest was made whose memory may not be cleared yet.
pub fn begin() {
    let pause = timer::frequency() * PAUSE_MS / 1000;
    DUE.store(timer::counter() + pause, Ordering::Relaxed);
}

/// Returns the value of the counter from which on there is something to clear; `None` if nothing
/// is.
pub fn next_due() -> Option<u64> {
    Some(DUE.load(Ordering::Relaxed)).filter(|due| *due != u64::MAX)
}

/// Clears a unit of what guests have not touched yet, if it is time: a window that begins meanwhile
/// waits for no more. Returns whether there may be more. No guest is parked by the caller.
pub fn serve() -> bool {
    if next_due().is_none_or(|due| timer::counter() < due) {
        return false;
    }
    let is_more = registry::all().iter().any(|domain| domain.clear_more());
    if !is_more {
        DUE.store(u64::MAX, Ordering::Relaxed);
    }
    is_more
}

/// Clears all of a guest's memory that is not clear yet. Others run between two units. The guest is
/// not parked by the caller.
pub fn finish(task: &mut Task, domain: &Domain) {
    while domain.clear_more() {
        task.yield_now();
    }
}
