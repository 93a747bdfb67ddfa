//! The generic timer (DDI 0487, D12): the counter, the guest's virtual timer, and EL2's own.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};
use stasis_state::vcpu::SystemRegisters;

const ENABLE: u64 = 1;

/// The counter's frequency in Hz where CNTFRQ_EL0 does not tell it.
static FREQUENCY: AtomicU64 = AtomicU64::new(0);

/// The counter's frequency in Hz: CNTFRQ_EL0, unless the firmware left it 0.
pub fn frequency() -> u64 {
    match mrs!("cntfrq_el0") {
        0 => FREQUENCY.load(Ordering::Relaxed),
        hz => hz,
    }
}

/// Tells the counter's frequency in Hz, for firmware that left CNTFRQ_EL0 0: only EL3 could set it.
pub fn set_frequency(hz: u64) {
    FREQUENCY.store(hz, Ordering::Relaxed);
}

/// Waits for this many ticks of the counter.
pub fn wait(ticks: u64) {
    let start = counter();
    while counter() - start < ticks {
        core::hint::spin_loop();
    }
}

/// CNTPCT_EL0: the physical counter, in ticks. Not read ahead of what stands before.
#[inline(always)]
pub fn counter() -> u64 {
    // SAFETY: a barrier.
    unsafe { asm!("isb", options(nostack, preserves_flags)) };
    mrs!("cntpct_el0")
}

/// Stops this core's timers.
///
/// # Safety
///
/// No guest is loaded on this core, and EL2 has set no deadline.
pub(crate) unsafe fn stop_all() {
    // SAFETY: nobody waits for the timers, by the caller.
    unsafe {
        msr!("cntv_ctl_el0", 0);
        msr!("cntp_ctl_el0", 0);
        msr!("cnthp_ctl_el2", 0);
        asm!("isb", options(nostack, preserves_flags));
    }
}

/// Accepts a register that [`load_virtual`] and [`save_virtual`] move, and no other.
macro_rules! moves {
    (cntv_ctl_el0) => {};
    (cntv_cval_el0) => {};
    (cntkctl_el1) => {};
}
pub(crate) use moves;

/// Loads a guest's virtual timer: first the offset, then the comparator, then the control. It is so for the guest, and for EL2 after
/// the next barrier.
pub(crate) fn load_virtual(offset: u64, registers: &SystemRegisters) {
    // SAFETY: the virtual timer is the guest's.
    unsafe {
        msr!("cntvoff_el2", offset);
        msr!("cntv_cval_el0", *registers.cntv_cval_el0);
        asm!("isb", options(nostack, preserves_flags));
        msr!("cntv_ctl_el0", *registers.cntv_ctl_el0);
        msr!("cntkctl_el1", *registers.cntkctl_el1);
    }
}

/// Sets CNTVOFF_EL2 for the guest that is loaded. Its virtual timer may fire by that.
pub(crate) fn set_virtual_offset(offset: u64) {
    // SAFETY: it is the guest's counter alone that this moves.
    unsafe {
        msr!("cntvoff_el2", offset);
        asm!("isb", options(nostack, preserves_flags));
    }
}

/// Saves the guest's virtual timer, and stops it.
pub(crate) fn save_virtual(registers: &mut SystemRegisters) {
    *registers.cntv_ctl_el0 = mrs!("cntv_ctl_el0");
    *registers.cntv_cval_el0 = mrs!("cntv_cval_el0");
    *registers.cntkctl_el1 = mrs!("cntkctl_el1");
    // SAFETY: it is saved.
    unsafe {
        msr!("cntv_ctl_el0", 0);
        asm!("isb", options(nostack, preserves_flags));
    }
}

/// Whether the virtual timer fires where CNTVOFF_EL2 is ahead of the counter, as it is for a guest that
/// has seen more time than this machine since its power-on.
///
/// The architecture computes modulo 2^64. QEMU (10.0, `gt_recalc_timer`) takes the overflow of CVAL +
/// offset for "never", and such a timer needs to be [nudged](crate::world::Loaded::nudge_timer). Found out by trying.
///
/// # Safety
///
/// No [`Loaded`](crate::world::Loaded) of this core is alive: the virtual timer would be its.
pub unsafe fn fires_across_zero() -> bool {
    /// Longer than it takes to arm the timer, even under an emulator.
    const MILLISECONDS: u64 = 5;
    const AHEAD: u64 = 1 << 40;
    const IMASK: u64 = 2;
    const ISTATUS: u64 = 4;
    let ticks = frequency() * MILLISECONDS / 1000;
    let start = counter();
    let mut trial = SystemRegisters::default();
    *trial.cntv_cval_el0 = start + AHEAD + ticks;
    *trial.cntv_ctl_el0 = ENABLE | IMASK;
    load_virtual(AHEAD.wrapping_neg(), &trial);
    while counter() < start + 2 * ticks {
        core::hint::spin_loop();
    }
    save_virtual(&mut trial);
    *trial.cntv_ctl_el0 & ISTATUS != 0
}

/// Has the virtual timer see that its time has come, where it does not by itself.
pub(crate) fn nudge_virtual() {
    let control = mrs!("cntv_ctl_el0");
    if control & ENABLE != 0 {
        // SAFETY: the guest's own value comes back at once.
        unsafe {
            msr!("cntv_ctl_el0", control & !ENABLE);
            msr!("cntv_ctl_el0", control);
            asm!("isb", options(nostack, preserves_flags));
        }
    }
}

/// Stops EL2's physical timer: its line falls.
#[inline(always)]
pub fn stop_deadline() {
    // SAFETY: the timer is EL2's.
    unsafe {
        msr!("cnthp_ctl_el2", 0);
        asm!("isb", options(nostack, preserves_flags));
    }
}

/// Has EL2's physical timer, INTID 26, fire when the counter reaches `deadline`; `u64::MAX` stops it. It is so from the
/// entry of a guest on, or the next barrier.
#[inline(always)]
pub fn set_deadline(deadline: u64) {
    // One that is stopped must be off: an emulator that skips idle time would go to the end of time for it.
    let control = if deadline == u64::MAX { 0 } else { ENABLE };
    // SAFETY: the timer is EL2's.
    unsafe {
        msr!("cnthp_cval_el2", deadline);
        msr!("cnthp_ctl_el2", control);
    }
}
