//! Half of a pair whose switches on one core `cargo xtask bench` counts; `rival` is the other half.
//!
//! The guest computes with a vector register, while as many SGIs are pending as [`PENDING`] says,
//! one entry after the other: so many list registers are in use when it leaves its core, and when
//! it comes back. It calls `bench_mark` before each entry, and after the last. It finds its vector
//! register and its interrupts as it left them, or prints `FAULT`.

#![no_std]
#![no_main]

use core::arch::asm;
use stasis_guests::mmio::{read32, write32};
use stasis_guests::sysreg::mask_irqs;
use stasis_guests::vector::hold;
use stasis_guests::{gic, println, runtime};

stasis_guests::entry!(main, runtime::no_irq);

/// How many interrupts are pending. `xtask` knows them, too.
const PENDING: [u32; 6] = [0, 1, 2, 3, 4, 8];
const PRIORITY: u8 = 0xa0;
/// For each of them, in ticks: several turns of either guest.
const TIME: u64 = 2_000_000;

/// Where the machine is stopped to be traced.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn bench_mark() {
    // SAFETY: it does nothing, and keeps the function from being left out.
    unsafe { asm!("nop", options(nomem, nostack)) }
}

fn main() {
    mask_irqs();
    gic::init();
    for count in PENDING {
        for sgi in 0..count {
            gic::enable(sgi, PRIORITY);
            gic::send_to_self(sgi);
        }
        bench_mark();
        let value = 0x5741_9513_0000_0000 | u64::from(count);
        if hold(value, TIME) != value {
            println!("FAULT a vector register has changed, with {count} interrupts pending");
        }
        for sgi in 0..count {
            let iar = read32(gic::GICC_IAR);
            if iar != sgi {
                println!("FAULT interrupt {iar} instead of {sgi}");
            }
            write32(gic::GICC_EOIR, iar);
        }
    }
    bench_mark();
}
