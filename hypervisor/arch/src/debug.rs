//! Self-hosted debug (DDI 0487, D2): breakpoints, watchpoints, the OS lock. They are the guest's own
//! while it is loaded; EL2 takes no debug exceptions.

use stasis_state::vcpu::Debug;

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

/// Saves the debug registers.
pub fn save(registers: &mut Debug) {
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
}

/// Loads the debug registers, MDSCR_EL1 last: it is what enables the others.
pub fn load(registers: &Debug) {
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
    }
}
