//! No wake-up is lost, whatever a core is doing when it comes.

use super::check;
use super::machine::Core;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;

struct Machine {
    core: Core,
    /// What was sent to each task.
    sent: [AtomicU32; 2],
}

impl Machine {
    fn new(tasks: usize) -> Arc<Self> {
        Arc::new(Self { core: Core::new(tasks), sent: [const { 0 }; 2].map(AtomicU32::new) })
    }

    fn send(&self, task: usize) {
        self.sent[task].fetch_add(1, Ordering::Relaxed);
        self.core.kick(task);
    }

    fn has_all(&self, task: usize, all: u32) -> bool {
        self.sent[task].load(Ordering::Relaxed) == all
    }
}

/// Starts another core, which sends something to each of `tasks` in turn.
fn sender(machine: &Arc<Machine>, tasks: [usize; 2]) -> thread::JoinHandle<()> {
    let machine = machine.clone();
    thread::spawn(move || tasks.into_iter().for_each(|task| machine.send(task)))
}

/// Waits on `core` until a task has its turn.
fn wait_for_turn(core: &Core) {
    while core.decide().is_none() {
        core.line.wait();
    }
}

#[test]
fn a_task_that_is_woken_while_it_goes_to_sleep_goes_on() {
    check(|| {
        let machine = Machine::new(1);
        let sender = sender(&machine, [0, 0]);
        let core = &machine.core;
        loop {
            match core.decide() {
                Some(0) if machine.has_all(0, 2) => break,
                Some(0) => drop(core.sleep(0)),
                _ => core.line.wait(),
            }
        }
        sender.join().unwrap();
    });
}

#[test]
fn a_task_that_sleeps_loaded_goes_on_without_a_decision_or_with_one() {
    check(|| {
        let machine = Machine::new(1);
        let sender = sender(&machine, [0, 0]);
        let core = &machine.core;
        wait_for_turn(core);
        // `Domain::wait`.
        while !machine.has_all(0, 2) {
            if !core.sleep(0) {
                continue;
            }
            while core.decide().is_none() {
                core.line.wait();
                if core.resume(0) {
                    break;
                }
            }
        }
        sender.join().unwrap();
    });
}

#[test]
fn a_task_that_is_in_its_guest_is_interrupted_by_what_is_sent_to_it() {
    check(|| {
        let machine = Machine::new(1);
        let sender = sender(&machine, [0, 0]);
        let core = &machine.core;
        wait_for_turn(core);
        while !machine.has_all(0, 2) {
            core.line.wait();
        }
        sender.join().unwrap();
    });
}

#[test]
fn a_task_that_is_woken_has_its_turn_though_another_one_never_waits() {
    check(|| {
        let machine = Machine::new(2);
        let sender = sender(&machine, [0, 1]);
        let core = &machine.core;
        let mut had_turn = [false; 2];
        loop {
            let (task, has_end) = core.decide_until();
            let Some(task) = task else {
                core.line.wait();
                continue;
            };
            had_turn[task] = true;
            if had_turn == [true; 2] {
                break;
            }
            // The vCPU leaves its guest when it is interrupted, and enters it again unless its core
            // must decide.
            while !has_end && !core.agenda.must_decide() {
                core.line.wait();
            }
        }
        sender.join().unwrap();
    });
}
