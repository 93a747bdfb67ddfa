//! Nobody is in a guest that somebody has whole, nobody who wants it waits for ever, and the guest
//! goes on afterwards.

use super::machine::Core;
use super::{check, check_within};
use crate::gate::Gate;
use crate::sync::Lock;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;

/// A guest with one vCPU, which is its core's only task.
struct Guest {
    core: Core,
    gate: Gate,
    vcpu: Lock<()>,
    /// The state that whoever has the guest whole reads and writes.
    state: UnsafeCell<u32>,
    /// The number of times that somebody has had the guest whole; the guest ends by itself when
    /// this comes to `ends_after`.
    parked: AtomicU32,
    ends_after: u32,
    /// Whether the guest first waits for an interrupt in WFI, where its core knows that it sleeps.
    sleeps: bool,
}

const TASK: usize = 0;

impl Guest {
    fn new(runs: bool, sleeps: bool, ends_after: u32) -> Arc<Self> {
        let guest = Self {
            core: Core::new(1),
            gate: Gate::new(runs),
            vcpu: Lock::new(()),
            state: UnsafeCell::new(0),
            parked: AtomicU32::new(0),
            ends_after,
            sleeps,
        };
        guest.core.kick(TASK);
        Arc::new(guest)
    }

    /// Runs the guest until it has ended, as `turns::run_vcpus` does.
    fn serve(&self) {
        loop {
            self.core.line.take();
            match self.core.decide() {
                Some(task) if self.run(task) => return,
                Some(_) => {}
                None => self.core.line.wait(),
            }
        }
    }

    /// Runs a turn of the vCPU, as `Domain::run` does; if the vCPU can't run, it sleeps until it is
    /// kicked. Returns whether the guest has ended.
    fn run(&self, task: usize) -> bool {
        let has_ended = match self.vcpu.try_lock() {
            Some(_vcpu) if !self.gate.is_closed() => self.enter(task),
            _ => Some(false),
        };
        if has_ended == Some(false) {
            self.core.sleep(task);
        }
        has_ended == Some(true)
    }

    /// Runs the guest until it has ended, and returns `true`, or until somebody wants it. Returns
    /// `None` if the guest was wanted while it slept.
    fn enter(&self, task: usize) -> Option<bool> {
        let mut sleeps = self.sleeps;
        loop {
            self.state.with_mut(|_| ());
            if self.parked.load(Ordering::Relaxed) == self.ends_after {
                return Some(true);
            }
            if core::mem::take(&mut sleeps) {
                self.wait(task)?;
                continue;
            }
            self.core.line.wait();
            if self.gate.is_closed() {
                return Some(false);
            }
        }
    }

    /// Lets the vCPU sleep and stay loaded, as `Domain::wait` does. Returns `None` if somebody
    /// wants the guest.
    fn wait(&self, task: usize) -> Option<()> {
        if self.core.sleep(task) {
            while self.core.decide().is_none() {
                self.core.line.wait();
                if self.gate.is_closed() {
                    return None;
                }
                if self.core.resume(task) {
                    break;
                }
            }
        }
        Some(())
    }

    /// Parks the guest, as `Domain::park` does, calls `then`, and lets the guest go on.
    fn park(&self, then: impl FnOnce()) {
        self.gate.keep_out();
        self.core.call(TASK);
        let vcpu = self.vcpu.lock();
        self.state.with_mut(|_| ());
        self.parked.fetch_add(1, Ordering::Relaxed);
        then();
        drop(vcpu);
        self.gate.let_in();
        self.core.kick(TASK);
    }
}

fn serving(guest: &Arc<Guest>) -> thread::JoinHandle<()> {
    let guest = guest.clone();
    thread::spawn(move || guest.serve())
}

#[test]
fn a_guest_is_left_by_its_core_before_somebody_has_it_whole() {
    check(|| {
        let guest = Guest::new(true, false, 1);
        let core = serving(&guest);
        guest.park(|| ());
        core.join().unwrap();
    });
}

#[test]
fn a_guest_that_sleeps_is_left_by_its_core_before_somebody_has_it_whole() {
    check(|| {
        let guest = Guest::new(true, true, 1);
        let core = serving(&guest);
        // What it waits for may come at the same time.
        guest.core.kick(TASK);
        guest.park(|| ());
        core.join().unwrap();
    });
}

#[test]
fn a_guest_goes_on_when_the_last_of_two_that_want_it_is_done() {
    check_within(2, || {
        let guest = Guest::new(true, false, 2);
        let core = serving(&guest);
        let other = {
            let guest = guest.clone();
            thread::spawn(move || guest.park(|| ()))
        };
        guest.park(|| ());
        other.join().unwrap();
        core.join().unwrap();
    });
}

#[test]
fn a_guest_that_was_stopped_is_not_entered_before_it_runs_again() {
    check(|| {
        let guest = Guest::new(false, false, 2);
        let core = serving(&guest);
        // The gate is closed, and so nobody else touches it.
        guest.state.with_mut(|_| ());
        guest.park(|| guest.gate.set_runs(true));
        guest.park(|| ());
        core.join().unwrap();
    });
}

#[test]
fn a_guest_that_is_stopped_stands_still_until_it_runs_again() {
    check(|| {
        let guest = Guest::new(true, false, 2);
        let core = serving(&guest);
        guest.park(|| guest.gate.set_runs(false));
        guest.state.with_mut(|_| ());
        guest.park(|| guest.gate.set_runs(true));
        core.join().unwrap();
    });
}
