//! Whose turn it is, and what wakes and sleeps on the way there.

use super::{Chosen, Group, Roused, SHARED, Scheduler, State, Task, TaskId};
use stasis_guest::clock::NEVER;

/// The task that runs on a core, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The task; none: the core is idle.
    pub task: Option<TaskId>,
    /// When [`Scheduler::decide`] is to be called again at the latest; [`NEVER`]: when something
    /// happens.
    pub until: u64,
    /// Whether another task waits for the core.
    pub is_contended: bool,
}

impl Group {
    /// Makes the task the group's current one that has had the least, of its runnable ones among
    /// `tasks`.
    #[inline]
    fn choose(&mut self, tasks: &[Task]) {
        let Some(first) = self.ready.first() else { return };
        let chosen = match self.current.task() {
            None => self.ready.pop(),
            Some(current) if tasks[current].had < first.had => Some(current),
            Some(current) => Some(self.ready.exchange(current, tasks[current].had)),
        };
        self.current = chosen.map_or(Chosen::NOBODY, Chosen);
    }
}

impl Scheduler {
    /// Wakes a task. Returns whether the core is to [decide](Self::decide) anew, before it would
    /// have done so by itself. `now` is asked for only if something changes.
    #[inline]
    pub fn wake(&mut self, task: TaskId, now: impl FnOnce() -> u64) -> bool {
        match self.tasks[task].state {
            State::Runnable => {
                self.called |= self.current == Chosen(task);
                false
            }
            // Whoever wakes the task has not heard yet.
            State::Gone => false,
            State::Asleep(_) => self.wake_sleeping(task, now()),
        }
    }

    /// Wakes a task that sleeps, at `now`, and returns what [`Self::wake`] does. Not inlined:
    /// mostly a task is awake that is sent an interrupt.
    #[inline(never)]
    fn wake_sleeping(&mut self, task: TaskId, now: u64) -> bool {
        self.charge(now);
        let preempts = self.rouse(task);
        if self.tasks[task].group != self.group {
            return false;
        }
        preempts || !core::mem::replace(&mut self.contended, true)
    }

    /// Makes the current task sleep until it is woken, or it is `until`. Not if it was woken since
    /// it got the core: then it returns `false`, and the task may have overlooked why.
    pub fn sleep(&mut self, task: TaskId, until: u64, now: u64) -> bool {
        debug_assert_eq!(self.current, Chosen(task), "only who runs can go to sleep");
        if core::mem::take(&mut self.called) {
            return false;
        }
        self.charge(now);
        self.catch_up(self.tasks[task].group);
        self.tasks[task].state = State::Asleep(until);
        let group = self.tasks[task].group;
        self.note_wake(group, until);
        self.groups[group].current = Chosen::NOBODY;
        self.current = Chosen::NOBODY;
        self.roused = Roused::Several;
        true
    }

    /// Makes a task go on for whose wake-up alone the core has waited, idle, since the last
    /// decision: what [`Self::decide`] would find, at once. Returns until when at the latest; none:
    /// it is to decide.
    #[inline]
    pub fn resume(&mut self, task: TaskId, now: u64) -> Option<u64> {
        let alone = self.current == Chosen::NOBODY && self.roused == Roused::Only(task);
        if !alone || now >= self.turn_end {
            return None;
        }
        self.charge(now);
        // Nobody else of its group is in the queue.
        let group = &mut self.groups[self.group];
        group.current = group.ready.pop().map_or(Chosen::NOBODY, Chosen);
        self.current = group.current;
        (self.called, self.contended) = (false, false);
        self.roused = Roused::Several;
        self.slice_end = now + self.slice;
        Some(self.turn_end)
    }

    /// Returns who runs as of the last decision.
    #[inline]
    pub fn turn(&self) -> Turn {
        Turn { task: self.current.task(), until: self.turn_end, is_contended: self.contended }
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
            let groups = &mut self.groups;
            let stretch =
                frame.at(now, |group, ticks, count| groups[group].note_late(ticks, count));
            (self.group, until) = (stretch.group.unwrap_or(SHARED), stretch.end);
        }
        let group = &mut self.groups[self.group];
        if now >= self.slice_end || group.current != self.current || group.current == Chosen::NOBODY
        {
            self.slice_end = now + self.slice;
            group.choose(&self.tasks);
            if group.current != self.current {
                (self.current, self.called) = (group.current, false);
            }
        }
        until = until.min(group.quiet_until);
        self.contended = group.ready.first().is_some();
        if self.contended {
            until = until.min(self.slice_end);
        }
        (self.turn_end, self.roused) = (until, Roused::Nobody);
        Turn { task: self.current.task(), until, is_contended: self.contended }
    }

    /// Rouses who wakes up by itself, and finds out when the next ones do.
    #[inline(never)]
    fn rouse_due(&mut self, now: u64) {
        self.quiet_until = NEVER;
        self.groups.iter_mut().for_each(|group| group.quiet_until = NEVER);
        for id in 0..self.tasks.len() {
            match self.tasks[id].state {
                State::Asleep(until) if until <= now => {
                    self.rouse(id);
                }
                State::Asleep(until) => self.note_wake(self.tasks[id].group, until),
                State::Runnable | State::Gone => {}
            }
        }
    }

    /// Makes a sleeping task runnable. It has had as much as the others, or a little less. Returns
    /// whether that ends the current one's turn.
    #[inline]
    fn rouse(&mut self, id: TaskId) -> bool {
        let group = self.tasks[id].group;
        let least = self.catch_up(group);
        let task = &mut self.tasks[id];
        task.had = task.had.max(least.saturating_sub(task.credit));
        task.state = State::Runnable;
        let had = task.had;
        self.groups[group].ready.insert(id, had);
        if group == self.group {
            self.roused = match self.roused {
                Roused::Nobody => Roused::Only(id),
                _ => Roused::Several,
            };
        }
        let current = self.current.task().map(|current| &self.tasks[current]);
        let preempts = current.is_none_or(|current| current.group == group && had < current.had);
        if preempts {
            self.slice_end = 0;
        }
        preempts
    }
}
