//! The world switch of the system registers, made from the records' tables (DDI 0487, D24.2).
//!
//! Each register has a [`Home`](stasis_state::register::Home) in its table, which says how it is
//! switched. A register that is added to a table with a home that nobody here moves does not
//! compile.

use crate::cpu::isb;
use crate::timer;
use stasis_state::vcpu::SystemRegisters;

/// Makes [`save_system`] and [`load_system`] from the record's table: a register's home says what
/// is done with it.
macro_rules! switch {
    (
        $(#[$meta:meta])*
        pub struct $Record:ident in $module:ident: $TYPE:ident {
            $( $(#[$doc:meta])* $name:ident: $ty:ty = $id:expr
                $(, reset $reset:expr)?, home $home:ident $(($why:literal))?; )*
        }
    ) => {
        /// Saves the system registers whose homes are `Switch` and `Regime`.
        pub(super) fn save_system(registers: &mut $Record) {
            $( save!($home $name, registers); )*
        }

        /// Loads the system registers whose homes are `Switch` and `Regime`, the latter last.
        ///
        /// # Safety
        ///
        /// 1. The stage 2 that is active on this core is that of the vCPU whose record this is.
        /// 2. Stage 1 walks nothing, as [`activate_stage2`](crate::mmu::activate_stage2) leaves it.
        pub(super) unsafe fn load_system(registers: &$Record) {
            // SAFETY: 1. These registers act at EL1 and EL0 alone, so EL2's memory and its code
            // stay what they are. 2. Their translations go through the vCPU's own stage 2, by
            // condition 1. 3. Stage 1 walks nothing, by condition 2, until `load_regime` enables it
            // after all else is loaded. So no walk uses registers of two vCPUs.
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

/// Loads a register that says how stage 1 translates, in the table's order: SCTLR_EL1 enables stage
/// 1 before TCR_EL1 enables its walks.
macro_rules! load_regime {
    (regime $name:ident, $registers:ident) => {
        isb();
        msr!(stringify!($name); *$registers.$name)
    };
    ($other:ident $name:ident, $registers:ident) => {};
}

/// Accepts the registers of this record that another module moves, or nobody. Any other home does
/// not compile.
macro_rules! elsewhere {
    (timer $name:ident) => {
        timer::moves!($name)
    };
    (kept $name:ident) => {};
}

stasis_state::vcpu_system!(switch);

/// Accepts the registers that the assembly of `vectors` and `fp` moves, which names each. Any other
/// register does not compile.
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
