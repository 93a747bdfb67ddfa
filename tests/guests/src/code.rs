//! Instructions that are not known before the guest runs: written to memory, and called.

use crate::exception::{Fault, catch};
use core::arch::asm;
use core::cell::UnsafeCell;

#[repr(C, align(64))]
struct Buffer(UnsafeCell<[u32; 2]>);

// SAFETY: The guests have one CPU, and no interrupt handler uses the buffer.
unsafe impl Sync for Buffer {}

static BUFFER: Buffer = Buffer(UnsafeCell::new([0; 2]));

/// Executes one instruction with `x0` in X0: what it leaves there, or its fault.
///
/// # Safety
/// The instruction must change no register but X0, and no memory or system register that Rust relies on.
pub unsafe fn execute(instruction: u32, x0: u64) -> Result<u64, Fault> {
    const RET: u32 = 0xd65f_03c0;
    let buffer = BUFFER.0.get();
    let mut result = x0;
    // SAFETY: The buffer is ours (see `Buffer`).
    unsafe { buffer.write_volatile([instruction, RET]) };
    let fault = catch(|| {
        // SAFETY: The buffer is code by the time it is called; the caller vouches for the instruction.
        unsafe {
            asm!("dc cvau, {code}", "dsb ish", "ic ivau, {code}", "dsb ish", "isb", "blr {code}",
                code = in(reg) buffer, inlateout("x0") result, out("x30") _);
        }
    });
    match fault {
        Some(fault) => Err(fault),
        None => Ok(result),
    }
}

/// The encoding of `mrs x0, S<op0>_<op1>_C<crn>_C<crm>_<op2>`.
pub const fn mrs_x0(op0: u32, op1: u32, crn: u32, crm: u32, op2: u32) -> u32 {
    0xd520_0000 | op0 << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5
}

/// The encoding of `msr S<op0>_<op1>_C<crn>_C<crm>_<op2>, x0`; with an `op0` of 1, of `sys`.
pub const fn msr_x0(op0: u32, op1: u32, crn: u32, crm: u32, op2: u32) -> u32 {
    0xd500_0000 | op0 << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5
}
