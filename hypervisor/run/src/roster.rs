//! Who has each core, and for how long: what [`stasis_host::sched`] decides, with the vCPUs behind its tasks.
//!
//! Each core has a [`Roster`] with a lock of its own, which is the last one that is taken. Whoever wakes a vCPU ([`Roster::kick`])
//! tells its core, if that makes a difference to it; the core itself [decides](Roster::decide).

use crate::gic;
use crate::slot::Slot;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use spin::LazyLock;
use stasis_arch::boot::MAX_CORES;
use stasis_arch::{cpu, timer};
use stasis_cores::agenda::{Agenda, Schedule};
use stasis_cores::sync::LockGuard;
use stasis_host::config::{self, CoreConfig, DEFAULT_WEIGHT};
use stasis_host::sched::{self, Scheduler, TaskId};

/// The core that the console's commands run on.
const CONSOLE_CORE: usize = config::CONSOLE_CORE as usize;
/// The console's commands are that core's first task. They have no guest's name, and so no window.
pub const CONSOLE: TaskId = 0;

/// Who a task is.
#[derive(Clone)]
pub enum Who {
    /// The console's commands.
    Console,
    /// A guest's vCPU.
    Vcpu {
        /// The guest.
        slot: Arc<Slot>,
        /// The vCPU's index in it.
        index: usize,
    },
    /// A guest that is being made, or was removed.
    Vacant(TaskId),
    /// No task: the core is idle.
    Nobody,
}

/// Who has a core from now on.
pub struct Turn {
    /// Who.
    pub who: Who,
    /// Until when at the latest, as the counter.
    pub until: u64,
}

/// Whose turn it is on a core.
pub struct Roster {
    core: usize,
    agenda: Agenda<Tasks>,
    /// What [`Self::is_shared`] says. Who is added later makes no difference to the vCPU that has the core before the next decision.
    is_shared: AtomicBool,
}

struct Tasks {
    scheduler: Scheduler,
    /// By task.
    who: Vec<Who>,
}

static ROSTERS: LazyLock<[Roster; MAX_CORES]> = LazyLock::new(|| core::array::from_fn(Roster::new));

/// That of a core.
pub fn of(core: usize) -> &'static Roster {
    &ROSTERS[core]
}

/// That of this core.
pub fn here() -> &'static Roster {
    of(cpu::number())
}

/// That of the core that the console's commands run on.
pub fn of_console() -> &'static Roster {
    of(CONSOLE_CORE)
}

impl Roster {
    fn new(core: usize) -> Self {
        let mut tasks = Tasks { scheduler: Scheduler::new(timer::frequency()), who: Vec::new() };
        if core == CONSOLE_CORE {
            tasks.scheduler.add("", DEFAULT_WEIGHT);
            tasks.who.push(Who::Console);
        }
        Self { core, agenda: Agenda::new(tasks), is_shared: AtomicBool::new(false) }
    }

    /// The core's number.
    pub fn core(&self) -> usize {
        self.core
    }

    /// Whether it is that of the core that the console's commands run on.
    pub fn has_console(&self) -> bool {
        self.core == CONSOLE_CORE
    }

    /// Divides the core's time by a frame. Before it has a vCPU.
    pub fn divide(&self, plan: &CoreConfig) {
        let windows = plan.windows.iter();
        let windows = windows.map(|window| (window.guest.as_str(), window.at_us, window.length_us));
        // All cores' frames begin with the counter, and so together.
        self.agenda.lock().scheduler.divide(plan.frame_us, windows, timer::frequency(), 0);
        // It may sleep already, by a decision that knows of no window and would wait for ever.
        self.decide_anew();
    }

    /// Adds a task for a vCPU of `guest`, which sleeps until it is [assigned](Self::assign).
    pub fn add(&self, guest: &str, weight: u16) -> TaskId {
        let mut tasks = self.agenda.lock();
        let task = tasks.scheduler.add(guest, weight);
        // The number may have been another one's.
        if task == tasks.who.len() {
            tasks.who.push(Who::Vacant(task));
        }
        self.note_sharing(&tasks);
        task
    }

