//! The scheduler: who has a core, and for how long.
//!
//! A core's time is divided by a frame, if it has one: in a guest's window only that guest's tasks
//! run, strictly; what they leave of it stays idle. All other time belongs to the tasks without a
//! window. Among those that may run, the one is chosen that has had the least, each measured by its
//! weight: that is stride scheduling, with slices of [`SLICE_MS`]. A task that is woken begins
//! where the others are, with a small credit, so that it runs soon if it has slept, and gains
//! nothing by sleeping often.
//!
//! Each group knows the task that goes on when the group's time comes. Its other tasks that want
//! the core stand in a [`Queue`], in the order of what they have had. So a decision looks at the
//! first of these, and not at all: it takes the same time whatever their number.
//!
//! Weights and the frame can be changed while the tasks run ([`change`]), and windows that begin
//! late are counted.
//!
//! This decides; the crate `run` carries out. A task is a vCPU, or the console's commands. Times
//! are ticks of the counter.

mod change;
mod decide;
mod frame;
mod place;
mod queue;
#[cfg(test)]
mod tests;

use alloc::string::{String, ToString};
use alloc::vec::Vec;

pub use self::change::Missed;
pub use self::decide::Turn;
pub use self::place::{NoSuchCore, choose_cores};
use frame::Frame;
use queue::Queue;
use stasis_guest::clock::NEVER;

/// How long a task runs if another one waits, in milliseconds.
pub const SLICE_MS: u64 = 4;

/// A task's number on its core.
pub type TaskId = usize;
/// Tasks that share a time: those without a window, and those of each guest that has windows.
type GroupId = usize;
/// The tasks without a window.
const SHARED: GroupId = 0;
/// What a task has had is counted in these parts of a tick, divided by its weight. A sum of them
/// fits for ever.
const SCALE: u64 = 1 << 20;
/// No turn lasts longer, so that a product with [`SCALE`] fits.
const LONGEST: u64 = 1 << 43;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Runnable,
    /// The task is woken, or wakes up by itself at that time.
    Asleep(u64),
    /// The task was removed; its number is free.
    Gone,
}

/// A task, or none: one number, which is compared by one instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Chosen(TaskId);

impl Chosen {
    /// No task.
    const NOBODY: Self = Self(TaskId::MAX);

    /// Returns the task, if it is one.
    #[inline]
    fn task(self) -> Option<TaskId> {
        (self != Self::NOBODY).then_some(self.0)
    }
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

#[derive(Clone, Debug)]
struct Group {
    /// The guest whose windows these are; of [`SHARED`] it is empty, which no guest's name is.
    name: String,
    /// The task that goes on in the group's time, if one is runnable. After a decision for the
    /// group, it has the core.
    current: Chosen,
    /// The other runnable tasks of the group.
    ready: Queue,
    /// No task of the group wakes up by itself before that.
    quiet_until: u64,
    /// The least that any of its runnable tasks has had, as of the last [`Scheduler::catch_up`]. It
    /// only grows.
    least: u128,
    /// Windows of the group that were missed: of which more than a tenth was over before a task
    /// that wanted to run could. And the ticks of the last one.
    missed: u64,
    late: u64,
}

impl Group {
    /// Returns a group without a task.
    fn new(name: &str) -> Self {
        let (name, ready) = (name.to_string(), Queue::default());
        let current = Chosen::NOBODY;
        Self { name, current, ready, quiet_until: NEVER, least: 0, missed: 0, late: 0 }
    }

