//! The guest's timers (DDI 0487, D11.2); its counter is in [`crate::clock`].
//!
//! The guest's physical counter reads the same as its virtual one. The virtual timer is the
//! hardware's, with CNTVOFF_EL2. The physical timer is trapped and emulated here on the vCPU's
//! record, so the world switch must leave CNTP_* alone. What follows from a timer's registers is in
//! [`stasis_state::timer`].

use stasis_state::timer::{ENABLE, IMASK};
use stasis_state::vcpu::SystemRegisters;

pub use stasis_state::timer::{Timer, settle};

/// A register of the physical timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhysicalRegister {
    /// CNTP_CTL_EL0.
    Control,
    /// CNTP_CVAL_EL0.
    CompareValue,
    /// CNTP_TVAL_EL0.
    TimerValue,
}

/// Returns what a register of the physical timer reads when the guest's counter reads `now`.
pub fn read_physical(system: &SystemRegisters, register: PhysicalRegister, now: u64) -> u64 {
    let timer = Timer::physical_timer(system);
    match register {
        PhysicalRegister::Control => timer.control_value(now),
        PhysicalRegister::CompareValue => timer.cval,
        PhysicalRegister::TimerValue => timer.timer_value(now),
    }
}

/// Writes a register of the physical timer when the guest's counter reads `now`. The timer's line
/// and deadline may change.
pub fn write_physical(
    system: &mut SystemRegisters,
    register: PhysicalRegister,
    value: u64,
    now: u64,
) {
    match register {
        PhysicalRegister::Control => {
            *system.cntp_ctl_el0 = value & (ENABLE | IMASK);
        }
        PhysicalRegister::CompareValue => *system.cntp_cval_el0 = value,
        PhysicalRegister::TimerValue => {
            // TVAL is a signed 32-bit distance from `now`.
            let distance = i64::from(value as i32) as u64;
            *system.cntp_cval_el0 = now.wrapping_add(distance);
        }
    }
}

#[cfg(test)]
mod tests;
