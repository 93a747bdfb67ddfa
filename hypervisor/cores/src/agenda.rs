//! What a core has to decide: whose turn it is, which others change by waking a task.
//!
//! A core [begins](Agenda::begin) a decision by saying that none is outstanding; then it takes the lock of its tasks. Whoever wakes a
//! task has that lock first, and then says that a decision is outstanding. So what the decision has not seen leaves the flag set.

use crate::sync::{AtomicBool, Lock, LockGuard, Ordering};

/// A core's tasks, of which one may have the core.
pub trait Schedule {
    /// Returns who has the core.
    fn current(&self) -> Option<usize>;
    /// Wakes a task. Returns whether the core must decide before it would have done so by itself. `now` is the counter, asked for only if
    /// something changes.
    fn wake(&mut self, task: usize, now: impl FnOnce() -> u64) -> bool;
}

/// A core's tasks, and whether the core must decide anew which of them has it.
#[derive(Debug)]
pub struct Agenda<S> {
    tasks: Lock<S>,
    /// The last decision holds no more.
    is_stale: AtomicBool,
}

impl<S> Agenda<S> {
    /// Returns the agenda of a core with these tasks, about which it has decided.
    pub fn new(tasks: S) -> Self {
        Self { tasks: Lock::new(tasks), is_stale: AtomicBool::new(false) }
    }

    /// Returns the tasks, locked, for what changes no decision.
    #[inline]
    pub fn lock(&self) -> LockGuard<'_, S> {
        self.tasks.lock()
    }

    /// Makes the core decide anew. It is to be interrupted then, if it is not the one that calls this.
    #[inline]
    pub fn spoil(&self) {
        self.is_stale.store(true, Ordering::Relaxed);
    }

    /// Returns whether the core that calls this must decide anew.
    #[inline(always)]
    pub fn must_decide(&self) -> bool {
        self.is_stale.load(Ordering::Relaxed)
    }

    /// Returns the tasks, locked, for a decision of the core that calls this: it counts for all that was changed before.
    #[inline(always)]
    pub fn begin(&self) -> LockGuard<'_, S> {
        // Before the tasks are unlocked again: who changes them after the decision sets the flag after that.
        self.is_stale.store(false, Ordering::Relaxed);
        self.tasks.lock()
    }
}

impl<S: Schedule> Agenda<S> {
    /// Wakes a task, or makes its core look at what it is asked to do. `interrupt` interrupts the core. What the task is to find was written
    /// before: it goes on, or is refused its next sleep.
    #[inline]
    pub fn kick(&self, task: usize, now: impl FnOnce() -> u64, interrupt: impl FnOnce()) {
        let mut tasks = self.tasks.lock();
        // Not asleep, and so there is no decision to be made.
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

    /// Makes a task's core look at what it is asked to do, if the task has the core or may still be loaded there. `interrupt` interrupts the
    /// core.
    pub fn call(&self, task: usize, interrupt: impl FnOnce()) {
        let current = self.tasks.lock().current();
        if current.is_none_or(|current| current == task) {
            interrupt();
        }
    }
}
