//! The world switch of the system registers, made from the records' tables (DDI 0487, D24.2).
//!
//! Each register has a [`Home`](stasis_state::register::Home) in its table, and what is done with it follows from that. So a register
//! that is added to a table is switched, or has a home that is not here, or does not compile.

use crate::cpu::isb;
use crate::timer;
use stasis_state::vcpu::SystemRegisters;

/// Makes the world switch of the system registers from their record's table: what is done with each follows from its home.
macro_rules! switch {
    (
        $(#[$meta:meta])*
        pub struct $Record:ident in $module:ident: $TYPE:ident {
            $( $(#[$doc:meta])* $name:ident: $ty:ty = $id:expr
                $(, reset $reset:expr)?, home $home:ident $(($why:literal))?; )*
        }
    ) => {
        pub(super) fn save_system(registers: &mut $Record) {
            $( save!($home $name, registers); )*
        }

        /// # Safety
        ///
        /// The stage 2 that is active on this core is that of the vCPU whose record this is, and stage 1 walks nothing, as
        /// [`activate_stage2`](crate::mmu::activate_stage2) leaves it.
        pub(super) unsafe fn load_system(registers: &$Record) {
            // SAFETY: 1. These registers act at EL1 and EL0 alone, so EL2's memory and its code stay what they are. 2. What they
            // translate by is the vCPU's own stage 2, by the caller. 3. Stage 1 walks nothing, by the caller, until `load_regime`
            // enables it after all else is loaded: so no walk goes by registers of two vCPUs.
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
