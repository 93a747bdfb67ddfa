//! The cores' loops: each runs the vCPUs whose turn it is by its core's [roster](crate::roster).
//!
//! Core 0 also has the console's task, which [`serve_console`] gives its turns. Work that takes
//! long is done in pieces: its function is given the [`Task`], and lets the core's vCPUs run
//! between two pieces ([`Task::yield_now`]).

use crate::above;
use crate::domain::{After, Domain, note_limits};
use crate::gic::ThisCore;
use crate::interrupts::{self, Taken};
use crate::network::uplink;
use crate::roster::{self, CONSOLE, Roster, Turn, Who};
use alloc::sync::Arc;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicBool, Ordering};
use stasis_arch::cpu::{self, Ready};
use stasis_arch::timer;
use stasis_guest::clock::NEVER;
use stasis_host::task::Yield;
use stasis_hw::time::Wait;

/// The console's task on core 0: the only code that runs at EL2 for longer than an exit takes, and
/// the capability to let others run.
///
/// There is one task, which is handed down by `&mut` to all that takes long. A function that is not
/// given it lets nobody run. What others could want is behind a
/// [`TaskLock`](stasis_host::task::TaskLock), which is not held while the task lets others run.
#[derive(Debug)]
pub struct Task {
    /// End of the task's turn, as the counter's value.
    until: u64,
    /// Ticks that others have had the core while the task yielded.
    away: u64,
    /// Whether guests run: not before [`serve_console`].
    serves: bool,
    /// Makes the type not [`Send`]: the task stays on its core.
    _not_send: PhantomData<*mut ()>,
}

/// Whether [`Task::make`] was called. Relaxed: the swap alone decides.
static TASK_MADE: AtomicBool = AtomicBool::new(false);

impl Task {
    /// Returns the task. Until [`serve_console`], nobody runs when it yields.
    ///
    /// # Panics
    ///
    /// If it was called before, or on another core than the console's.
    pub fn make() -> Self {
        let is_first = !TASK_MADE.swap(true, Ordering::Relaxed);
        assert!(is_first && roster::here().has_console(), "the console's core has one task");
        Self { until: u64::MAX, away: 0, serves: false, _not_send: PhantomData }
    }

    /// Lets the vCPUs of this core run whose turn it is. They run on the task's stack, and take the
    /// locks of their own guests. Of these the task holds none: those of a guest that it has
    /// [parked](Domain::park) are not wanted by a running vCPU, and all others that it could hold
    /// borrow it.
    // Not inlined: `cargo xtask bench` finds the function in the image.
    #[inline(never)]
    pub fn yield_now(&mut self) {
        if !self.serves || !self.turn_is_over() {
            return;
        }
        let left = timer::counter();
        self.run_others();
        self.away += timer::counter() - left;
    }

    /// Returns whether somebody else may have the core now. An interrupt may be for one who sleeps:
    /// nobody takes it while the task goes on.
    #[inline]
    fn turn_is_over(&self) -> bool {
        cpu::is_interrupt_pending()
            || roster::of_console().must_decide()
            || timer::counter() >= self.until
    }

    /// Makes the task sleep until the counter reads `counter`, or until something happens for the
    /// console. Others run meanwhile.
    pub fn rest_until(&mut self, counter: u64) {
        let roster = roster::of_console();
        roster.sleep(CONSOLE, counter);
        self.run_others();
    }

    /// Runs this core's vCPUs until it is the task's turn.
    fn run_others(&mut self) {
        assert!(self.serves, "the core may not be ready yet");
        // SAFETY: 1. `serve_console` has set `serves`, as is asserted, and was given proof that
        // this core is `Ready`. The task is not `Send`, so it has stayed on this core. 2. No vCPU
        // is loaded: the caller has the only task by `&mut`, and no code that runs while a vCPU is
        // loaded is given it.
        self.until = unsafe { run_vcpus(roster::of_console()) };
        uplink::serve(|| self.turn_is_over());
    }
}

impl Yield for Task {
    fn yield_now(&mut self) {
        Self::yield_now(self);
    }
}

