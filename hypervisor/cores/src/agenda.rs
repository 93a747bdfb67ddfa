//! A core's decision whose turn it is, which others make stale by waking a task.
//!
//! A core [begins](Agenda::begin) a decision by clearing the flag that one is outstanding. Then it
//! takes the lock of its tasks. Whoever wakes a task has had that lock before it sets the flag. So
//! a change that the decision has not seen leaves the flag set.

use crate::sync::{AtomicBool, Lock, LockGuard, Ordering};

/// Tasks of a core, of which one may have the core.
pub trait Schedule {
    /// Returns the task that has the core; `None` if none has.
    fn current(&self) -> Option<usize>;
    /// Wakes a task. Returns whether the core must decide earlier than it would by itself. `now`
    /// returns the counter, and is called only if something changes.
    fn wake(&mut self, task: usize, now: impl FnOnce() -> u64) -> bool;
}

/// Tasks of a core, and whether the core must decide anew which of them has it.
#[derive(Debug)]
pub struct Agenda<S> {
    tasks: Lock<S>,
    /// Whether a decision is outstanding.
    is_stale: AtomicBool,
}

impl<S> Agenda<S> {
    /// Returns the agenda of a core with these tasks, and without an outstanding decision.
    pub fn new(tasks: S) -> Self {
        Self { tasks: Lock::new(tasks), is_stale: AtomicBool::new(false) }
    }

    /// Returns the tasks, locked, for accesses that make no decision stale.
    #[inline]
    pub fn lock(&self) -> LockGuard<'_, S> {
        self.tasks.lock()
    }

    /// Makes the core decide anew. A caller on another core then interrupts this one.
    #[inline]
    pub fn spoil(&self) {
        self.is_stale.store(true, Ordering::Relaxed);
    }

    /// Returns whether a decision of the calling core is outstanding.
    #[inline(always)]
    pub fn must_decide(&self) -> bool {
        self.is_stale.load(Ordering::Relaxed)
    }

    /// Returns the tasks, locked, for a decision of the calling core. The decision counts for all
    /// earlier changes.
    #[inline(always)]
    pub fn begin(&self) -> LockGuard<'_, S> {
        // Clear the flag before the tasks are unlocked again: whoever changes them after the
        // decision sets it after that.
        self.is_stale.store(false, Ordering::Relaxed);
        self.tasks.lock()
    }
}

impl<S: Schedule> Agenda<S> {
    /// Wakes a task, or makes its core look at what the task is asked to do. `interrupt` interrupts
    /// the core. The caller has written before what the task must find: the task goes on, or is
    /// refused its next sleep.
    #[inline]
    pub fn kick(&self, task: usize, now: impl FnOnce() -> u64, interrupt: impl FnOnce()) {
        let mut tasks = self.tasks.lock();
        // A task that has the core is awake, so there is no decision to make.
        let has_core = tasks.current() == Some(task);
        let decides = tasks.wake(task, now);
        drop(tasks);
        if decides {
            self.spoil();
        }
        if decides || has_core {
            interrupt();
        }
    }

    /// Makes a task's core look at what the task is asked to do, if the task has the core or may
    /// still be loaded there. `interrupt` interrupts the core.
    pub fn call(&self, task: usize, interrupt: impl FnOnce()) {
        let current = self.tasks.lock().current();
        if current.is_none_or(|current| current == task) {
            interrupt();
        }
    }
}
