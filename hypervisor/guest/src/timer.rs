//! The guest's timers (DDI 0487, D11.2); its counter is in [`crate::clock`].
//!
//! Its physical counter reads the same as its virtual one. The virtual timer is the hardware's, with CNTVOFF_EL2; the physical timer is trapped
//! and emulated here on the vCPU's record, so the world switch must leave CNTP_* alone.

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
            /// Its interrupt is masked.
            IMASK OFFSET(1) NUMBITS(1) [],
            /// Its condition is met.
            ISTATUS OFFSET(2) NUMBITS(1) []
        ]
    }
}

/// One of the two timers of EL1, by its registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// CNT*_CTL_EL0.
    pub ctl: u64,
    /// CNT*_CVAL_EL0.
    pub cval: u64,
}

impl Timer {
    /// CNTV.
    pub fn virtual_timer(system: &SystemRegisters) -> Self {
        Self { ctl: *system.cntv_ctl_el0, cval: *system.cntv_cval_el0 }
    }

    /// CNTP.
    pub fn physical_timer(system: &SystemRegisters) -> Self {
        Self { ctl: *system.cntp_ctl_el0, cval: *system.cntp_cval_el0 }
    }

    fn control(&self) -> LocalRegisterCopy<u64, CNT_CTL::Register> {
        LocalRegisterCopy::new(self.ctl)
    }

    /// Whether its condition is met when the guest's counter reads `now`. Never while it is disabled: as in QEMU,
    /// where the architecture leaves it open.
    pub fn status(&self, now: u64) -> bool {
        self.control().is_set(CNT_CTL::ENABLE) && now >= self.cval
    }

    /// The level of its interrupt.
    pub fn line(&self, now: u64) -> bool {
        self.status(now) && !self.control().is_set(CNT_CTL::IMASK)
    }

    /// CTL as it reads.
    pub fn control_value(&self, now: u64) -> u64 {
        let writable = CNT_CTL::ENABLE::SET + CNT_CTL::IMASK::SET;
        let status = CNT_CTL::ISTATUS.val(self.status(now).into());
        self.ctl & writable.value | status.value
    }

    /// TVAL as it reads.
    pub fn timer_value(&self, now: u64) -> u64 {
        u64::from(self.cval.wrapping_sub(now) as u32)
    }

    /// The guest's time at which its line will rise; none if it is up or won't rise by itself.
    pub fn deadline(&self, now: u64) -> Option<u64> {
        let armed =
            self.control().is_set(CNT_CTL::ENABLE) && !self.control().is_set(CNT_CTL::IMASK);
        (armed && now < self.cval).then_some(self.cval)
    }
}

/// The registers of the physical timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhysicalRegister {
    /// CNTPCT_EL0.
    Count,
    /// CNTP_CTL_EL0.
    Control,
    /// CNTP_CVAL_EL0.
    CompareValue,
    /// CNTP_TVAL_EL0.
    TimerValue,
}

/// The guest reads a register of its physical timer.
pub fn read_physical(system: &SystemRegisters, register: PhysicalRegister, now: u64) -> u64 {
    let timer = Timer::physical_timer(system);
    match register {
        PhysicalRegister::Count => now,
        PhysicalRegister::Control => timer.control_value(now),
        PhysicalRegister::CompareValue => timer.cval,
        PhysicalRegister::TimerValue => timer.timer_value(now),
    }
}

/// The guest writes a register of its physical timer. Its line and its deadline may be others now.
pub fn write_physical(
    system: &mut SystemRegisters,
    register: PhysicalRegister,
    value: u64,
    now: u64,
) {
    match register {
        // Read-only: MSR to it is UNDEFINED, and does not get here.
        PhysicalRegister::Count => {}
        PhysicalRegister::Control => {
            let writable = CNT_CTL::ENABLE::SET + CNT_CTL::IMASK::SET;
            *system.cntp_ctl_el0 = value & writable.value;
        }
        PhysicalRegister::CompareValue => *system.cntp_cval_el0 = value,
        PhysicalRegister::TimerValue => {
            // A signed 32-bit distance from now.
            let distance = i64::from(value as i32) as u64;
            *system.cntp_cval_el0 = now.wrapping_add(distance);
        }
    }
}

/// Brings ISTATUS in the record up to date for a guest whose counter stands at `now`: before a save.
pub fn settle(system: &mut SystemRegisters, now: u64) {
    *system.cntv_ctl_el0 = Timer::virtual_timer(system).control_value(now);
    *system.cntp_ctl_el0 = Timer::physical_timer(system).control_value(now);
}

#[cfg(test)]
mod tests;
