//! The rule for long work: it is done in pieces, and nothing that others could want is locked
//! between two of them.
//!
//! A core has many vCPUs, and core 0 also has the console's task, which carries out commands. A
//! checkpoint takes seconds, so the task lets the vCPUs run whose turn it is, again and again. They
//! run on top of its stack, and take the locks that they need: one that the task held then would
//! never be released.
//!
//! Two types make this a rule that the compiler checks:
//!
//! - [`Yield`] is the capability to let others run. One task has it and hands it down by `&mut`; a
//!   function that is not given it can't let others run, and one that is says so in its signature.
//! - [`TaskLock`] is a lock that others want, too. Its guard borrows the capability, so the task
//!   can't yield before the guard is gone.
//!
//! What only the task uses needs neither: it is handed down beside the capability, or its lock is
//! taken by nobody else, and says so.

use spin::mutex::{SpinMutex, SpinMutexGuard};

/// The capability to let others have the core. A core has one task that has it; so it is neither
/// `Copy` nor `Clone`.
pub trait Yield {
    /// Lets others run whose turn it is, and returns when it is the task's turn again: at once, if
    /// nobody else is to run.
    fn yield_now(&mut self);
}

/// A lock that the task shares with those that run when it [yields](Yield::yield_now).
///
/// The task can't yield while it holds the lock:
///
/// ```compile_fail,E0502
/// use stasis_host::task::{TaskLock, Yield};
///
/// fn count(task: &mut impl Yield, steps: &TaskLock<u32>) {
///     let mut steps = steps.lock(task);
///     *steps += 1;
///     task.yield_now();
/// }
/// ```
///
/// Before and after, it can:
///
/// ```
/// use stasis_host::task::{TaskLock, Yield};
///
/// fn count(task: &mut impl Yield, steps: &TaskLock<u32>) {
///     *steps.lock(task) += 1;
///     task.yield_now();
///     *steps.lock(task) += 1;
/// }
/// ```
#[derive(Debug)]
pub struct TaskLock<T>(SpinMutex<T>);

impl<T> TaskLock<T> {
    /// Puts a value behind the lock.
    pub const fn new(value: T) -> Self {
        Self(SpinMutex::new(value))
    }

    /// Takes the lock for the task, which can't yield before the guard is dropped.
    pub fn lock<'a, Y: Yield + ?Sized>(&'a self, _task: &'a Y) -> SpinMutexGuard<'a, T> {
        self.0.lock()
    }

    /// Takes the lock for whoever is not the task, and so can't yield: a core that runs a vCPU, or
    /// a function that was not given the capability.
    pub fn lock_without_task(&self) -> SpinMutexGuard<'_, T> {
        self.0.lock()
    }

    /// Takes the lock if it is free: for a panic, which may have come while it was held.
    pub fn try_lock(&self) -> Option<SpinMutexGuard<'_, T>> {
        self.0.try_lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A task on whose stack somebody runs who counts.
    struct Fake<'a>(&'a TaskLock<u32>);

    impl Yield for Fake<'_> {
        fn yield_now(&mut self) {
            *self.0.lock_without_task() += 10;
        }
    }

    #[test]
    fn who_runs_in_a_yield_finds_the_lock_free() {
        let steps = TaskLock::new(0);
        let mut task = Fake(&steps);
        *steps.lock(&task) += 1;
        task.yield_now();
        *steps.lock(&task) += 1;
        assert_eq!(*steps.lock(&task), 12);
        let held = steps.lock(&task);
        assert!(steps.try_lock().is_none());
        drop(held);
    }
}
