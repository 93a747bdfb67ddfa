//! Writes every vector register for ever: whoever shares a core with it finds out whether theirs
//! are kept.

#![no_std]
#![no_main]

use core::arch::asm;
use stasis_guests::runtime;

stasis_guests::entry!(main, runtime::no_irq);

fn main() {
    // SAFETY: It never comes back, and so may change every vector register.
    unsafe {
        asm!(
            "0:",
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
            "orn v\\n\\().16b, v\\n\\().16b, v0.16b",
            ".endr",
            "b 0b",
            options(nomem, nostack, noreturn)
        )
    }
}