    /// Notes that so many windows of the group have begun late, the first of them by `ticks`, if
    /// one of its tasks wants to run.
    #[cold]
    fn note_late(&mut self, ticks: u64, count: u64) {
        if self.current != Chosen::NOBODY || self.ready.first().is_some() {
            (self.missed, self.late) = (self.missed + count, ticks);
        }
    }
}

/// The tasks that were woken since the last decision, of those whose time it is.
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
    /// The guest of each task.
    names: Vec<String>,
    /// How many of them are not gone.
    count: usize,
    /// No task of any group wakes up by itself before that.
    quiet_until: u64,
    /// The task that has the core. It is runnable, and the current one of its group.
    current: Chosen,
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
    /// Returns the scheduler of a core with no tasks, whose counter runs with `frequency` Hz.
    pub fn new(frequency: u64) -> Self {
        Self {
            slice: frequency * SLICE_MS / 1000,
            frame: None,
            groups: Vec::from([Group::new("")]),
            tasks: Vec::new(),
            names: Vec::new(),
            count: 0,
            quiet_until: NEVER,
            current: Chosen::NOBODY,
            called: false,
            group: SHARED,
            since: 0,
            slice_end: 0,
            contended: false,
            turn_end: 0,
            roused: Roused::Several,
        }
    }

    /// Divides the core's time by a frame of `length_us`, the first of which begins at tick `epoch`
    /// of a counter with `frequency` Hz. Each window has its guest's name, its place in the frame
    /// and its length, in microseconds; they are in the order of time, and don't overlap. Before
    /// the first task is added.
    pub fn divide<'a>(
        &mut self,
        length_us: u64,
        windows: impl IntoIterator<Item = (&'a str, u64, u64)>,
        frequency: u64,
        epoch: u64,
    ) {
        let windows = windows.into_iter().map(|(guest, at_us, window_us)| {
            let group = self.group_of(guest).unwrap_or_else(|| {
                self.groups.push(Group::new(guest));
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
        match self.tasks.iter().position(|task| task.state == State::Gone) {
            Some(free) => {
                (self.tasks[free], self.names[free]) = (task, guest.to_string());
                free
            }
            None => {
                self.tasks.push(task);
                self.names.push(guest.to_string());
                self.tasks.len() - 1
            }
        }
    }

    /// Removes a task, whose number a later one gets. Not while it has the core: then it returns
    /// `false`.
    pub fn remove(&mut self, task: TaskId) -> bool {
        if self.current == Chosen(task) {
            return false;
        }
        let group = self.tasks[task].group;
        self.catch_up(group);
        self.tasks[task].state = State::Gone;
        let group = &mut self.groups[group];
        if group.current == Chosen(task) {
            group.current = Chosen::NOBODY;
        }
        group.ready.remove(task);
        // The task may have been the one that was roused.
        self.roused = Roused::Several;
        self.count -= 1;
        true
    }

    /// Returns the number of tasks.
    pub fn task_count(&self) -> usize {
        self.count
    }

    /// Returns which task has the core.
    pub fn current(&self) -> Option<TaskId> {
        self.current.task()
    }

    /// Accounts for the time up to `now`.
    #[inline]
    fn charge(&mut self, now: u64) {
        // Another core that wakes a task may have read the counter before this one did.
        let ran = now.saturating_sub(self.since);
        self.since += ran;
        let Some(current) = self.current.task() else { return };
        let task = &mut self.tasks[current];
        task.had += u128::from(ran.min(LONGEST) * SCALE / task.weight);
    }

    /// Brings [`Group::least`] up to date, and returns it. What the runnable tasks have had only
    /// grows; so that is enough before one of them ceases to be one, and where the least counts:
    /// when one becomes one.
    #[inline]
    fn catch_up(&mut self, group: GroupId) -> u128 {
        let group = &mut self.groups[group];
        let current = group.current.task().map(|current| self.tasks[current].had);
        let ready = group.ready.first().map(|first| first.had);
        let least = current.into_iter().chain(ready).min();
        group.least = group.least.max(least.unwrap_or(0));
        group.least
    }

    /// Notes that a task wakes up by itself at `until`.
    #[inline]
    fn note_wake(&mut self, group: GroupId, until: u64) {
        self.quiet_until = self.quiet_until.min(until);
        let group = &mut self.groups[group];
        group.quiet_until = group.quiet_until.min(until);
    }
}
