//! Roster of a core, which says who has it, and for how long: the decisions of
//! [`stasis_host::sched`], with the vCPUs behind its tasks.
//!
//! Each core has a [`Roster`] with a lock of its own, which is taken after all other locks. Whoever
//! wakes a vCPU ([`Roster::kick`]) interrupts its core, if that changes anything there. The core
//! itself [decides](Roster::decide).

use crate::domain::Domain;
use crate::gic;
use alloc::sync::Arc;
use alloc::vec::Vec;
use spin::LazyLock;
use stasis_arch::boot::MAX_CORES;
use stasis_arch::{cpu, timer};
use stasis_cores::agenda::{Agenda, Schedule};
use stasis_cores::sync::LockGuard;
use stasis_host::config::{self, CoreConfig, DEFAULT_WEIGHT};
use stasis_host::sched::{self, Missed, Scheduler, TaskId};

/// Number of the core that the console's task runs on.
const CONSOLE_CORE: usize = config::CONSOLE_CORE as usize;
/// The console's task: the first one of its core. It has no guest's name, and so no window.
pub const CONSOLE: TaskId = 0;

/// Owner of a task.
#[derive(Clone)]
pub enum Who {
    /// The console's task.
    Console,
    /// A guest's vCPU.
    Vcpu {
        /// The guest.
        domain: Arc<Domain>,
        /// The vCPU's index in the guest.
        index: usize,
    },
    /// No owner: a guest that is being made, or was removed.
    Vacant(TaskId),
    /// No task: the core is idle.
    Nobody,
}

/// Decision who has a core from now on.
pub struct Turn {
    /// Owner of the core.
    pub who: Who,
    /// Terms on which the owner has the core.
    pub stay: Stay,
    /// The counter's value when that was decided.
    pub from: u64,
}

impl Turn {
    /// The turn of nobody, before a decision.
    pub const NOBODYS: Self =
        Self { who: Who::Nobody, stay: Stay { until: 0, gives_way: false }, from: 0 };
}

/// Terms on which a task has its core, up to the next decision.
#[derive(Clone, Copy, Debug)]
pub struct Stay {
    /// End at the latest, as the counter's value.
    pub until: u64,
    /// Whether the task gives the core away when it waits: another task wants the core, or another
    /// vCPU may want it. Otherwise the vCPU waits in its guest. The console's task alone does not
    /// count while it sleeps: it is woken by an interrupt, which ends the wait.
    pub gives_way: bool,
}

/// Tasks of a core, and the decisions whose turn it is.
pub struct Roster {
    core: usize,
    agenda: Agenda<Tasks>,
}

struct Tasks {
    scheduler: Scheduler,
    /// Whether one of the tasks is the console's.
    has_console: bool,
    /// Owner of each task.
    who: Vec<Who>,
}

static ROSTERS: LazyLock<[Roster; MAX_CORES]> = LazyLock::new(|| core::array::from_fn(Roster::new));

/// Returns the roster of core number `core`.
pub fn of(core: usize) -> &'static Roster {
    &ROSTERS[core]
}

/// Returns the roster of the calling core.
pub fn here() -> &'static Roster {
    of(cpu::number())
}

/// Returns the roster of the core that the console's task runs on.
pub fn of_console() -> &'static Roster {
    of(CONSOLE_CORE)
}

/// Wakes the console's task.
pub fn wake_console() {
    of_console().kick(CONSOLE);
}

impl Roster {
    fn new(core: usize) -> Self {
        let mut tasks = Tasks {
            scheduler: Scheduler::new(timer::frequency()),
            has_console: core == CONSOLE_CORE,
            who: Vec::new(),
        };
        if tasks.has_console {
            tasks.scheduler.add("", DEFAULT_WEIGHT);
            tasks.who.push(Who::Console);
        }
        Self { core, agenda: Agenda::new(tasks) }
    }

    /// Returns the core's number.
    pub fn core(&self) -> usize {
        self.core
    }

    /// Returns whether the console's task runs on this core.
    pub fn has_console(&self) -> bool {
        self.core == CONSOLE_CORE
    }

    /// Divides the core's time by the frame and the windows of `plan`. Called before the core has a
    /// vCPU.
    pub fn divide(&self, plan: &CoreConfig) {
        let windows = plan.windows.iter();
        let windows = windows.map(|window| (window.guest.as_str(), window.at_us, window.length_us));
        // All cores' frames begin with the counter, and so together.
        self.agenda.lock().scheduler.divide(plan.frame_us, windows, timer::frequency(), 0);
        // The core may wait already, by a decision that knows of no window and would wait for ever.
        self.decide_anew();
    }

    /// Divides the core's time anew: by a plan, or by weights alone.
    pub fn divide_anew(&self, plan: Option<&CoreConfig>) {
        let now = timer::counter();
        self.agenda.lock().scheduler.divide_anew(plan, timer::frequency(), now);
        self.decide_anew();
    }

    /// Returns what became of the windows of each guest that has any on the core.
    pub fn missed(&self) -> Vec<Missed> {
        self.agenda.lock().scheduler.missed()
    }

    /// Returns the weight of a task.
    pub fn weight(&self, task: TaskId) -> u64 {
        self.agenda.lock().scheduler.weight(task)
    }

