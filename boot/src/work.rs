//! [`Work`]: what the console's task works with. It is passed down to everything that the task does.

use crate::storage::{Disk, NoStore, Storage};
use stasis_run::turns::Task;
use stasis_store::Store;

/// The capability to let others run, and what belongs to the task alone. There is one of each, so no lock is needed.
pub struct Work<'a> {
    /// The task.
    pub task: &'a mut Task,
    /// The place where checkpoints are kept.
    pub storage: &'a mut Storage,
}

impl Work<'_> {
    /// Calls `action` with the store, and returns its result. The disk has the task meanwhile: see [`Disk::task`].
    ///
    /// # Errors
    ///
    /// Why there is no store, or the error of `action`.
    pub fn with_store<T, E: From<NoStore>>(
        &mut self,
        action: impl FnOnce(&mut Store<Disk>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.storage.with_store(self.task, action)
    }
}
