//! The one of several guests whose core `cargo xtask bench` watches while they share it by weights;
//! the others are `rival`.
//!
//! The guest computes with a vector register for ten slices of a core, and calls `bench_mark`
//! before that and afterwards. It finds its vector register as it left it, or prints `FAULT`.

#![no_std]
#![no_main]

use core::arch::asm;
use stasis_guests::runtime;
use stasis_guests::vector::hold;

stasis_guests::entry!(main, runtime::no_irq);

/// Ticks of a counter of 1 GHz.
const TIME: u64 = 40_000_000;

/// Where the machine is stopped to be traced.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bench_mark() {
    // SAFETY: it does nothing, and keeps the function from being left out.
    unsafe { asm!("nop", options(nomem, nostack)) }
}

fn main() {
    bench_mark();
    let value = 0x5741_9513_0000_0000;
    if hold(value, TIME) != value {
        stasis_guests::println!("FAULT a vector register has changed");
    }
    bench_mark();
}
