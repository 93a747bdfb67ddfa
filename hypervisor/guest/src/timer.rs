//! The guest's timers (DDI 0487, D11.2); its counter is in [`crate::clock`].
//!
//! The guest's physical counter reads the same as its virtual one. The virtual timer is the hardware's, with CNTVOFF_EL2. The physical timer is
//! trapped and emulated here on the vCPU's record, so the world switch must leave CNTP_* alone.

use stasis_state::vcpu::SystemRegisters;
use tock_registers::LocalRegisterCopy;

use control::CNT_CTL;

#[allow(missing_docs, reason = "register_bitfields! documents no enumerated values")]
mod control {
    tock_registers::register_bitfields! {u64,
        /// CNTP_CTL_EL0 and CNTV_CTL_EL0.
        pub CNT_CTL [
            /// The timer runs.
            ENABLE OFFSET(0) NUMBITS(1) [],
            /// The timer's interrupt is masked.
            IMASK OFFSET(1) NUMBITS(1) [],
            /// The timer's condition is met.
            ISTATUS OFFSET(2) NUMBITS(1) []
        ]
    }
}

/// The registers of one of the two timers of EL1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// CNT*_CTL_EL0: control.
    pub ctl: u64,
    /// CNT*_CVAL_EL0: the guest's time at which the timer's condition is met, in ticks.
    pub cval: u64,
}

impl Timer {
    /// Returns the virtual timer, CNTV, of the record.
    pub fn virtual_timer(system: &SystemRegisters) -> Self {
        Self { ctl: *system.cntv_ctl_el0, cval: *system.cntv_cval_el0 }
    }

    /// Returns the physical timer, CNTP, of the record.
    pub fn physical_timer(system: &SystemRegisters) -> Self {
        Self { ctl: *system.cntp_ctl_el0, cval: *system.cntp_cval_el0 }
    }

    fn control(&self) -> LocalRegisterCopy<u64, CNT_CTL::Register> {
        LocalRegisterCopy::new(self.ctl)
    }

    /// Returns whether the timer's condition is met when the guest's counter reads `now`. The condition of a disabled timer is never met: the
    /// architecture leaves this open, and QEMU does the same.
    pub fn status(&self, now: u64) -> bool {
        self.control().is_set(CNT_CTL::ENABLE) && now >= self.cval
    }

    /// Returns the level of the timer's interrupt when the guest's counter reads `now`.
    pub fn line(&self, now: u64) -> bool {
        self.status(now) && !self.control().is_set(CNT_CTL::IMASK)
    }

    /// Returns what CTL reads when the guest's counter reads `now`.
    pub fn control_value(&self, now: u64) -> u64 {
        let writable = CNT_CTL::ENABLE::SET + CNT_CTL::IMASK::SET;
        let status = CNT_CTL::ISTATUS.val(self.status(now).into());
        self.ctl & writable.value | status.value
    }

    /// Returns what TVAL reads when the guest's counter reads `now`.
    pub fn timer_value(&self, now: u64) -> u64 {
        u64::from(self.cval.wrapping_sub(now) as u32)
    }

    /// Returns the guest's time, in ticks, at which the timer's line will rise. None if the line is high, or won't rise by itself.
    pub fn deadline(&self, now: u64) -> Option<u64> {
        let armed =
            self.control().is_set(CNT_CTL::ENABLE) && !self.control().is_set(CNT_CTL::IMASK);
        (armed && now < self.cval).then_some(self.cval)
    }
}

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

/// Writes a register of the physical timer when the guest's counter reads `now`. The timer's line and deadline may change.
pub fn write_physical(
    system: &mut SystemRegisters,
    register: PhysicalRegister,
    value: u64,
    now: u64,
) {
    match register {
        PhysicalRegister::Control => {
            let writable = CNT_CTL::ENABLE::SET + CNT_CTL::IMASK::SET;
            *system.cntp_ctl_el0 = value & writable.value;
        }
        PhysicalRegister::CompareValue => *system.cntp_cval_el0 = value,
        PhysicalRegister::TimerValue => {
            // TVAL is a signed 32-bit distance from `now`.
            let distance = i64::from(value as i32) as u64;
            *system.cntp_cval_el0 = now.wrapping_add(distance);
        }
    }
}

/// Updates ISTATUS of both timers in the record, before it is stored. The guest's counter stands at `now`.
pub fn settle(system: &mut SystemRegisters, now: u64) {
    *system.cntv_ctl_el0 = Timer::virtual_timer(system).control_value(now);
    *system.cntp_ctl_el0 = Timer::physical_timer(system).control_value(now);
}

#[cfg(test)]
mod tests;
