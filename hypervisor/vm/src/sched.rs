//! Who has a core, and for how long.
//!
//! A core's time is divided by a frame, if it has one: in a guest's window only that guest's tasks run, strictly; what
//! they leave of it stays idle. All other time belongs to the tasks without a window. Among those that may run, the
//! one is chosen that has had the least, each measured by its weight: that is stride scheduling, with slices of
//! [`SLICE_MS`]. A task that is woken begins where the others are, with a small credit, so that it runs soon
//! if it has slept, and gains nothing by sleeping often.
//!
//! This decides; `boot` carries out. A task is a vCPU, or the console's commands. Times are ticks of the counter.

mod frame;
mod place;
#[cfg(test)]
mod tests;

use alloc::string::{String, ToString};
use alloc::vec::Vec;

pub use self::place::{NoSuchCore, choose_cores};
use crate::clock::NEVER;
use frame::Frame;

/// How long a task runs if another one waits, in milliseconds.
pub const SLICE_MS: u64 = 4;

/// A task's number on its core.
pub type TaskId = usize;
/// Tasks that share a time: those without a window, and those of each guest that has windows.
type GroupId = usize;
/// The tasks without a window.
const SHARED: GroupId = 0;
/// What a task has had is counted in these parts of a tick, divided by its weight. A sum of them fits for ever.
const SCALE: u64 = 1 << 20;
/// No turn lasts longer, so that a product with [`SCALE`] fits.
const LONGEST: u64 = 1 << 43;

/// Who runs on a core, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The task; none: the core is idle.
    pub task: Option<TaskId>,
    /// When [`Scheduler::decide`] is to be called again at the latest; [`NEVER`]: when something happens.
    pub until: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Runnable,
    /// It is woken, or wakes up by itself at that time.
    Asleep(u64),
    /// It was removed; its number is free.
    Gone,
}

#[derive(Clone, Debug)]
struct Task {
    group: GroupId,
    weight: u64,
    state: State,
    /// What it has had, by its weight.
    had: u128,
    /// By how much it may be ahead of the others when it is woken: half a slice, by its weight.
    credit: u128,
}

impl Task {
    fn runs_in(&self, group: GroupId) -> bool {
        self.group == group && self.state == State::Runnable
    }
}

#[derive(Clone, Debug, Default)]
struct Group {
    /// The guest whose windows these are; of [`SHARED`] it is empty, which no guest's name is.
    name: String,
    /// Those that are not gone.
    tasks: Vec<TaskId>,
    /// The least that any of its runnable tasks has had, as of the last [`Scheduler::catch_up`]. It only grows.
    least: u128,
}

/// Who may have the core, of those whose time it is.
struct Candidates {
    /// The runnable one that has had the least; of several the first.
    best: Option<TaskId>,
    /// It is not the only one that is runnable.
    several: bool,
    /// When the first of the others wakes up by itself.
    wakes: u64,
}

/// Who was woken since the last decision, of those whose time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Roused {
    Nobody,
    Only(TaskId),
    /// Or the last decision holds no more.
    Several,
}

/// A core's tasks, and which of them has the core.
#[derive(Clone, Debug)]
pub struct Scheduler {
    slice: u64,
    frame: Option<Frame>,
    groups: Vec<Group>,
    tasks: Vec<Task>,
    /// How many of them are not gone.
    count: usize,
    /// No task wakes up by itself before that.
    quiet_until: u64,
    current: Option<TaskId>,
    /// The current task was woken since it was given the core.
    called: bool,
    /// Whose time it was at the last decision.
    group: GroupId,
    /// Up to when the time is accounted for.
    since: u64,
    /// When the current slice ends, if others wait.
    slice_end: u64,
    /// Others do wait, and so the turn ends with the slice.
    contended: bool,
    /// When the turn ends that was decided last.
    turn_end: u64,
    roused: Roused,
}

impl Scheduler {
    /// The scheduler of a core with no tasks, whose counter runs with `frequency` Hz.
    pub fn new(frequency: u64) -> Self {
        Self {
            slice: frequency * SLICE_MS / 1000,
            frame: None,
            groups: Vec::from([Group::default()]),
            tasks: Vec::new(),
            count: 0,
            quiet_until: NEVER,
            current: None,
            called: false,
            group: SHARED,
            since: 0,
            slice_end: 0,
            contended: false,
            turn_end: 0,
            roused: Roused::Several,
        }
    }

