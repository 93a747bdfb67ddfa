//! Asks its machine everything that a small guest may ask, and prints each answer on a line.
//!
//! What it prints on plain QEMU (`-M virt,gic-version=2`, the same `-cpu`) it must print under
//! Stasis, but for the lines that begin with `~`. Those, and why they differ:
//!
//! - `~ smc ..`: plain QEMU without EL3 has no SMC; under Stasis it is a conduit like HVC.
//! - `~ SMCCC ..`: QEMU's firmware has no SMCCC_VERSION.
//! - `~ GICC ..`, `~ priority bits`: the guest's GICC is a GICV, which has 5 bits of priority and
//!   its own IIDR.
//! - `~ debug ..`, `~ PMU ..`: how much of either the hypervisor keeps to itself.
//! - `~ alignment ..`: hardware refuses misaligned accesses to devices, and Stasis with it; QEMU
//!   does not when it emulates EL1 alone.
//! - `~ levels ..`: the guest of a hypervisor sees no EL2, and no EL1 in AArch32.
//! - `~ address size ..`: guest-physical addresses have no more bits than Stasis translates.
//! - `~ receive level ..`: QEMU's PL011 forgets bytes in its FIFO when the interrupt is cleared;
//!   hardware does not.
//!
//! The guest begins when a byte comes, for which it waits after the line `begin`: there a test can
//! take it elsewhere. Three times more it waits for bytes, after a line `send <n>`.

#![no_std]
#![no_main]

mod cpu;
mod distributor;
mod firmware;
mod gpio;
mod interrupts;
mod serial;
mod stray;
mod timers;
mod wall_clock;

use stasis_guests::{println, uart};

stasis_guests::entry!(run, interrupts::irq);

fn run() {
    println!("begin");
    uart::get();
    cpu::probe();
    distributor::probe();
    firmware::probe();
    stray::probe();
    timers::probe();
    serial::probe();
    wall_clock::probe();
    gpio::probe();
}
