//! Writes all system registers there can be, from EL1 and from EL0: whoever shares a core with it
//! must find theirs as they were.
//!
//! The guest begins when something is typed. After each sweep it computes for longer than the turns
//! of its neighbours last, with what it wrote still in the registers. It prints `EL<n> <value>: <n>
//! took it` after each sweep, and `swept` at the end.

#![no_std]
#![no_main]

use core::cell::UnsafeCell;
use stasis_guests::code::{execute, execute_at_el0, mrs_x0, msr_x0};
use stasis_guests::encodings::{COUNT, Encoding, NOT_WRITTEN, all, has};
use stasis_guests::exception::{Fault, catch};
use stasis_guests::{msr, println, runtime, timer, uart};

stasis_guests::entry!(main, runtime::no_irq);

const VALUES: [u64; 3] = [!0, 0x5555_aaaa_5555_aaaa, 1];
/// Longer than the turns of a few others.
const STAY_MS: u64 = 200;
/// All eight tags of DBGCLAIMCLR_EL1.
const TAGS: u64 = 0xff;

struct Values(UnsafeCell<[u64; COUNT]>);
// SAFETY: the one CPU that there is uses it in one place.
unsafe impl Sync for Values {}
/// What each had before.
static BEFORE: Values = Values(UnsafeCell::new([0; COUNT]));

fn main() {
    println!("type to begin");
    uart::get();
    for value in VALUES {
        sweep_el1(value);
        let taken = write_all(value, |instruction, value| {
            // SAFETY: it is none of those that are left out, and X0 is all that code at EL0 can
            // reach.
            unsafe { execute_at_el0(instruction, value) }
        });
        println!("EL0 {value:#x}: {taken} took it");
        stay();
    }
    println!("swept");
}

fn sweep_el1(value: u64) {
    // SAFETY: nobody else uses it.
    let before = unsafe { &mut *BEFORE.0.get() };
    for ((op0, op1, crn, crm, op2), before) in all().zip(&mut *before) {
        // SAFETY: it is a read into X0.
        *before = unsafe { execute(mrs_x0(op0, op1, crn, crm, op2), 0) }.unwrap_or(0);
    }
    let taken = write_all(value, at_el1);
    stay();
    for (encoding, before) in all().zip(before).filter(|(encoding, _)| written(*encoding)) {
        let _ = at_el1(instruction(encoding), *before);
    }
    let _ = catch(|| {
        msr!("OSLAR_EL1", 0);
        msr!("DBGCLAIMCLR_EL1", TAGS);
        msr!("MDSCR_EL1", 0);
    });
    println!("EL1 {value:#x}: {taken} took it");
}

fn at_el1(instruction: u32, value: u64) -> Result<u64, Fault> {
    // SAFETY: it is none of those that are left out, which are those that Rust relies on. PSTATE.D
    // masks debug exceptions.
    unsafe { execute(instruction, value) }
}

fn written(encoding: Encoding) -> bool {
    !has(NOT_WRITTEN, encoding)
}

fn instruction((op0, op1, crn, crm, op2): Encoding) -> u32 {
    msr_x0(op0, op1, crn, crm, op2)
}

/// Returns how many were written without a fault.
fn write_all(value: u64, mut write: impl FnMut(u32, u64) -> Result<u64, Fault>) -> usize {
    let all = all().filter(|encoding| written(*encoding));
    all.filter(|encoding| write(instruction(*encoding), value).is_ok()).count()
}

fn stay() {
    let start = timer::now();
    while timer::now() - start < timer::frequency() * STAY_MS / 1000 {}
}
