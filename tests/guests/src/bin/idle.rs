//! Says that it is there, and waits for ever with its interrupts masked. As ELF or, being linked
//! for that, as a raw image.

#![no_std]
#![no_main]

use stasis_guests::{println, runtime, sysreg::wfi};

stasis_guests::entry!(main, runtime::no_irq);

fn main() {
    println!("idle");
    loop {
        wfi();
    }
}
