//! Instructions that are not known before the guest runs: written to memory, and called.

use crate::exception::{Fault, catch, catch_at_el0};
use crate::mmio::RAM_START;
use crate::runtime::{EL0_ALIAS, map_for_el0};
use core::arch::asm;
use core::cell::UnsafeCell;

/// Room for one instruction, and the way back from it.
#[repr(C, align(64))]
pub struct Code([u32; 2]);

impl Code {
    /// Returns room with nothing in it yet.
    pub const fn new() -> Self {
        Self([0; 2])
    }

    /// Executes one instruction with `x0` in X0, and returns what it leaves there.
    ///
    /// # Safety
    ///
    /// The instruction must change no register but X0, and no memory or system register that Rust
    /// relies on.
    pub unsafe fn run(&mut self, instruction: u32, x0: u64) -> u64 {
        const RET: u32 = 0xd65f_03c0;
        let code: *mut [u32; 2] = &mut self.0;
        let mut result = x0;
        // SAFETY: 1. The room is ours, and is code by the time it is called: all memory of a guest
        // is executable. 2. The caller vouches for the instruction.
        unsafe {
            code.write_volatile([instruction, RET]);
            asm!("dc cvau, {code}", "dsb ish", "ic ivau, {code}", "dsb ish", "isb", "blr {code}", "isb",
                code = in(reg) code, inlateout("x0") result, out("x30") _);
        }
        result
    }
}

impl Default for Code {
    fn default() -> Self {
        Self::new()
    }
}

struct Shared(UnsafeCell<Code>);

// SAFETY: `execute` is called on one CPU, and by no interrupt handler.
unsafe impl Sync for Shared {}

static CODE: Shared = Shared(UnsafeCell::new(Code::new()));

/// Executes one instruction with `x0` in X0: what it leaves there, or its fault.
///
/// # Safety
/// The instruction must change no register but X0, and no memory or system register that Rust
/// relies on. One CPU calls this.
pub unsafe fn execute(instruction: u32, x0: u64) -> Result<u64, Fault> {
    let mut result = x0;
    let fault = catch(|| {
        // SAFETY: 1. No other reference to it is there (see `Shared`). 2. The caller vouches for
        // the instruction.
        result = unsafe { (*CODE.0.get()).run(instruction, x0) };
    });
    match fault {
        Some(fault) => Err(fault),
        None => Ok(result),
    }
}

/// Executes an instruction at EL0 with `x0` in X0, and returns what X0 has then, or the fault.
///
/// # Safety
/// The instruction must change no register but X0, and no memory or system register that Rust
/// relies on.
pub unsafe fn execute_at_el0(instruction: u32, x0: u64) -> Result<u64, Fault> {
    const SVC: u32 = 0xd400_0001;
    // SAFETY: `Code` is one array, and nobody makes a reference to it meanwhile (see `Shared`).
    let buffer: *mut [u32; 2] = unsafe { &raw mut (*CODE.0.get()).0 };
    let mut result = x0;
    map_for_el0();
    // SAFETY: the buffer is ours (see `Shared`), and is code by the time it is called; the caller
    // vouches for the instruction.
    let fault = unsafe {
        buffer.write_volatile([instruction, SVC]);
        asm!("dc cvau, {code}", "dsb ish", "ic ivau, {code}", "dsb ish", "isb", code = in(reg) buffer);
        catch_at_el0(EL0_ALIAS + (buffer as usize - RAM_START), &mut result)
    };
    match fault {
        Some(fault) => Err(fault),
        None => Ok(result),
    }
}

/// Returns the encoding of `mrs x0, S<op0>_<op1>_C<crn>_C<crm>_<op2>`.
pub const fn mrs_x0(op0: u32, op1: u32, crn: u32, crm: u32, op2: u32) -> u32 {
    0xd520_0000 | op0 << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5
}

/// Returns the encoding of `msr S<op0>_<op1>_C<crn>_C<crm>_<op2>, x0`; with an `op0` of 1, of
/// `sys`.
pub const fn msr_x0(op0: u32, op1: u32, crn: u32, crm: u32, op2: u32) -> u32 {
    0xd500_0000 | op0 << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5
}
