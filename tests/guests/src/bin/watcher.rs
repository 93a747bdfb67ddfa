//! A guest that has a watchpoint on a word of its own, and uses every debug register that any CPU
//! has.
//!
//! The guest sets them, computes for longer than a turn on its core lasts, and finds them as it
//! left them, or prints `FAULT`. Then it writes the word, and must be stopped. It prints `round
//! <n>` after each round, unless there was a `FAULT` in any.

#![no_std]
#![no_main]

use core::arch::asm;
use core::sync::atomic::AtomicU64;
use stasis_guests::exception::catch;
use stasis_guests::{mrs, msr, println, runtime, timer};

stasis_guests::entry!(main, runtime::no_irq);

/// Longer than the turns of a few others.
const ROUND_MS: u64 = 30;
/// DBGWCR: enabled, at EL1, for stores, all eight bytes. DBGBCR: not enabled, at EL1, all four
/// bytes.
const WATCH: u64 = 1 | 0b01 << 1 | 0b10 << 3 | 0xff << 5;
const BREAK: u64 = 0b01 << 1 | 0xf << 5;
/// MDSCR_EL1.KDE and MDE.
const EVENTS: u64 = 1 << 13 | 1 << 15;
/// ESR_EL1.EC of a watchpoint at the same EL.
const WATCHPOINT: u64 = 0x35;

static WORD: AtomicU64 = AtomicU64::new(0);

fn main() {
    msr!("OSLAR_EL1", 0);
    // SAFETY: Its debug exceptions are expected.
    unsafe { asm!("msr daifclr, #8") };
    let mut faults = 0_u64;
    for round in 1_u64.. {
        // Another one each time, and in each guest.
        let seed = timer::now();
        let values = [seed & !3, seed.rotate_left(3) & 0x7fff_fffc];
        msr!("DBGBVR0_EL1", values[0] & 0xffff_ffff);
        msr!("DBGBVR1_EL1", values[1]);
        msr!("DBGBCR0_EL1", BREAK);
        msr!("DBGWVR0_EL1", WORD.as_ptr() as u64);
        msr!("DBGWCR0_EL1", WATCH);
        msr!("MDSCR_EL1", EVENTS);
        while timer::now() < seed + timer::frequency() * ROUND_MS / 1000 {}
        let found = [mrs!("DBGBVR0_EL1"), mrs!("DBGBVR1_EL1")];
        if found != [values[0] & 0xffff_ffff, values[1]] {
            faults += 1;
            println!("FAULT breakpoints {found:x?} instead of {values:x?}");
        }
        let kept =
            (mrs!("DBGBCR0_EL1"), mrs!("DBGWVR0_EL1"), mrs!("DBGWCR0_EL1"), mrs!("MDSCR_EL1"));
        if kept != (BREAK, WORD.as_ptr() as u64, WATCH, EVENTS) {
            faults += 1;
            println!("FAULT debug registers {kept:x?}");
        }
        // SAFETY: a store to its own word.
        let fault =
            catch(|| unsafe { asm!("str {0}, [{1}]", in(reg) round, in(reg) WORD.as_ptr()) });
        if fault.is_none_or(|fault| fault.esr >> 26 != WATCHPOINT) {
            faults += 1;
            println!("FAULT a store to the word: {fault:x?}");
        }
        match faults {
            0 => println!("round {round}"),
            _ => println!("FAULT {faults} in {round} rounds"),
        }
    }
}
