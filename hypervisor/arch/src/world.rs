//! Entering a guest, and its system registers.
//!
//! [`enter`] switches the general registers alone. The rest of a vCPU stays in the hardware from one
//! exit to the next entry, and is loaded and saved only when the core turns to another vCPU, or when
//! the guest is to be looked at.
//!
//! What is loaded and saved is made from the records' tables: each register has a [`Home`](stasis_state::register::Home) there. So a
//! register that is added to a table is switched, or has a home that is not here, or does not compile.

use crate::cpu::isb;
use crate::{fp, timer};
use stasis_state::vcpu::{Core, FpSimd, SystemRegisters};

/// Why a guest came back to EL2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitKind {
    /// A synchronous exception: see [`crate::cpu::syndrome`].
    Synchronous,
    /// A physical interrupt, which is still pending.
    Interrupt,
    /// A physical SError.
    SError,
}

/// Runs the guest that is loaded on this core until its next exit.
#[inline(always)]
pub fn enter(core: &mut Core) -> ExitKind {
    // A guest runs at EL1 or EL0, whatever its PSTATE claims to be.
    debug_assert!(*core.pstate & 0b1100 <= 0b0100, "PSTATE {:#x} is not a guest's", *core.pstate);
    let kind: u64;
    // SAFETY: 1. What the assembly does not restore is named, and so kept by the compiler, which knows what of it is in
    // use. It stores at the offsets of this struct's fields. 2. The guest is confined by stage 2 and the traps of
    // `cpu::init_traps`; it cannot touch EL2's memory. 3. EL2 has no FP state to lose.
    unsafe {
        core::arch::asm!("bl stasis_enter_guest", inlateout("x0") core as *mut Core => kind,
            out("x20") _, out("x21") _, out("x22") _, out("x23") _, out("x24") _,
            out("x25") _, out("x26") _, out("x27") _, out("x28") _, clobber_abi("C"));
    }
    match kind {
        0 => ExitKind::Synchronous,
        1 => ExitKind::Interrupt,
        _ => ExitKind::SError,
    }
}

/// Makes the world switch of the system registers from their record's table: what is done with each follows from its home.
macro_rules! switch {
    (
        $(#[$meta:meta])*
        pub struct $Record:ident in $module:ident: $TYPE:ident {
            $( $(#[$doc:meta])* $name:ident: $ty:ty = $id:expr
                $(, reset $reset:expr)?, home $home:ident $(($why:literal))?; )*
        }
    ) => {
        fn save_system(registers: &mut $Record) {
            $( save!($home $name, registers); )*
        }

        /// # Safety
        ///
        /// No guest may run until all of its state is loaded.
        unsafe fn load_system(registers: &$Record) {
            // SAFETY: these registers act at EL1 and EL0 alone. What translates is what `mmu::activate_stage2` says that it must be,
            // until all else is the guest's: then stage 1 is as it has it, and then its walks.
            unsafe {
                $( load!($home $name, registers); )*
                $( load_regime!($home $name, registers); )*
            }
        }
    };
}

/// Saves a register whose home is the system register of its name.
macro_rules! save {
    (switch $name:ident, $registers:ident) => {
        *$registers.$name = mrs!(stringify!($name))
    };
    (regime $name:ident, $registers:ident) => {
        save!(switch $name, $registers)
    };
    ($other:ident $name:ident, $registers:ident) => {
        elsewhere!($other $name)
    };
}

/// Loads a register whose home is the system register of its name.
macro_rules! load {
    (switch $name:ident, $registers:ident) => {
        msr!(stringify!($name); *$registers.$name)
    };
    (regime $name:ident, $registers:ident) => {};
    ($other:ident $name:ident, $registers:ident) => {
        elsewhere!($other $name)
    };
}

/// Loads a register that says how stage 1 translates, in the table's order: SCTLR_EL1 enables stage 1 before TCR_EL1 enables its walks.
macro_rules! load_regime {
    (regime $name:ident, $registers:ident) => {
        isb();
        msr!(stringify!($name); *$registers.$name)
    };
    ($other:ident $name:ident, $registers:ident) => {};
}

/// Accepts the registers of this record that others move, or nobody; a home that nobody here knows does not compile.
macro_rules! elsewhere {
    (timer $name:ident) => {
        timer::moves!($name)
    };
    (kept $name:ident) => {};
}

stasis_state::vcpu_system!(switch);

/// Accepts the records whose registers assembly moves, in `vectors` and `fp`, which names each: another one does not compile.
macro_rules! moved_by_assembly {
    (
        $(#[$meta:meta])*
        pub struct $Record:ident in $module:ident: $TYPE:ident {
            $( $(#[$doc:meta])* $name:ident: $ty:ty = $id:expr, home $home:ident; )*
        }
    ) => { $( moved_by_assembly!(@ $home $name); )* };
    (@ entry x) => {};
    (@ entry pc) => {};
    (@ entry pstate) => {};
    (@ fp v) => {};
    (@ fp fpsr) => {};
    (@ fp fpcr) => {};
}

stasis_state::vcpu_core!(moved_by_assembly);
stasis_state::vcpu_fp!(moved_by_assembly);

/// Saves what [`load`] loads, and stops the guest's virtual timer.
pub fn save(system: &mut SystemRegisters, fp: &mut FpSimd) {
    save_system(system);
    timer::save_virtual(system);
    fp::save(fp);
}

/// Makes this core the guest's, but for its memory, which is [active](crate::mmu::activate_stage2) already, its GIC and its
/// [debug registers](crate::debug). `counter_offset` is CNTVOFF_EL2.
pub fn load(system: &SystemRegisters, fp: &FpSimd, counter_offset: u64) {
    // SAFETY: the guest is entered only after this.
    unsafe { load_system(system) };
    fp::load(fp);
    timer::load_virtual(counter_offset, system);
}

macro_rules! live_registers {
    ($($(#[$doc:meta])* $get:ident, $set:ident: $name:literal;)*) => {
        /// System registers of the guest that is loaded on this core, for the injection of an
        /// exception.
        pub mod live { $(
            $(#[$doc])*
            pub fn $get() -> u64 {
                mrs!($name)
            }
            $(#[$doc])*
            pub fn $set(value: u64) {
                // SAFETY: it acts at EL1 and EL0 alone.
                unsafe { msr!($name, value) };
            }
        )* }
    };
}

live_registers! {
    /// ELR_EL1.
    elr_el1, set_elr_el1: "elr_el1";
    /// SPSR_EL1.
    spsr_el1, set_spsr_el1: "spsr_el1";
    /// ESR_EL1.
    esr_el1, set_esr_el1: "esr_el1";
    /// FAR_EL1.
    far_el1, set_far_el1: "far_el1";
    /// VBAR_EL1.
    vbar_el1, set_vbar_el1: "vbar_el1";
    /// SCTLR_EL1.
    sctlr_el1, set_sctlr_el1: "sctlr_el1";
    /// CSSELR_EL1.
    csselr_el1, set_csselr_el1: "csselr_el1";
    /// CNTV_CTL_EL0.
    cntv_ctl_el0, set_cntv_ctl_el0: "cntv_ctl_el0";
    /// CNTV_CVAL_EL0.
    cntv_cval_el0, set_cntv_cval_el0: "cntv_cval_el0";
}
