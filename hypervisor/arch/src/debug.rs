//! Self-hosted debug (DDI 0487, D2): breakpoints, watchpoints, the OS lock. EL2 takes the debug
//! exceptions of a guest that a debugger outside of it has, and no others.
//!
//! The debug registers are many, and few guests use them. So they are
//! [lent](crate::world::Loaded::lend_debug) to the loaded guest when it accesses one, or when it is
//! loaded with any of them in use. Until then its accesses trap. While the registers are not lent,
//! nothing is enabled in them, whatever the last guest has left there.
//!
//! The OS lock is emulated, and the hardware's is never locked for a guest. While it is locked,
//! fields of MDSCR_EL1 can be written that are an external debugger's (HDE, INTdis: DDI 0487,
//! D24.3), by which a guest could halt a core, or take EL2's interrupts from it. So the debug
//! registers are lent only to a guest whose own lock is unlocked. The accesses of a guest whose
//! lock is locked are answered from its record, and no event is enabled.
//!
//! A debugger outside of the guest, who wants to stop it,
//! [takes](crate::world::Loaded::debug_from_outside) the registers for a turn. The guest's accesses
//! trap then, and are answered from its record, and debug exceptions come to EL2 (MDCR_EL2.TDE).
//! What the guest has set acts again when it has them back.

use core::arch::asm;
use stasis_state::vcpu::Debug;

/// MDCR_EL2.TDA: accesses to the debug registers trap.
const TRAPS: u64 = 1 << 9;
/// MDCR_EL2.TDE: debug exceptions of EL1 and EL0 come to EL2, also that of BRK. All accesses to the
/// debug registers trap then, too.
const EXCEPTIONS: u64 = 1 << 8;
/// MDCR_EL2.TDOSA, always set: accesses to the OS lock, the OS double lock and DBGPRCR_EL1 trap. A
/// guest that set the double lock would take debug exceptions from every guest on this core, and
/// nothing saves it.
pub(crate) const TDOSA: u64 = 1 << 10;
/// DBGCLAIMCLR_EL1: all eight tags.
const CLAIM_TAGS: u64 = 0xff;
/// MDSCR_EL1.SS, KDE and MDE: without them no debug event becomes an exception.
const EVENTS: u64 = 1 | KDE | 1 << 15;
/// MDSCR_EL1.KDE: debug exceptions of the exception level that takes them are enabled.
const KDE: u64 = 1 << 13;

/// Opens the OS lock and the OS double lock, whatever a firmware has left there, and makes the
/// guest's accesses to the debug registers trap. Called once, before a guest runs on this core.
///
/// # Safety
///
/// No [`Loaded`](crate::world::Loaded) of this core is alive.
pub(crate) unsafe fn init() {
    // SAFETY: no guest is loaded on this core, by the caller, and EL2 takes no debug exceptions, so
    // the locks act on nobody. The OS lock is locked while MDSCR_EL1 is cleared, because only then
    // all of its fields can be written.
    unsafe {
        msr!("osdlr_el1", 0);
        msr!("oslar_el1", 1);
        asm!("isb", options(nostack, preserves_flags));
        msr!("mdscr_el1", 0);
        asm!("isb", options(nostack, preserves_flags));
        msr!("oslar_el1", 0);
    }
    keep();
}

/// Disables everything in the debug registers, and makes the guest's accesses to them trap.
pub(crate) fn keep() {
    // SAFETY: 1. The writes disable all debug events, and enable nothing. 2. `set_traps`: the traps
    // are set.
    unsafe {
        msr!("mdccint_el1", 0);
        msr!("mdscr_el1", 0);
        set_traps(TRAPS);
    }
}

/// Writes MDCR_EL2.TDA and TDE: `traps` has [`TRAPS`] and [`EXCEPTIONS`], or one, or none.
///
/// # Safety
///
/// If `traps` is 0, the debug registers are those of the guest that is loaded.
unsafe fn set_traps(traps: u64) {
    let others = mrs!("mdcr_el2") & !(TRAPS | EXCEPTIONS);
    // SAFETY: 1. MDCR_EL2.TDA decides what traps from EL1 and EL0 alone, and the guest finds there
    // what is its own, by the caller. 2. TDE sends exceptions of EL1 and EL0 to EL2, whose vector
    // for them is that of an exit. EL2 itself takes none: PSTATE.D is set there, and MDSCR_EL1.KDE
    // is clear while TDE is set.
    unsafe { msr!("mdcr_el2", others | traps) };
}

/// Returns whether the debug registers do something in the guest whose record this is.
#[inline]
pub(crate) fn are_used(registers: &Debug) -> bool {
    *registers.os_lock == 0 && *registers.mdscr_el1 & EVENTS | *registers.mdccint_el1 != 0
}

/// Returns the number of breakpoints and of watchpoints: ID_AA64DFR0_EL1.BRPs and WRPs, which are
/// one less.
fn pairs() -> (u64, u64) {
    let dfr0 = mrs!("id_aa64dfr0_el1");
    ((dfr0 >> 12 & 0xf) + 1, (dfr0 >> 20 & 0xf) + 1)
}

/// Calls `$one!(index, "index")` for each of the sixteen pairs that is below `$count`. Whoever does
/// for both registers of a pair what must be done needs one check for both.
macro_rules! each_pair {
    ($count:expr, $one:ident) => {
        each_pair!(@ $count, $one, 0 "0", 1 "1", 2 "2", 3 "3", 4 "4", 5 "5", 6 "6", 7 "7",
            8 "8", 9 "9", 10 "10", 11 "11", 12 "12", 13 "13", 14 "14", 15 "15")
    };
    (@ $count:expr, $one:ident, $($n:literal $name:literal),*) => {
        'pairs: {
            $(
                if $n == $count {
                    break 'pairs;
                }
                $one!($n, $name);
            )*
        }
    };
}

