//! The cores' loops: each lets those run whose turn it is by its [roster](crate::roster).

use crate::above;
use crate::gic::ThisCore;
use crate::interrupts::{self, Taken};
use crate::roster::{self, CONSOLE, Roster, Turn, Who};
use crate::slot::{After, Slot};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use stasis_arch::cpu::{self, Ready};
use stasis_arch::timer;
use stasis_guest::clock::NEVER;

/// The console's turn lasts until then; at other times it is over.
static CONSOLE_UNTIL: AtomicU64 = AtomicU64::new(u64::MAX);
/// It is the console's turn.
static CONSOLE_RUNS: AtomicBool = AtomicBool::new(false);
/// Ticks for which others had the console's core while a command was under way.
static AWAY: AtomicU64 = AtomicU64::new(0);

/// Has a guest's vCPUs run, each on its core.
pub fn assign(slot: &Arc<Slot>) {
    for (index, (roster, task)) in slot.tasks().enumerate() {
        roster.assign(task, slot, index);
    }
}

/// Ends the tasks of a guest that is parked and does not run. Each core that has one of them gives it up first.
pub fn retire(slot: &Slot) {
    for (roster, task) in slot.tasks() {
        while !roster.retire(task) {
            breathe();
        }
    }
}

/// Has the console have its turn soon.
pub fn wake_console() {
    roster::of_console().kick(CONSOLE);
}

/// Runs this core for ever: its vCPUs, and the console where that is. Being [`Ready`], the core is set up for guests.
pub fn serve(_: Ready) -> ! {
    let roster = roster::here();
    loop {
        // SAFETY: 1. The core is `Ready`. 2. No vCPU is loaded: this loop is the first to load one; a `serve` within another one would never
        // return, so what that has loaded would never be entered again.
        unsafe { run_vcpus(roster) };
        CONSOLE_RUNS.store(true, Ordering::Relaxed);
        let due = above::get().serve();
        CONSOLE_RUNS.store(false, Ordering::Relaxed);
        roster.sleep(CONSOLE, due.unwrap_or(NEVER));
    }
}

/// Lets the vCPUs of this core run whose turn it is. Commands that take long call it again and again: so nobody waits for
/// their end.
pub fn breathe() {
    let roster = roster::here();
    if !is_console(roster) {
        return;
    }
    if roster.must_decide() || timer::counter() >= CONSOLE_UNTIL.load(Ordering::Relaxed) {
        let left = timer::counter();
        lend_core(roster);
        AWAY.fetch_add(timer::counter() - left, Ordering::Relaxed);
    }
}

/// Returns whether it is the console's code that runs on the calling core, and no vCPU's turn.
fn is_console(roster: &Roster) -> bool {
    CONSOLE_RUNS.load(Ordering::Relaxed) && roster.has_console()
}

/// Runs this core's vCPUs until it is the console's turn again.
///
/// # Panics
///
/// If it is not the console that calls.
fn lend_core(roster: &Roster) {
    assert!(is_console(roster), "only the console lends its core");
    CONSOLE_RUNS.store(false, Ordering::Relaxed);
    // SAFETY: 1. `serve` has said that it is the console's turn, on this core, which was `Ready`. 2. No vCPU is loaded: `CONSOLE_RUNS` is set
    // while no vCPU has its turn on the console's core, and was so until here.
    unsafe { run_vcpus(roster) };
    CONSOLE_RUNS.store(true, Ordering::Relaxed);
}

/// The counter as a command sees it that waits for a disk: others run meanwhile, and their time does not count.
pub fn own_time() -> u64 {
    breathe();
    timer::counter() - AWAY.load(Ordering::Relaxed)
}

/// Makes the console's command sleep until the counter reaches `counter`, or something happens for the console.
///
/// # Panics
///
/// If it is not the console that calls.
pub fn rest_until(counter: u64) {
    let roster = roster::here();
    roster.sleep(CONSOLE, counter);
    lend_core(roster);
}

/// Runs this core's vCPUs until it is the console's turn: on other cores than the console's, for ever.
///
/// # Safety
///
/// 1. This core was [set up](cpu::init) for guests.
/// 2. No vCPU is loaded on it.
unsafe fn run_vcpus(roster: &Roster) {
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
                CONSOLE_UNTIL.store(until, Ordering::Relaxed);
                // It looks at the time by itself.
                timer::set_deadline(NEVER);
                return;
            }
            // Nobody wakes it before it is somebody's.
            Who::Vacant(task) => {
                roster.sleep(task, NEVER);
            }
            Who::Nobody => {
                timer::set_deadline(until);
                cpu::wait_for_interrupt();
            }
        }
    }
}
