//! Cache maintenance (DDI 0487, D7.5): for what is written with caches on and read with them off, and
//! for instructions that are written as data.

use core::arch::asm;

/// Bytes of the smallest data cache line, CTR_EL0.DminLine.
fn line() -> usize {
    4 << (mrs!("ctr_el0") >> 16 & 0xf)
}

/// Writes `len` bytes at `start` back to the point of coherency, so that an observer without caches
/// sees them.
pub fn clean_to_poc(start: usize, len: usize) {
    let line = line();
    let mut address = start & !(line - 1);
    while address < start + len {
        // SAFETY: a clean changes no data.
        unsafe { asm!("dc cvac, {}", in(reg) address, options(nostack, preserves_flags)) };
        address += line;
    }
    // SAFETY: a barrier.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
}

/// Writes `len` bytes at `start` back and drops them from the caches, for a guest that will read them
/// with its caches off and then on.
pub fn clean_and_invalidate_to_poc(start: usize, len: usize) {
    let line = line();
    let mut address = start & !(line - 1);
    while address < start + len {
        // SAFETY: nothing is lost: what is dirty is written back first.
        unsafe { asm!("dc civac, {}", in(reg) address, options(nostack, preserves_flags)) };
        address += line;
    }
    // SAFETY: a barrier.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
}

/// Drops all instructions from the instruction caches of all cores, after code was written.
pub fn invalidate_instructions() {
    // SAFETY: instructions are fetched anew.
    unsafe { asm!("dsb ish", "ic ialluis", "dsb ish", "isb", options(nostack, preserves_flags)) };
}
