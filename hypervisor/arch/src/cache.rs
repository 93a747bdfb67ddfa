//! Cache maintenance (DDI 0487, D7.5): for memory that is written with caches on and read with them off, and for instructions that are written as
//! data.

use core::arch::asm;

/// Returns the bytes of the smallest data cache line: CTR_EL0.DminLine.
fn line() -> usize {
    4 << (mrs!("ctr_el0") >> 16 & 0xf)
}

/// Calls `line_at` with the address of each cache line of the `len` bytes at `start`, and waits until the maintenance is complete.
#[inline]
fn maintain(start: usize, len: usize, line_at: impl Fn(usize)) {
    /// Lines between two branches: a checkpoint maintains each line of a guest's memory.
    const UNROLLED: usize = 32;
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
    // SAFETY: a barrier changes no register and no memory.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
}

/// Writes the cache lines of `len` bytes at `start` back to the point of coherency, so that an observer without caches sees the bytes.
pub fn clean_to_poc(start: usize, len: usize) {
    maintain(start, len, |address| {
        // SAFETY: a clean changes no data that a core with caches sees, and no register.
        unsafe { asm!("dc cvac, {}", in(reg) address, options(nostack, preserves_flags)) };
    });
}

/// Writes the cache lines of `len` bytes at `start` back to the point of coherency and drops them from the caches: for a guest that will read the
/// bytes with its caches off and then on, or that has written them so.
#[inline(never)]
pub fn clean_and_invalidate_to_poc(start: usize, len: usize) {
    maintain(start, len, |address| {
        // SAFETY: a dirty line is written back before it is dropped, so no data are lost, and no register is changed.
        unsafe { asm!("dc civac, {}", in(reg) address, options(nostack, preserves_flags)) };
    });
}

/// Drops all instructions from the instruction caches of all cores, after code was written and cleaned.
pub fn invalidate_instructions() {
    // SAFETY: the cores fetch instructions from memory again. No data and no register are changed.
    unsafe { asm!("dsb ish", "ic ialluis", "dsb ish", "isb", options(nostack, preserves_flags)) };
}
