//! Says where its device tree is: by X0, as a kernel is told, and at the start of RAM, where
//! firmware looks. For bare code.
//!
//! The lines that begin with `~` need not be the same on plain QEMU, whose own boot code is at the
//! start of RAM.

#![no_std]
#![no_main]

use stasis_guests::{println, runtime};

stasis_guests::entry!(main, runtime::no_irq);

/// The first word of a device tree, as it is in memory.
const MAGIC: u32 = 0xd00d_feed_u32.to_be();
const RAM: u64 = 0x4000_0000;

fn main() {
    let tree = runtime::x0();
    println!("X0 {tree:#x}");
    if tree < RAM {
        return println!("X0 is not in RAM");
    }
    println!("a device tree there: {}", word(tree) == MAGIC);
    println!("~ one at the start of RAM: {}", word(RAM) == MAGIC);
}

/// Reads a word of RAM.
fn word(address: u64) -> u32 {
    // SAFETY: It is aligned, in RAM that is mapped, and nothing of Rust's.
    unsafe { core::ptr::read_volatile(address as *const u32) }
}