    /// Divides the core's time by a frame of `length_us`, the first of which begins at tick `epoch` of a counter with
    /// `frequency` Hz. Each window has its guest's name, its place in the frame and its length, in microseconds; they are in the
    /// order of time, and don't overlap. Before the first task is added.
    pub fn divide<'a>(
        &mut self,
        length_us: u64,
        windows: impl IntoIterator<Item = (&'a str, u64, u64)>,
        frequency: u64,
        epoch: u64,
    ) {
        let windows = windows.into_iter().map(|(guest, at_us, window_us)| {
            let group = self.group_of(guest).unwrap_or_else(|| {
                self.groups.push(Group { name: guest.to_string(), ..Group::default() });
                self.groups.len() - 1
            });
            (group, at_us, window_us)
        });
        self.frame = Some(Frame::new(length_us, windows, frequency, epoch));
    }

    /// The group of a guest that has windows.
    fn group_of(&self, guest: &str) -> Option<GroupId> {
        self.groups.iter().skip(1).position(|group| group.name == guest).map(|n| n + 1)
    }

    /// Adds a task of `guest`, which sleeps.
    pub fn add(&mut self, guest: &str, weight: u16) -> TaskId {
        let group = self.group_of(guest).unwrap_or(SHARED);
        self.count += 1;
        let weight = weight.max(1).into();
        let task = Task {
            group,
            weight,
            state: State::Asleep(NEVER),
            had: self.catch_up(group),
            credit: (self.slice / 2 * SCALE / weight).into(),
        };
        let id = match self.tasks.iter().position(|task| task.state == State::Gone) {
            Some(free) => {
                self.tasks[free] = task;
                free
            }
            None => {
                self.tasks.push(task);
                self.tasks.len() - 1
            }
        };
        self.groups[group].tasks.push(id);
        id
    }

    /// Removes a task, whose number a later one gets. Not while it has the core: then it returns `false`.
    pub fn remove(&mut self, task: TaskId) -> bool {
        if self.current == Some(task) {
            return false;
        }
        let group = self.tasks[task].group;
        self.catch_up(group);
        self.tasks[task].state = State::Gone;
        self.groups[group].tasks.retain(|other| *other != task);
        // It may have been the one.
        self.roused = Roused::Several;
        self.count -= 1;
        true
    }

    /// Number of tasks.
    pub fn task_count(&self) -> usize {
        self.count
    }

    /// Who has the core.
    pub fn current(&self) -> Option<TaskId> {
        self.current
    }

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

    /// Has the current task sleep until it is woken, or it is `until`. Not if it was woken since it got the core: then it
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

    /// Has a task go on for whose wake-up alone the core has waited, idle, since the last decision: what [`Self::decide`] would find,
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

    /// Who runs from now on.
    #[inline(always)]
    pub fn decide(&mut self, now: u64) -> Turn {
        self.charge(now);
        if now >= self.quiet_until {
            self.rouse_due(now);
        }
        let mut until = NEVER;
        if let Some(frame) = &mut self.frame {
            let stretch = frame.at(now);
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
        Turn { task: next, until }
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

    /// Accounts for the time up to `now`.
    #[inline]
    fn charge(&mut self, now: u64) {
        // Another core that wakes a task may have read the counter before this one did.
        let ran = now.saturating_sub(self.since);
        self.since += ran;
        let Some(current) = self.current else { return };
        let task = &mut self.tasks[current];
        task.had += u128::from(ran.min(LONGEST) * SCALE / task.weight);
    }

    /// Brings [`Group::least`] up to date, and returns it. What the runnable tasks have had only grows; so that is enough before one
    /// of them ceases to be one, and where the least counts: when one becomes one.
    #[inline]
    fn catch_up(&mut self, group: GroupId) -> u128 {
        let group = &mut self.groups[group];
        let tasks = group.tasks.iter().map(|id| &self.tasks[*id]);
        let runnable = tasks.filter(|task| task.state == State::Runnable);
        let least = runnable.map(|task| task.had).min();
        group.least = group.least.max(least.unwrap_or(0));
        group.least
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
