//! The vector registers, which another guest on the core writes, too.

use core::arch::asm;

use crate::timer::now;

/// Keeps `value` in a vector register for `ticks`, and returns what is there then.
pub fn hold(value: u64, ticks: u64) -> u64 {
    let kept;
    // SAFETY: It names what it changes.
    unsafe {
        asm!("dup v31.2d, {value}", "0: isb", "mrs {now}, cntvct_el0", "cmp {now}, {end}", "b.lo 0b",
            "mov {kept}, v31.d[1]", value = in(reg) value, now = out(reg) _, end = in(reg) now() + ticks,
            kept = lateout(reg) kept, out("v31") _, options(nomem, nostack));
    }
    kept
}