    /// Gives a task another weight.
    pub fn set_weight(&self, task: TaskId, weight: u16) {
        self.agenda.lock().scheduler.set_weight(task, weight, timer::counter());
        self.decide_anew();
    }

    /// Adds a task for a vCPU of `guest`, which sleeps until it is [assigned](Self::assign).
    pub fn add(&self, guest: &str, weight: u16) -> TaskId {
        let mut tasks = self.agenda.lock();
        let task = tasks.scheduler.add(guest, weight);
        // The number may be that of a task that was removed.
        if task == tasks.who.len() {
            tasks.who.push(Who::Vacant(task));
        }
        task
    }

    /// Gives a task that was added to vCPU `index` of the guest in `domain`, and wakes it.
    pub fn assign(&self, task: TaskId, domain: &Arc<Domain>, index: usize) {
        self.agenda.lock().who[task] = Who::Vcpu { domain: domain.clone(), index };
        self.kick(task);
    }

    /// Removes a task of a guest that is parked and does not run. Returns `false` if the task has
    /// the core, which it gives up soon.
    pub fn retire(&self, task: TaskId) -> bool {
        let mut tasks = self.agenda.lock();
        if tasks.scheduler.remove(task) {
            tasks.who[task] = Who::Vacant(task);
            return true;
        }
        drop(tasks);
        // The core finds that the task must not run, and makes it sleep.
        self.interrupt();
        false
    }

    /// Returns the number of vCPUs that the core has.
    pub fn vcpu_count(&self) -> usize {
        self.agenda.lock().vcpu_count()
    }

    /// Wakes a task, or makes its core look at what the task is asked to do.
    pub fn kick(&self, task: TaskId) {
        self.agenda.kick(task, timer::counter, || self.interrupt());
    }

    /// Makes a task's core look at what the task is asked to do, if the task has the core or may
    /// still be loaded there.
    pub fn call(&self, task: TaskId) {
        self.agenda.call(task, || self.interrupt());
    }

    fn decide_anew(&self) {
        self.agenda.spoil();
        self.interrupt();
    }

    /// Interrupts the core, if it is not the calling one. That one is at EL2, and looks before it
    /// enters a guest.
    fn interrupt(&self) {
        if self.core != cpu::number() {
            gic::kick(self.core);
        }
    }
}

/// Functions that the core itself calls.
impl Roster {
    /// Makes the core decide anew, since EL2's timer has fired, or would.
    pub fn timer_fired(&self) {
        self.agenda.spoil();
    }

    /// Returns whether the core must decide anew.
    #[inline(always)]
    pub fn must_decide(&self) -> bool {
        self.agenda.must_decide()
    }

    /// Decides, and writes to `next` who has the core from now on.
    // Not inlined: the loop of turns would load the constants of a decision in each of its rounds.
    #[inline(never)]
    pub fn decide(&self, next: &mut Turn) {
        let (tasks, turn, now) = self.begin_turn();
        tasks.write(turn, now, next);
    }

    /// Decides. Returns the terms on which the task goes on that has the core, or has slept there;
    /// `None` if another task has the core, or nobody: then `next` says who.
    // The turn is written where it is wanted: it is large, and would be moved from function to
    // function.
    #[inline(never)]
    pub fn keep(&self, task: TaskId, next: &mut Turn) -> Option<Stay> {
        let (tasks, turn, now) = self.begin_turn();
        if turn.task == Some(task) {
            return Some(tasks.stay(turn));
        }
        tasks.write(turn, now, next);
        None
    }

    #[inline(always)]
    fn begin_turn(&self) -> (LockGuard<'_, Tasks>, sched::Turn, u64) {
        let mut tasks = self.agenda.begin();
        let now = timer::counter();
        let turn = tasks.scheduler.decide(now);
        (tasks, turn, now)
    }

    /// Lets a sleeping task go on if it was woken, and nobody else, since the core is idle. Returns
    /// the terms on which it does; `None` if the core must [decide](Self::decide).
    pub fn resume(&self, task: TaskId) -> Option<Stay> {
        // Somebody may announce only now a wake-up that this look has seen already. Then the core
        // decides once more, which changes nothing.
        let mut tasks = self.agenda.begin();
        tasks.scheduler.resume(task, timer::counter())?;
        Some(tasks.stay(tasks.scheduler.turn()))
    }

    /// Makes the current task sleep until it is kicked, or the counter reads `until`. Returns
    /// `false`, and it does not sleep, if it was kicked since it got the core.
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
    /// Writes a turn that was decided when the counter read `from`.
    #[inline]
    fn write(&self, turn: sched::Turn, from: u64, to: &mut Turn) {
        to.who = turn.task.map_or(Who::Nobody, |task| self.who[task].clone());
        (to.stay, to.from) = (self.stay(turn), from);
    }

    /// Returns the terms of a turn.
    #[inline]
    fn stay(&self, turn: sched::Turn) -> Stay {
        Stay { until: turn.until, gives_way: turn.is_contended || self.vcpu_count() > 1 }
    }

    /// Returns the number of vCPUs that the core has.
    #[inline]
    fn vcpu_count(&self) -> usize {
        self.scheduler.task_count() - usize::from(self.has_console)
    }
}
