//! Computes for ever with its interrupts masked, and never waits: the worst neighbour on a core.
//!
//! Twenty times in a second of its time it prints `at <ms> ms: <n> units`. A unit of work is
//! [`UNIT`] instructions.

#![no_std]
#![no_main]

use core::arch::asm;
use stasis_guests::{println, runtime, timer};

stasis_guests::entry!(main, runtime::no_irq);

/// Instructions of a unit of work.
const UNIT: u64 = 10_000;
/// How often it prints, per second.
const RATE: u64 = 20;

fn main() {
    let start = timer::now();
    let mut units = 0_u64;
    for report in 1.. {
        while timer::now() - start < timer::frequency() * report / RATE {
            unit();
            units += 1;
        }
        println!("at {} ms: {units} units", report * 1000 / RATE);
    }
}

fn unit() {
    // SAFETY: It counts down a register.
    unsafe {
        asm!("0: subs {count}, {count}, #1", "b.ne 0b", count = inout(reg) UNIT / 2 => _);
    }
}
