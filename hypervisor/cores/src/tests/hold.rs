//! Nobody is entered while held, nobody waits for ever, and what one has changed is there for the
//! other one.

use super::machine::Line;
use super::{check, check_within};
use crate::hold::{Held, Hold, Turns, Vcpus};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use stasis_vgic::VcpuMask;
use std::vec::Vec;

struct Guest {
    turns: Turns,
    vcpus: Vec<Vcpu>,
    is_over: AtomicBool,
}

struct Vcpu {
    hold: Hold,
    line: Line,
    /// The list registers of the vCPU, which whoever holds the vCPU may look at.
    registers: UnsafeCell<u32>,
}

impl Vcpus for Guest {
    fn turns(&self) -> &Turns {
        &self.turns
    }

    fn hold(&self, index: usize) -> &Hold {
        &self.vcpus[index].hold
    }

    fn call(&self, index: usize) {
        self.vcpus[index].line.raise();
    }
}

impl Guest {
    fn new(vcpus: usize) -> Arc<Self> {
        let vcpu = |_| Vcpu { hold: Hold::new(), line: Line::new(), registers: UnsafeCell::new(0) };
        let vcpus = (0..vcpus).map(vcpu).collect();
        Arc::new(Self { turns: Turns::new(), vcpus, is_over: AtomicBool::new(false) })
    }

    /// Fills the list registers before an entry, if nobody wants the vCPU held.
    fn prepare(&self, index: usize) {
        let Vcpu { hold, registers, .. } = &self.vcpus[index];
        while hold.is_wanted() {
            hold.stand_still(|| false);
        }
        registers.with_mut(|_| ());
    }

    /// Makes an access of one vCPU that is about what others have in their list registers.
    fn access(&self, index: usize, others: VcpuMask) {
        let mut held = Held::nobody(self, index);
        assert!(held.add(others, || false));
        others.iter().for_each(|other| self.vcpus[other].registers.with(|_| ()));
    }

    /// Loads a vCPU, makes one access, and unloads the vCPU.
    fn run(&self, index: usize, others: VcpuMask) {
        self.vcpus[index].hold.begin_running();
        self.prepare(index);
        self.access(index, others);
        self.prepare(index);
        self.vcpus[index].hold.end_running();
    }

    /// Keeps a vCPU in its guest, where it is interrupted, until all is over.
    fn stay(&self, index: usize) {
        let Vcpu { hold, line, .. } = &self.vcpus[index];
        hold.begin_running();
        loop {
            self.prepare(index);
            line.wait();
            if self.is_over.load(Ordering::Relaxed) {
                break;
            }
        }
        hold.end_running();
    }

    fn end(&self, index: usize) {
        self.is_over.store(true, Ordering::Relaxed);
        self.vcpus[index].line.raise();
    }
}

#[test]
fn a_vcpu_that_is_held_is_out_of_its_guest() {
    check(|| {
        let guest = Guest::new(2);
        let other = {
            let guest = guest.clone();
            thread::spawn(move || guest.stay(1))
        };
        guest.run(0, VcpuMask::only(1));
        guest.end(1);
        other.join().unwrap();
    });
}

#[test]
fn two_that_want_each_other_held_both_get_it() {
    check(|| {
        let guest = Guest::new(2);
        let other = {
            let guest = guest.clone();
            thread::spawn(move || guest.run(1, VcpuMask::only(0)))
        };
        guest.run(0, VcpuMask::only(1));
        other.join().unwrap();
    });
}

#[test]
fn three_that_want_each_other_held_all_get_it() {
    check_within(1, || {
        let guest = Guest::new(3);
        let others = [1, 2].map(|index| {
            let guest = guest.clone();
            thread::spawn(move || guest.run(index, VcpuMask::first(3).without(index)))
        });
        guest.run(0, VcpuMask(0b110));
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

#[test]
fn a_vcpu_whose_turn_ends_while_it_stands_still_leaves_folded() {
    check(|| {
        let guest = Guest::new(2);
        let other = {
            let guest = guest.clone();
            thread::spawn(move || {
                let Vcpu { hold, registers, .. } = &guest.vcpus[1];
                hold.begin_running();
                if hold.is_wanted() {
                    // The vCPU's core decides for another one, and unloads it.
                    hold.stand_still(|| true);
                } else {
                    registers.with_mut(|_| ());
                }
                hold.end_running();
                hold.begin_running();
                guest.prepare(1);
                hold.end_running();
            })
        };
        guest.run(0, VcpuMask::only(1));
        other.join().unwrap();
    });
}

#[test]
fn a_vcpu_that_gives_up_lets_the_others_go_on() {
    check(|| {
        let guest = Guest::new(2);
        let other = {
            let guest = guest.clone();
            thread::spawn(move || guest.stay(1))
        };
        let hold = &guest.vcpus[0].hold;
        hold.begin_running();
        guest.prepare(0);
        let mut held = Held::nobody(&*guest, 0);
        if held.add(VcpuMask::only(1), || true) {
            guest.vcpus[1].registers.with(|_| ());
        }
        drop(held);
        guest.prepare(0);
        guest.access(0, VcpuMask::only(1));
        hold.end_running();
        guest.end(1);
        other.join().unwrap();
    });
}
