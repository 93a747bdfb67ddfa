//! Cores that interrupt each other, with tasks.

use crate::agenda::{Agenda, Schedule};
use loom::sync::Notify;
use loom::sync::atomic::{AtomicBool, Ordering};
use stasis_guest::clock::NEVER;
use stasis_host::sched::{SLICE_MS, Scheduler};
use std::vec::Vec;

/// The interrupt by which others make a core look. What the sender has written before is there for
/// who takes it, and not the other way round: that are the barriers of `gic::kick` and
/// `interrupts::take` in the crate `run`.
pub struct Line {
    is_pending: AtomicBool,
    wakes: Notify,
}

impl Line {
    pub fn new() -> Self {
        Self { is_pending: AtomicBool::new(false), wakes: Notify::new() }
    }

    pub fn raise(&self) {
        // A swap, for loom does not order a store after a swap that did not see it.
        self.is_pending.swap(true, Ordering::Release);
        self.wakes.notify();
    }

    /// Waits until the interrupt is pending, in WFI or in a guest, and takes it.
    pub fn wait(&self) {
        while !self.take() {
            self.wakes.wait();
        }
    }

    /// Takes the interrupt if it is pending, and returns whether it was.
    pub fn take(&self) -> bool {
        self.is_pending.swap(false, Ordering::Acquire)
    }
}

/// A core as others see it, with a scheduler.
pub struct Core {
    pub agenda: Agenda<Tasks>,
    pub line: Line,
}

pub struct Tasks {
    pub scheduler: Scheduler,
    /// The counter, which goes on by a slice at each decision.
    now: u64,
}

impl Schedule for Tasks {
    fn current(&self) -> Option<usize> {
        self.scheduler.current()
    }

    fn wake(&mut self, task: usize, now: impl FnOnce() -> u64) -> bool {
        self.scheduler.wake(task, now)
    }
}

/// Ticks in a second.
const HZ: u64 = 1000;

impl Core {
    /// Returns a core with `tasks` tasks, which sleep.
    pub fn new(tasks: usize) -> Self {
        let mut scheduler = Scheduler::new(HZ);
        let ids: Vec<_> = (0..tasks).map(|_| scheduler.add("", 100)).collect();
        assert!(ids.iter().copied().eq(0..tasks), "tasks are numbered from 0 on");
        Self { agenda: Agenda::new(Tasks { scheduler, now: 0 }), line: Line::new() }
    }

    /// Kicks a task from another core, as `Roster::kick` does.
    pub fn kick(&self, task: usize) {
        self.agenda.kick(task, || 0, || self.line.raise());
    }

    /// Calls a task from another core, as `Roster::call` does.
    pub fn call(&self, task: usize) {
        self.agenda.call(task, || self.line.raise());
    }

    /// Decides whose turn comes, as `Roster::decide` does.
    pub fn decide(&self) -> Option<usize> {
        self.decide_until().0
    }

    /// Decides whose turn comes, and whether EL2's timer ends that turn.
    pub fn decide_until(&self) -> (Option<usize>, bool) {
        let mut tasks = self.agenda.begin();
        tasks.now += SLICE_MS;
        let now = tasks.now;
        let turn = tasks.scheduler.decide(now);
        (turn.task, turn.until != NEVER)
    }

    /// Resumes a task without a decision if that is possible, as `Roster::resume` does, and returns
    /// whether it was.
    pub fn resume(&self, task: usize) -> bool {
        let mut tasks = self.agenda.begin();
        let now = tasks.now;
        tasks.scheduler.resume(task, now).is_some()
    }

    /// Lets a task sleep until it is kicked, as `Roster::sleep` does. Returns whether it sleeps.
    pub fn sleep(&self, task: usize) -> bool {
        let mut tasks = self.agenda.lock();
        let now = tasks.now;
        tasks.scheduler.sleep(task, NEVER, now)
    }
}
