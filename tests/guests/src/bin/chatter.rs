//! Prints lines as fast as it can, then a word without a line feed, and resets its machine in the
//! midst of it.
//!
//! The lines are `line <n>`, from 1 to [`LINES`]. The word is `farewell`.

#![no_std]
#![no_main]

use core::fmt::Write;
use stasis_guests::psci::{SYSTEM_RESET, hvc};
use stasis_guests::{println, runtime, uart};

stasis_guests::entry!(main, runtime::no_irq);

const LINES: u32 = 25_000;

fn main() {
    for number in 1..=LINES {
        println!("line {number}");
    }
    // The console's writer never fails.
    let _ = write!(uart::Console, "farewell");
    hvc(u64::from(SYSTEM_RESET), [0; 3]);
}