/// Makes [`save_all`] and [`load_all`] from the record's table.
macro_rules! lent {
    (
        $(#[$meta:meta])*
        pub struct $Record:ident in $module:ident: $TYPE:ident {
            $( $(#[$doc:meta])* $name:ident: $ty:ty = $id:expr
                $(, reset $reset:expr)?, home $home:ident $(($why:literal))?; )*
        }
    ) => {
        fn save_all(registers: &mut $Record) {
            let (breakpoints, watchpoints) = pairs();
            $( save!($home $name, registers, breakpoints, watchpoints); )*
        }

        /// Loads the debug registers that the CPU has.
        ///
        /// # Safety
        ///
        /// The debug registers are those of the guest that is loaded from here on.
        unsafe fn load_all(registers: &$Record) {
            let (breakpoints, watchpoints) = pairs();
            // SAFETY: these registers act in the guest alone, for EL2 takes no debug exceptions of
            // its own: while MDCR_EL2.TDE is clear, none comes from EL2, and while it is set, KDE
            // is clear. They have the values that are meant for this guest, by the caller.
            // MDSCR_EL1 comes last: it enables the others.
            unsafe {
                $( load!($home $name, registers, breakpoints, watchpoints); )*
                msr!("mdscr_el1", *registers.mdscr_el1);
            }
        }
    };
}

/// Saves a debug register, or, with the first of two arrays, all pairs that the CPU has.
macro_rules! save {
    (kept $name:ident, $to:ident, $b:ident, $w:ident) => {};
    (lent dbgbvr, $to:ident, $b:ident, $w:ident) => { save!(@ each dbgbvr dbgbcr, $to, $b) };
    (lent dbgbcr, $to:ident, $b:ident, $w:ident) => {};
    (lent dbgwvr, $to:ident, $b:ident, $w:ident) => { save!(@ each dbgwvr dbgwcr, $to, $w) };
    (lent dbgwcr, $to:ident, $b:ident, $w:ident) => {};
    (@ each $value:ident $control:ident, $to:ident, $count:ident) => {
        macro_rules! one {
            ($n:literal, $index:literal) => {
                $to.$value[$n] = mrs!(stringify!($value), $index, "_el1");
                $to.$control[$n] = mrs!(stringify!($control), $index, "_el1");
            };
        }
        each_pair!($count, one);
    };
    (lent $name:ident, $to:ident, $b:ident, $w:ident) => {
        *$to.$name = mrs!(stringify!($name))
    };
}

/// Loads a debug register, or, with the first of two arrays, all pairs that the CPU has.
macro_rules! load {
    (kept $name:ident, $from:ident, $b:ident, $w:ident) => {};
    (lent mdscr_el1, $from:ident, $b:ident, $w:ident) => {};
    (lent dbgbvr, $from:ident, $b:ident, $w:ident) => { load!(@ each dbgbvr dbgbcr, $from, $b) };
    (lent dbgbcr, $from:ident, $b:ident, $w:ident) => {};
    (lent dbgwvr, $from:ident, $b:ident, $w:ident) => { load!(@ each dbgwvr dbgwcr, $from, $w) };
    (lent dbgwcr, $from:ident, $b:ident, $w:ident) => {};
    (@ each $value:ident $control:ident, $from:ident, $count:ident) => {
        macro_rules! one {
            ($n:literal, $index:literal) => {
                msr!(stringify!($value), $index, "_el1"; $from.$value[$n]);
                msr!(stringify!($control), $index, "_el1"; $from.$control[$n]);
            };
        }
        each_pair!($count, one);
    };
    (lent $name:ident, $from:ident, $b:ident, $w:ident) => {
        msr!(stringify!($name); *$from.$name)
    };
}

stasis_state::vcpu_debug!(lent);

/// Saves the debug registers into `registers`, and takes them back from the guest that is loaded.
#[cold]
pub(crate) fn take_back(registers: &mut Debug) {
    save_all(registers);
    keep();
}

/// Lends the debug registers to the loaded guest, whose OS lock is unlocked.
///
/// # Safety
///
/// A vCPU is loaded on this core.
#[cold]
pub(crate) unsafe fn lend(registers: &Debug) {
    debug_assert!(*registers.os_lock == 0, "the registers of a guest whose OS lock is locked");
    // SAFETY: 1. `load_all`: from here on, the registers are those of the loaded guest, by the
    // caller. 2. `set_traps`: so no access of the guest needs to trap. 3. The claim tags act on
    // nothing.
    unsafe {
        // Clear the claim tags, so that no guest finds what another has claimed.
        msr!("dbgclaimclr_el1", CLAIM_TAGS);
        load_all(registers);
        set_traps(0);
        asm!("isb", options(nostack, preserves_flags));
    }
}

/// Loads the debug registers with what a debugger outside of the loaded guest wants: `registers`,
/// of which MDSCR_EL1.SS and MDE count, and the pairs. The guest's accesses trap from then on, and
/// its debug exceptions come to EL2.
///
/// # Safety
///
/// A vCPU is loaded on this core, and what it has of the debug registers is in its record.
#[cold]
pub(crate) unsafe fn take_for_debugger(registers: &Debug) {
    debug_assert!(*registers.mdscr_el1 & KDE == 0, "EL2 would take debug exceptions of its own");
    // SAFETY: 1. `set_traps`: the traps are set, so the guest does not see the registers. They come
    // first: no event is enabled before its exception comes to EL2. 2. `load_all`: the values are
    // meant for the guest that is loaded, by the caller, whose own are not lost.
    unsafe {
        set_traps(TRAPS | EXCEPTIONS);
        load_all(registers);
        asm!("isb", options(nostack, preserves_flags));
    }
}
