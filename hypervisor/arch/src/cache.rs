//! Cache maintenance (DDI 0487, D7.5): for what is written with caches on and read with them off, and
//! for instructions that are written as data.

use core::arch::asm;

/// Bytes of the smallest data cache line, CTR_EL0.DminLine.
fn line() -> usize {
    4 << (mrs!("ctr_el0") >> 16 & 0xf)
}

/// Does something to each line of `len` bytes at `start`, and waits until it is done.
#[inline]
fn maintain(start: usize, len: usize, line_at: impl Fn(usize)) {
    /// Lines between two branches: a checkpoint does this to each line of a guest's memory.
    const UNROLLED: usize = 8;
    let line = line();
    let mut address = start & !(line - 1);
    let mut lines = (start + len - address).div_ceil(line);
    while lines >= UNROLLED {
        for _ in 0..UNROLLED {
            line_at(address);
            address += line;
        }
        lines -= UNROLLED;
    }
    for _ in 0..lines {
        line_at(address);
        address += line;
    }
    // SAFETY: a barrier.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
}

/// Writes `len` bytes at `start` back to the point of coherency, so that an observer without caches
/// sees them.
pub fn clean_to_poc(start: usize, len: usize) {
    maintain(start, len, |address| {
        // SAFETY: a clean changes no data.
        unsafe { asm!("dc cvac, {}", in(reg) address, options(nostack, preserves_flags)) };
    });
}

/// Writes `len` bytes at `start` back and drops them from the caches, for a guest that will read them
/// with its caches off and then on, or that has written them so.
#[inline(never)]
pub fn clean_and_invalidate_to_poc(start: usize, len: usize) {
    maintain(start, len, |address| {
        // SAFETY: nothing is lost: what is dirty is written back first.
        unsafe { asm!("dc civac, {}", in(reg) address, options(nostack, preserves_flags)) };
    });
}

/// Drops all instructions from the instruction caches of all cores, after code was written.
pub fn invalidate_instructions() {
    // SAFETY: instructions are fetched anew.
    unsafe { asm!("dsb ish", "ic ialluis", "dsb ish", "isb", options(nostack, preserves_flags)) };
}
