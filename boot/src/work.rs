//! What the console's task works with: handed down to all that it does.

use crate::storage::{Disk, Storage};
use alloc::string::String;
use stasis_run::turns::Task;
use stasis_store::Store;

/// The capability to let others run, and what belongs to the task alone. There is one of each, so none of it needs a lock.
pub struct Work<'a> {
    /// The task.
    pub task: &'a mut Task,
    /// Where checkpoints are kept.
    pub storage: &'a mut Storage,
}

impl Work<'_> {
    /// Does something with the store, or returns why there is none. The disk has the task meanwhile: see [`Disk::task`].
    pub fn with_store<T>(
        &mut self,
        action: impl FnOnce(&mut Store<Disk>) -> Result<T, String>,
    ) -> Result<T, String> {
        self.storage.with_store(self.task, action)
    }
}
