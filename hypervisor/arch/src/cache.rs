//! Cache maintenance (DDI 0487, D7.5): for memory that is written with caches on and read with them
//! off, and for instructions that are written as data.

use core::arch::asm;

/// Returns the bytes of the smallest data cache line: CTR_EL0.DminLine.
#[inline]
pub fn line() -> usize {
    4 << (mrs!("ctr_el0") >> 16 & 0xf)
}

/// Lines between two branches: a checkpoint maintains each line of a guest's memory.
const UNROLLED: usize = 32;

/// Executes an instruction that maintains a cache line for each line of `len` bytes at `start`, and
/// waits until the maintenance is complete. The instruction changes no data that a core with caches
/// sees.
macro_rules! maintain {
    ($instruction:literal, $start:ident, $len:ident) => {{
        let line = line();
        let mut address = $start & !(line - 1);
        let lines = ($start + $len - address).div_ceil(line);
        for _ in 0..lines / UNROLLED {
            // SAFETY: 1. The instruction changes no data that a core with caches sees, as each
            // caller says. 2. No register is changed but the one that is named.
            unsafe {
                asm!(
                    ".rept {unrolled}",
                    concat!($instruction, ", {address}"),
                    "add {address}, {address}, {line}",
                    ".endr",
                    unrolled = const UNROLLED,
                    address = inout(reg) address,
                    line = in(reg) line,
                    options(nostack, preserves_flags)
                );
            }
        }
        for _ in 0..lines % UNROLLED {
            // SAFETY: the instruction changes no data that a core with caches sees, as each caller
            // says, and no register.
            unsafe { asm!(concat!($instruction, ", {}"), in(reg) address, options(nostack, preserves_flags)) };
            address += line;
        }
        // SAFETY: a barrier changes no register and no memory.
        unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
    }};
}

/// Writes the cache lines of `len` bytes at `start` back to the point of coherency, so that an
/// observer without caches sees the bytes.
pub fn clean_to_poc(start: usize, len: usize) {
    // A clean changes no data that a core with caches sees.
    maintain!("dc cvac", start, len);
}

/// Writes the cache lines of `len` bytes at `start` back to the point of coherency and drops them
/// from the caches: for a guest that will read the bytes with its caches off and then on, or that
/// has written them so.
#[inline(never)]
pub fn clean_and_invalidate_to_poc(start: usize, len: usize) {
    // A dirty line is written back before it is dropped, so no data are lost.
    maintain!("dc civac", start, len);
}

/// Drops all instructions from the instruction caches of all cores, after code was written and
/// cleaned.
pub fn invalidate_instructions() {
    // SAFETY: the cores fetch instructions from memory again. No data and no register are changed.
    unsafe { asm!("dsb ish", "ic ialluis", "dsb ish", "isb", options(nostack, preserves_flags)) };
}