/// A driver waits for its device as part of the task: its time goes on only while the task has the
/// core.
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

    /// Sleeps until the disk interrupts, and lets others run meanwhile. That time is the disk's,
    /// too, so it is not deducted.
    fn sleep(&mut self, until: u64) {
        if self.serves && interrupts::listen_to_disk() {
            self.rest_until(until.saturating_add(self.away));
        } else {
            self.yield_now();
        }
    }
}

/// Assigns a guest's vCPUs to their tasks, each on its core, and wakes them.
pub fn assign(domain: &Arc<Domain>) {
    for (index, (roster, task)) in domain.tasks().enumerate() {
        roster.assign(task, domain, index);
    }
}

/// Removes the tasks of a guest that is parked and does not run. Yields until each core has given
/// up a vCPU of the guest that has it.
pub fn retire(task: &mut Task, domain: &Domain) {
    for (roster, vcpu) in domain.tasks() {
        while !roster.retire(vcpu) {
            task.yield_now();
        }
    }
}

/// Runs the vCPUs of this core, which is not the console's, for ever. [`Ready`] proves that the
/// core is set up for guests.
pub fn serve(_: Ready) -> ! {
    note_limits();
    loop {
        // SAFETY: 1. The core is `Ready`: that type can't be sent to another core. 2. No vCPU is
        // loaded: this loop is the first code that loads one. A `serve` within another one would
        // never return, so what that has loaded would never be entered again.
        //
        // The function returns for the console's task alone, which this core does not have.
        unsafe { run_vcpus(roster::here()) };
    }
}

/// Runs the vCPUs of this core, which is the console's, for ever, and calls `work` in the turns of
/// its task. `work` returns the counter's value at which something is due again, if anything is.
/// [`Ready`] proves that the core is set up for guests.
pub fn serve_console(
    _: Ready,
    mut task: Task,
    work: &mut dyn FnMut(&mut Task) -> Option<u64>,
) -> ! {
    note_limits();
    let roster = roster::of_console();
    task.serves = true;
    loop {
        task.run_others();
        let due = work(&mut task);
        roster.sleep(CONSOLE, due.unwrap_or(NEVER));
    }
}

/// Runs this core's vCPUs until it is the turn of the console's task, and returns the counter's
/// value at which that turn is over. On other cores than the console's, it never returns.
///
/// # Safety
///
/// 1. This core was [set up](cpu::init) for guests.
/// 2. No vCPU is loaded on it.
unsafe fn run_vcpus(roster: &Roster) -> u64 {
    let this_core = ThisCore::here();
    let mut next = Turn::NOBODYS;
    // Whether the core has decided already, while the vCPU before was leaving.
    let mut is_decided = false;
    loop {
        if !core::mem::take(&mut is_decided) {
            if let Taken::Other(interrupt) = interrupts::take(roster, &this_core) {
                interrupts::pass(&this_core, interrupt);
            }
            roster.decide(&mut next);
        }
        let (stay, from) = (next.stay, next.from);
        match core::mem::replace(&mut next.who, Who::Nobody) {
            Who::Vcpu { domain, index } => {
                // SAFETY: 1. The core is set up, by condition 1. 2. No vCPU is loaded, by condition
                // 2, and each `run` unloads the vCPU that it has loaded.
                match unsafe { domain.run(index, (stay, from), &this_core, &mut next) } {
                    After::Decided => is_decided = true,
                    After::Anything => {}
                    After::Stopped(how) => above::get().stopped(domain, how),
                    After::Starved => above::get().starved(domain),
                }
            }
            Who::Console => {
                // The task looks at the time by itself.
                timer::set_deadline(NEVER);
                return stay.until;
            }
            // Nobody wakes the task before it is assigned.
            Who::Vacant(task) => {
                roster.sleep(task, NEVER);
            }
            // A vCPU that left may have woken a task of this core after the decision, which
            // interrupts nobody.
            Who::Nobody if roster.must_decide() => {}
            Who::Nobody => {
                timer::set_deadline(stay.until);
                cpu::wait_for_interrupt();
            }
        }
    }
}
