//! [`Work`]: what the console's task works with. It is passed down to everything that the task does.

use crate::storage::Storage;
use stasis_run::turns::Task;

/// The capability to let others run, and what belongs to the task alone. There is one of each, so
/// no lock is needed.
pub struct Work<'a> {
    /// The task.
    pub task: &'a mut Task,
    /// The place where checkpoints are kept.
    pub storage: &'a mut Storage,
}
