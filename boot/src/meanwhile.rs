//! What the console's task does in the pauses of long work: the seam by which the work, which
//! stands below, lets those be served that stand above it.
//!
//! [`crate::duties`] registers itself here. A checkpoint, a load, or a command that waits calls
//! these functions, and knows neither the channel nor the other chores.

use crate::work::Work;
use spin::Once;
use stasis_run::turns::Task;

/// Whoever is served in the pauses of long work.
pub trait Meanwhile: Sync {
    /// Answers what needs nothing but the task, while a command is under way that may have anything
    /// else.
    fn answer(&self, task: &mut Task);

    /// Does one thing that is due without a command. Returns whether there was one. No guest is
    /// parked by the caller.
    fn serve(&self, work: &mut Work) -> bool;

    /// Returns the value of the counter at which something is due without a command; `None` if
    /// nothing is planned.
    fn next_due(&self, work: &Work) -> Option<u64>;
}

/// Whoever is served. Nobody is before [`init`], when there is no guest yet.
static MEANWHILE: Once<&'static dyn Meanwhile> = Once::new();

/// Registers whoever is served, once.
pub fn init(meanwhile: &'static dyn Meanwhile) {
    MEANWHILE.call_once(|| meanwhile);
}

/// Answers what can be answered while a command is under way.
pub fn answer(task: &mut Task) {
    if let Some(meanwhile) = MEANWHILE.get() {
        meanwhile.answer(task);
    }
}

/// Lets others run whose turn it is, as [`Task::yield_now`] does, and answers what can be answered
/// meanwhile.
pub fn yield_now(task: &mut Task) {
    task.yield_now();
    answer(task);
}

/// Does one thing that is due without a command. Returns whether there was one. No guest is parked
/// by the caller.
pub fn serve(work: &mut Work) -> bool {
    MEANWHILE.get().is_some_and(|meanwhile| meanwhile.serve(work))
}

/// Returns the value of the counter at which something is due without a command; `None` if nothing
/// is planned.
pub fn next_due(work: &Work) -> Option<u64> {
    MEANWHILE.get()?.next_due(work)
}
