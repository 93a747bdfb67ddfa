//! The chores that people and programs give the task of core 0: none. It makes guests, starts those
//! again that have stopped, and shows what they print.

use crate::machine::Machine;
use crate::terminal;
use crate::work::Work;
use stasis_run::turns::Task;

/// Makes nothing ready: there are no checkpoints that would have identities.
pub fn prepare(_: &Machine) {}

/// Opens nothing. What is typed is not read.
pub fn open(_: &Machine) {}

/// Shows a line that a guest has printed: there are no commands. Returns whether there may be more.
pub fn command(work: &mut Work) -> bool {
    terminal::show_line(work.task)
}

/// Returns that there is no debugger.
pub fn duty(_: &mut Work) -> bool {
    false
}

/// Returns that nothing is loaded, and no guest has a disk.
pub fn load(_: &mut Work) -> bool {
    false
}

/// Returns that nothing is planned.
pub fn next_due(_: &Work) -> Option<u64> {
    None
}

/// Answers nothing: nobody asks.
pub fn answer(_: &mut Task) {}

/// Calls `work`, and returns its result: no command is under way.
pub fn undisturbed<T>(work: impl FnOnce() -> T) -> T {
    work()
}
