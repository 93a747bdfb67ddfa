//! Two CPUs that interrupt each other, and hand shared interrupts to and fro.
//!
//! What it prints on plain QEMU (`-M virt,gic-version=2 -smp 2`) it must print under Stasis, but
//! for the lines that begin with `~`. Those, and why they differ:
//!
//! - `~ absent ..`: QEMU keeps bits of GICD_ITARGETSR for CPUs that the machine does not have; here
//!   they read 0.
//! - `~ untargeted ..`: QEMU forgets GICD_ISPENDR of an SPI without a target; here it waits for
//!   one.
//! - `~ moved ..`: QEMU lets a CPU take an SPI that is active on another CPU; here it waits for its
//!   deactivation, as IHI 0048B.b 3.2.4 has it.
//! - `~ both ..`: QEMU lets both targets of an SPI take it. Here the lowest one has it, and the
//!   other does not.
//! - `~ by word ..`: QEMU makes all four SGIs of a word in GICD_SPENDSGIR pending, those without a
//!   bit set, too.
//!
//! The first CPU prints, and asks the second one to do its part: so each line is about one instant,
//! but for those that wait for something to come, for as long as it takes.

#![no_std]
#![no_main]

mod cpus;
mod ping;
mod power;
mod sgi;
mod spi;

stasis_guests::entry!(run, ping::irq);

fn run() {
    power::on();
    ping::play();
    sgi::probe();
    spi::probe();
    power::probe();
}
