//! Whose turn it is, and what wakes and sleeps on the way there.

use super::{Roused, SHARED, Scheduler, State, TaskId};
use stasis_guest::clock::NEVER;

/// The task that runs on a core, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The task; none: the core is idle.
    pub task: Option<TaskId>,
    /// When [`Scheduler::decide`] is to be called again at the latest; [`NEVER`]: when something happens.
    pub until: u64,
    /// Whether another task waits for the core.
    pub is_contended: bool,
}

/// The tasks that may have the core, of those whose time it is.
struct Candidates {
    /// The runnable one that has had the least; of several the first.
    best: Option<TaskId>,
    /// Whether more than one of them is runnable.
    several: bool,
    /// When the first of the others wakes up by itself.
    wakes: u64,
}

impl Scheduler {
    /// Wakes a task. Returns whether the core is to [decide](Self::decide) anew, before it would have done so by
    /// itself. `now` is asked for only if something changes.
    #[inline]
    pub fn wake(&mut self, task: TaskId, now: impl FnOnce() -> u64) -> bool {
        match self.tasks[task].state {
            State::Runnable => {
                self.called |= self.current == Some(task);
                return false;
            }
            // Who wakes it has not heard yet.
            State::Gone => return false,
            State::Asleep(_) => {}
        }
        self.charge(now());
        let preempts = self.rouse(task);
        if self.tasks[task].group != self.group {
            return false;
        }
        preempts || !core::mem::replace(&mut self.contended, true)
    }

    /// Makes the current task sleep until it is woken, or it is `until`. Not if it was woken since it got the core: then it
    /// returns `false`, and the task may have overlooked why.
    pub fn sleep(&mut self, task: TaskId, until: u64, now: u64) -> bool {
        debug_assert_eq!(self.current, Some(task), "only who runs can go to sleep");
        if core::mem::take(&mut self.called) {
            return false;
        }
        self.charge(now);
        self.catch_up(self.tasks[task].group);
        self.tasks[task].state = State::Asleep(until);
        self.quiet_until = self.quiet_until.min(until);
        self.current = None;
        self.roused = Roused::Several;
        true
    }

    /// Makes a task go on for whose wake-up alone the core has waited, idle, since the last decision: what [`Self::decide`] would find,
    /// at once. Returns until when at the latest; none: it is to decide.
    #[inline]
    pub fn resume(&mut self, task: TaskId, now: u64) -> Option<u64> {
        let alone = self.current.is_none() && self.roused == Roused::Only(task);
        if !alone || now >= self.turn_end {
            return None;
        }
        self.charge(now);
        self.current = Some(task);
        (self.called, self.contended) = (false, false);
        self.roused = Roused::Several;
        self.slice_end = now + self.slice;
        Some(self.turn_end)
    }

    /// Returns who runs as of the last decision.
    #[inline]
    pub fn turn(&self) -> Turn {
        Turn { task: self.current, until: self.turn_end, is_contended: self.contended }
    }

    /// Returns who runs from now on.
    #[inline(always)]
    pub fn decide(&mut self, now: u64) -> Turn {
        self.charge(now);
        if now >= self.quiet_until {
            self.rouse_due(now);
        }
        let mut until = NEVER;
        if let Some(frame) = &mut self.frame {
            let (groups, tasks) = (&mut self.groups, &self.tasks);
            let is_late = |group: usize, ticks, count| groups[group].note_late(tasks, ticks, count);
            let stretch = frame.at(now, is_late);
            (self.group, until) = (stretch.group.unwrap_or(SHARED), stretch.end);
        }
        let Candidates { best, several, wakes } = self.candidates();
        let keeps =
            |current: TaskId| now < self.slice_end && self.tasks[current].runs_in(self.group);
        let next = match self.current {
            Some(current) if keeps(current) => Some(current),
            _ => {
                self.slice_end = now + self.slice;
                best
            }
        };
        if next != self.current {
            self.called = false;
        }
        self.current = next;
        self.contended = several;
        until = until.min(wakes);
        if several {
            until = until.min(self.slice_end);
        }
        (self.turn_end, self.roused) = (until, Roused::Nobody);
        Turn { task: next, until, is_contended: several }
    }

    /// Looks once at all whose time it is.
    #[inline]
    fn candidates(&self) -> Candidates {
        let mut found = Candidates { best: None, several: false, wakes: NEVER };
        let mut least = u128::MAX;
        for &id in &self.groups[self.group].tasks {
            let task = &self.tasks[id];
            match task.state {
                State::Runnable => {
                    found.several |= found.best.is_some();
                    if found.best.is_none() || task.had < least {
                        (found.best, least) = (Some(id), task.had);
                    }
                }
                State::Asleep(wakes) => found.wakes = found.wakes.min(wakes),
                State::Gone => {}
            }
        }
        found
    }

    /// Rouses who wakes up by itself.
    fn rouse_due(&mut self, now: u64) {
        self.quiet_until = NEVER;
        for id in 0..self.tasks.len() {
            match self.tasks[id].state {
                State::Asleep(until) if until <= now => {
                    self.rouse(id);
                }
                State::Asleep(until) => self.quiet_until = self.quiet_until.min(until),
                State::Runnable | State::Gone => {}
            }
        }
    }

    /// Makes a sleeping task runnable. It has had as much as the others, or a little less. Returns whether that ends the
    /// current one's turn.
    #[inline]
    fn rouse(&mut self, id: TaskId) -> bool {
        let group = self.tasks[id].group;
        // On an idle core nobody is runnable whose time it is.
        let is_idle = self.current.is_none() && self.roused == Roused::Nobody;
        let least = match is_idle && group == self.group {
            true => self.groups[group].least,
            false => self.catch_up(group),
        };
        let task = &mut self.tasks[id];
        task.had = task.had.max(least.saturating_sub(task.credit));
        task.state = State::Runnable;
        let had = task.had;
        if group == self.group {
            self.roused = match self.roused {
                Roused::Nobody => Roused::Only(id),
                _ => Roused::Several,
            };
        }
        let current = self.current.map(|current| &self.tasks[current]);
        let preempts = current.is_none_or(|current| current.group == group && had < current.had);
        if preempts {
            self.slice_end = 0;
        }
        preempts
    }
}