    /// Says whose a task is that was added, and has it run.
    pub fn assign(&self, task: TaskId, slot: &Arc<Slot>, index: usize) {
        self.agenda.lock().who[task] = Who::Vcpu { slot: slot.clone(), index };
        self.kick(task);
    }

    /// Ends a task of a guest that is parked and does not run. `false`: the core has it, and gives it up soon.
    pub fn retire(&self, task: TaskId) -> bool {
        let mut tasks = self.agenda.lock();
        if tasks.scheduler.remove(task) {
            tasks.who[task] = Who::Vacant(task);
            self.note_sharing(&tasks);
            return true;
        }
        drop(tasks);
        // It finds that the task is not to run, and has it sleep.
        self.interrupt();
        false
    }

    /// How many vCPUs the core has.
    pub fn vcpu_count(&self) -> usize {
        let tasks = self.agenda.lock().scheduler.task_count();
        if self.has_console() { tasks - 1 } else { tasks }
    }

    /// Whether anybody but the core's only vCPU may want it.
    pub fn is_shared(&self) -> bool {
        self.is_shared.load(Ordering::Relaxed)
    }

    fn note_sharing(&self, tasks: &Tasks) {
        self.is_shared.store(tasks.scheduler.task_count() > 1, Ordering::Relaxed);
    }

    /// Wakes a task, or has it look at what it is asked to do.
    pub fn kick(&self, task: TaskId) {
        self.agenda.kick(task, timer::counter, || self.interrupt());
    }

    /// Has a task's core look at what it is asked to do, if the task has the core or may still be loaded there.
    pub fn call(&self, task: TaskId) {
        self.agenda.call(task, || self.interrupt());
    }

    fn decide_anew(&self) {
        self.agenda.spoil();
        self.interrupt();
    }

    /// This core needs none: it is at EL2, and will look.
    fn interrupt(&self) {
        if self.core != cpu::number() {
            gic::kick(self.core);
        }
    }
}

/// What the core itself does.
impl Roster {
    /// EL2's timer has fired, or would: the core is to decide anew.
    pub fn timer_fired(&self) {
        self.agenda.spoil();
    }

    /// Whether the core is to decide anew.
    #[inline(always)]
    pub fn must_decide(&self) -> bool {
        self.agenda.must_decide()
    }

    /// Who has the core from now on.
    pub fn decide(&self) -> Turn {
        let (tasks, turn) = self.begin_turn();
        tasks.turn(turn)
    }

    /// Whether a task goes on that has the core, or has slept there: until then. An error is another's turn.
    pub fn keep(&self, task: TaskId) -> Result<u64, Turn> {
        let (tasks, turn) = self.begin_turn();
        if turn.task == Some(task) { Ok(turn.until) } else { Err(tasks.turn(turn)) }
    }

    #[inline(always)]
    fn begin_turn(&self) -> (LockGuard<'_, Tasks>, sched::Turn) {
        let mut tasks = self.agenda.begin();
        let turn = tasks.scheduler.decide(timer::counter());
        (tasks, turn)
    }

    /// Has a task go on that sleeps, if it was woken, and nobody else, since the core is idle. Returns until when; none: the core is
    /// to [decide](Self::decide).
    pub fn resume(&self, task: TaskId) -> Option<u64> {
        // If somebody says only now that a wake-up which this look has seen makes a decision due, one is made that changes nothing.
        self.agenda.begin().scheduler.resume(task, timer::counter())
    }

    /// Has the current task sleep until it is kicked, or it is `until`. `false`: it was kicked since it got the core.
    pub fn sleep(&self, task: TaskId, until: u64) -> bool {
        self.agenda.lock().scheduler.sleep(task, until, timer::counter())
    }
}

impl Schedule for Tasks {
    #[inline]
    fn current(&self) -> Option<TaskId> {
        self.scheduler.current()
    }

    #[inline]
    fn wake(&mut self, task: TaskId, now: impl FnOnce() -> u64) -> bool {
        self.scheduler.wake(task, now)
    }
}

impl Tasks {
    #[inline]
    fn turn(&self, turn: sched::Turn) -> Turn {
        let who = turn.task.map_or(Who::Nobody, |task| self.who[task].clone());
        Turn { who, until: turn.until }
    }
}
