//! The generic timer's two timers of EL1 (DDI 0487, D11.2): what follows from their registers and
//! the counter.
//!
//! The lines of the timers' PPIs are in the record [`CpuInterface`], but they follow from other
//! records: CTL, CVAL, and the counter. A timer may come due between the last look at its line and
//! the instant of a checkpoint, and no other system says what the lines are. So whoever takes a
//! state from a file, or converts one, computes them anew with [`settle_lines`]: there is no second
//! rule for them.

use crate::vcpu::SystemRegisters;
use crate::vgic::CpuInterface;

/// The PPI of the virtual timer of EL1.
pub const VIRTUAL_TIMER: u16 = 27;
/// The PPI of the physical timer of EL1.
pub const PHYSICAL_TIMER: u16 = 30;

/// CNT*_CTL_EL0.ENABLE: the timer runs.
pub const ENABLE: u64 = 1 << 0;
/// CNT*_CTL_EL0.IMASK: the timer's interrupt is masked.
pub const IMASK: u64 = 1 << 1;
/// CNT*_CTL_EL0.ISTATUS: the timer's condition is met.
pub const ISTATUS: u64 = 1 << 2;

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
    #[inline]
    pub fn virtual_timer(system: &SystemRegisters) -> Self {
        Self { ctl: *system.cntv_ctl_el0, cval: *system.cntv_cval_el0 }
    }

    /// Returns the physical timer, CNTP, of the record.
    #[inline]
    pub fn physical_timer(system: &SystemRegisters) -> Self {
        Self { ctl: *system.cntp_ctl_el0, cval: *system.cntp_cval_el0 }
    }

    /// Returns whether the timer's condition is met when the guest's counter reads `now`. The
    /// condition of a disabled timer is never met: the architecture leaves this open, and QEMU does
    /// the same.
    #[inline]
    pub fn status(&self, now: u64) -> bool {
        self.ctl & ENABLE != 0 && now >= self.cval
    }

    /// Returns the level of the timer's interrupt when the guest's counter reads `now`.
    #[inline]
    pub fn line(&self, now: u64) -> bool {
        self.status(now) && self.ctl & IMASK == 0
    }

    /// Returns what CTL reads when the guest's counter reads `now`.
    #[inline]
    pub fn control_value(&self, now: u64) -> u64 {
        let status = if self.status(now) { ISTATUS } else { 0 };
        self.ctl & (ENABLE | IMASK) | status
    }

    /// Returns what TVAL reads when the guest's counter reads `now`.
    #[inline]
    pub fn timer_value(&self, now: u64) -> u64 {
        u64::from(self.cval.wrapping_sub(now) as u32)
    }

    /// Returns the guest's time, in ticks, at which the timer's line will rise. None if the line is
    /// high, or won't rise by itself.
    #[inline]
    pub fn deadline(&self, now: u64) -> Option<u64> {
        let armed = self.ctl & (ENABLE | IMASK) == ENABLE;
        (armed && now < self.cval).then_some(self.cval)
    }
}

/// Updates ISTATUS of both timers in the record, before it is stored. The guest's counter stands at
/// `now`.
pub fn settle(system: &mut SystemRegisters, now: u64) {
    *system.cntv_ctl_el0 = Timer::virtual_timer(system).control_value(now);
    *system.cntp_ctl_el0 = Timer::physical_timer(system).control_value(now);
}

/// Makes the lines of a vCPU's timers what follows from its timers' registers when the guest's
/// counter reads `now`.
pub fn settle_lines(interface: &mut CpuInterface, system: &SystemRegisters, now: u64) {
    let timers = [
        (VIRTUAL_TIMER, Timer::virtual_timer(system)),
        (PHYSICAL_TIMER, Timer::physical_timer(system)),
    ];
    for (intid, timer) in timers {
        let level = u32::from(timer.line(now));
        *interface.priv_level = *interface.priv_level & !(1 << intid) | level << intid;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_both_timers_follow_from_their_registers_and_the_others_stay() {
        let mut interface = CpuInterface::default();
        *interface.priv_level = 1 << VIRTUAL_TIMER | 1 << 26;
        let mut system = SystemRegisters::default();
        (*system.cntp_ctl_el0, *system.cntp_cval_el0) = (ENABLE, 100);
        (*system.cntv_ctl_el0, *system.cntv_cval_el0) = (ENABLE | IMASK | ISTATUS, 50);
        settle_lines(&mut interface, &system, 99);
        assert_eq!(*interface.priv_level, 1 << 26);
        settle_lines(&mut interface, &system, 100);
        assert_eq!(*interface.priv_level, 1 << 26 | 1 << PHYSICAL_TIMER);
        *system.cntv_ctl_el0 = ENABLE;
        settle_lines(&mut interface, &system, 100);
        let both = 1 << VIRTUAL_TIMER | 1 << PHYSICAL_TIMER;
        assert_eq!(*interface.priv_level, 1 << 26 | both);
    }
}
