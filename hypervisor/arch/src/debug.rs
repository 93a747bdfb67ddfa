//! Self-hosted debug (DDI 0487, D2): breakpoints, watchpoints, the OS lock. EL2 takes no debug exceptions.
//!
//! They are many, and few guests use them. So they are [lent](lend) to the guest that is loaded when it touches one, or
//! when it is loaded with any of them in use; till then its accesses trap. While they are not lent, nothing is enabled in them, whatever
//! the last guest has left there.

use core::arch::asm;
use stasis_state::vcpu::Debug;

/// MDCR_EL2.TDA and TDOSA: accesses to the debug registers trap.
const TRAPS: u64 = 1 << 9 | 1 << 10;
/// MDSCR_EL1.SS, KDE, HDE and MDE: without them no debug event becomes an exception.
const EVENTS: u64 = 1 | 1 << 13 | 1 << 14 | 1 << 15;

/// Has them not be lent: once, before a guest runs on this core.
pub fn init() {
    // SAFETY: nothing is enabled by it.
    unsafe {
        msr!("mdccint_el1", 0);
        msr!("mdscr_el1", 0);
        set_traps(TRAPS);
    }
}

/// # Safety
///
/// Without traps, the debug registers are those of the guest that is loaded.
unsafe fn set_traps(traps: u64) {
    let others = mrs!("mdcr_el2") & !TRAPS;
    // SAFETY: it concerns EL1 and EL0 alone.
    unsafe { msr!("mdcr_el2", others | traps) };
}

/// Lends them to a guest that is being loaded, if they do something in it. Returns whether they do.
#[inline]
pub fn load(registers: &Debug) -> bool {
    let used = *registers.mdscr_el1 & EVENTS | *registers.mdccint_el1 != 0;
    if used {
        lend(registers);
    }
    used
}

/// ID_AA64DFR0_EL1.BRPs and WRPs: one less than the number of breakpoints and watchpoints.
fn pairs() -> (u64, u64) {
    let dfr0 = mrs!("id_aa64dfr0_el1");
    ((dfr0 >> 12 & 0xf) + 1, (dfr0 >> 20 & 0xf) + 1)
}

/// Calls `$one!(index, "index")` for each of the sixteen pairs that is below `$count`.
macro_rules! each_pair {
    ($count:expr, $one:ident) => {
        each_pair!(@ $count, $one, 0 "0", 1 "1", 2 "2", 3 "3", 4 "4", 5 "5", 6 "6", 7 "7",
            8 "8", 9 "9", 10 "10", 11 "11", 12 "12", 13 "13", 14 "14", 15 "15")
    };
    (@ $count:expr, $one:ident, $($n:literal $name:literal),*) => {
        $( if $n < $count { $one!($n, $name); } )*
    };
}

/// Takes back what was lent, and saves it.
#[cold]
pub fn take_back(registers: &mut Debug) {
    let (breakpoints, watchpoints) = pairs();
    macro_rules! breakpoint {
        ($n:literal, $name:literal) => {
            registers.dbgbvr[$n] = mrs!("dbgbvr", $name, "_el1");
            registers.dbgbcr[$n] = mrs!("dbgbcr", $name, "_el1");
        };
    }
    macro_rules! watchpoint {
        ($n:literal, $name:literal) => {
            registers.dbgwvr[$n] = mrs!("dbgwvr", $name, "_el1");
            registers.dbgwcr[$n] = mrs!("dbgwcr", $name, "_el1");
        };
    }
    each_pair!(breakpoints, breakpoint);
    each_pair!(watchpoints, watchpoint);
    *registers.mdscr_el1 = mrs!("mdscr_el1");
    *registers.mdccint_el1 = mrs!("mdccint_el1");
    *registers.os_lock = mrs!("oslsr_el1") >> 1 & 1;
    init();
}

/// Lends them to the guest that is loaded. MDSCR_EL1 comes last: it is what enables the others.
#[cold]
pub fn lend(registers: &Debug) {
    let (breakpoints, watchpoints) = pairs();
    macro_rules! breakpoint {
        ($n:literal, $name:literal) => {
            msr!("dbgbvr", $name, "_el1"; registers.dbgbvr[$n]);
            msr!("dbgbcr", $name, "_el1"; registers.dbgbcr[$n]);
        };
    }
    macro_rules! watchpoint {
        ($n:literal, $name:literal) => {
            msr!("dbgwvr", $name, "_el1"; registers.dbgwvr[$n]);
            msr!("dbgwcr", $name, "_el1"; registers.dbgwcr[$n]);
        };
    }
    // SAFETY: debug exceptions are not taken at EL2 (MDCR_EL2.TDE is clear, KDE concerns EL1), so
    // these registers act in the guest alone.
    unsafe {
        each_pair!(breakpoints, breakpoint);
        each_pair!(watchpoints, watchpoint);
        msr!("mdccint_el1", *registers.mdccint_el1);
        msr!("oslar_el1", *registers.os_lock);
        msr!("mdscr_el1", *registers.mdscr_el1);
        set_traps(0);
        asm!("isb", options(nostack, preserves_flags));
    }
}
