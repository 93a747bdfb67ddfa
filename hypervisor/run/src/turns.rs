//! The cores' loops: each lets those run whose turn it is by its [roster](crate::roster).
//!
//! Core 0 also has the console's task, which [`serve_console`] gives its turns. Work that takes long is done in pieces: whoever does it was given
//! the [`Task`], and lets the vCPUs of the core run between two pieces ([`Task::yield_now`]).

use crate::above;
use crate::gic::ThisCore;
use crate::interrupts::{self, Taken};
use crate::roster::{self, CONSOLE, Roster, Turn, Who};
use crate::slot::{After, Slot};
use alloc::sync::Arc;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicBool, Ordering};
use stasis_arch::cpu::{self, Ready};
use stasis_arch::timer;
use stasis_guest::clock::NEVER;
use stasis_host::task::Yield;
use stasis_hw::time::Wait;

/// The console's task on core 0: the one thing that runs at EL2 for longer than an exit takes, and the capability to let others run.
///
/// There is one, which is handed down by `&mut` to all that takes long. A function that is not given it lets nobody run. What others could want is
/// behind a [`TaskLock`](stasis_host::task::TaskLock), which is not held while it lets others run.
#[derive(Debug)]
pub struct Task {
    /// What the counter reads when the task's turn is over.
    until: u64,
    /// Ticks that others had in the task's pauses.
    away: u64,
    /// Guests run: not before [`serve_console`].
    serves: bool,
    /// It stays on its core.
    _not_send: PhantomData<*mut ()>,
}

/// [`Task::make`] was called.
static TASK_MADE: AtomicBool = AtomicBool::new(false);

impl Task {
    /// Makes the task. Until [`serve_console`], nobody runs when it yields.
    ///
    /// # Panics
    ///
    /// The second time, and on another core than the console's.
    pub fn make() -> Self {
        let is_first = !TASK_MADE.swap(true, Ordering::Relaxed);
        assert!(is_first && roster::here().has_console(), "the console's core has one task");
        Self { until: u64::MAX, away: 0, serves: false, _not_send: PhantomData }
    }

    /// Lets the vCPUs of this core run whose turn it is. They run on the task's stack, and take the locks of their own guests, which are none that
    /// the task has [parked](Slot::park); those that the task could hold it can't hold here.
    // A function of its own, which `cargo xtask bench` finds in the image.
    #[inline(never)]
    pub fn yield_now(&mut self) {
        let roster = roster::of_console();
        if !self.serves || !(roster.must_decide() || timer::counter() >= self.until) {
            return;
        }
        let left = timer::counter();
        self.run_others();
        self.away += timer::counter() - left;
    }

    /// Sleeps until the counter reads `counter`, or until something happens for the console.
    pub fn rest_until(&mut self, counter: u64) {
        let roster = roster::of_console();
        roster.sleep(CONSOLE, counter);
        self.run_others();
    }

    /// Runs this core's vCPUs until it is the task's turn.
    fn run_others(&mut self) {
        assert!(self.serves, "the core may not be ready yet");
        // SAFETY: 1. `serve_console` has set `serves`, and was given that this core is `Ready`: the task is no `Send`, and so stays here. 2. No vCPU is
        // loaded: whoever calls has the only task by `&mut`, and nobody has it who is called while one is.
        self.until = unsafe { run_vcpus(roster::of_console()) };
    }
}

impl Yield for Task {
    fn yield_now(&mut self) {
        Self::yield_now(self);
    }
}

/// A driver waits for its device as part of the task: the disk's time goes on only while the task has the core.
impl Wait for Task {
    fn now(&self) -> u64 {
        timer::counter() - self.away
    }

    fn frequency(&self) -> u64 {
        timer::frequency()
    }

    fn pause(&mut self) {
        self.yield_now();
    }
}

/// Gives a guest's vCPUs their turns, each on its core.
pub fn assign(slot: &Arc<Slot>) {
    for (index, (roster, task)) in slot.tasks().enumerate() {
        roster.assign(task, slot, index);
    }
}

/// Ends the turns of a guest that is parked and does not run. Each core that has one of its vCPUs gives it up first.
pub fn retire(task: &mut Task, slot: &Slot) {
    for (roster, vcpu) in slot.tasks() {
        while !roster.retire(vcpu) {
            task.yield_now();
        }
    }
}

/// Makes the console's turn come soon.
pub fn wake_console() {
    roster::of_console().kick(CONSOLE);
}

/// Runs the vCPUs of this core, which is not the console's, for ever. Being [`Ready`], the core is set up for guests.
pub fn serve(_: Ready) -> ! {
    loop {
        // SAFETY: 1. The core is `Ready`. 2. No vCPU is loaded: this loop is the first to load one; a `serve` within another one would never
        // return, so what that has loaded would never be entered again.
        //
        // It returns for the console's task alone, which this core does not have.
        unsafe { run_vcpus(roster::here()) };
    }
}

/// Runs the vCPUs of this core, which is the console's, for ever, and does `work` in the turns of its task. `work` returns what the counter reads when
/// something is due again. Being [`Ready`], the core is set up for guests.
pub fn serve_console(
    _: Ready,
    mut task: Task,
    work: &mut dyn FnMut(&mut Task) -> Option<u64>,
) -> ! {
    let roster = roster::of_console();
    task.serves = true;
    loop {
        task.run_others();
        let due = work(&mut task);
        roster.sleep(CONSOLE, due.unwrap_or(NEVER));
    }
}

/// Runs this core's vCPUs until it is the turn of the console's task, and returns what the counter reads when that turn is over. On other cores than
/// the console's, it does so for ever.
///
/// # Safety
///
/// 1. This core was [set up](cpu::init) for guests.
/// 2. No vCPU is loaded on it.
unsafe fn run_vcpus(roster: &Roster) -> u64 {
    let this_core = ThisCore::here();
    // What was decided already, while the vCPU before was leaving.
    let mut decided = None;
    loop {
        let Turn { who, until } = decided.take().unwrap_or_else(|| {
            if let Taken::Other(interrupt) = interrupts::take(roster, &this_core) {
                interrupts::pass(&this_core, interrupt);
            }
            roster.decide()
        });
        match who {
            // SAFETY: 1. The core is set up, by the caller. 2. None is loaded, by the caller, and each `run` unloads the one that it has
            // loaded.
            Who::Vcpu { slot, index } => match unsafe { slot.run(index, until) } {
                After::Turn(turn) => decided = Some(turn),
                After::Anything => {}
                After::Stopped(how) => above::get().stopped(slot, how),
            },
            Who::Console => {
                // It looks at the time by itself.
                timer::set_deadline(NEVER);
                return until;
            }
            // Nobody wakes it before it is somebody's.
            Who::Vacant(task) => {
                roster.sleep(task, NEVER);
            }
            // A vCPU that left may have woken a task of this core after the decision, which interrupts nobody.
            Who::Nobody if roster.must_decide() => {}
            Who::Nobody => {
                timer::set_deadline(until);
                cpu::wait_for_interrupt();
            }
        }
    }
}
