//! The generic timer (DDI 0487, D12): the counter, the guest's virtual timer, and EL2's own.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};
use stasis_state::vcpu::SystemRegisters;

const ENABLE: u64 = 1;

/// Frequency of the counter in Hz, for a machine whose CNTFRQ_EL0 is 0. Core 0 writes it at boot;
/// relaxed, for no other data depend on it.
static FREQUENCY: AtomicU64 = AtomicU64::new(0);

/// Returns the counter's frequency in Hz: CNTFRQ_EL0, or what [`set_frequency`] was given if the
/// firmware left that 0.
pub fn frequency() -> u64 {
    match mrs!("cntfrq_el0") {
        0 => FREQUENCY.load(Ordering::Relaxed),
        hz => hz,
    }
}

/// Sets the counter's frequency in Hz, for firmware that left CNTFRQ_EL0 0: only EL3 could write
/// that.
pub fn set_frequency(hz: u64) {
    FREQUENCY.store(hz, Ordering::Relaxed);
}

/// Waits for `ticks` ticks of the counter.
pub fn wait(ticks: u64) {
    let start = counter();
    while counter() - start < ticks {
        core::hint::spin_loop();
    }
}

/// Returns CNTPCT_EL0, the physical counter, in ticks. A barrier keeps it from being read ahead of
/// what stands before.
#[inline(always)]
pub fn counter() -> u64 {
    // SAFETY: a barrier changes no register and no memory.
    unsafe { asm!("isb", options(nostack, preserves_flags)) };
    mrs!("cntpct_el0")
}

/// Stops this core's timers.
///
/// # Safety
///
/// No guest is loaded on this core, and EL2 has set no deadline.
pub(crate) unsafe fn stop_all() {
    // SAFETY: the timers act by their interrupts alone, and nobody waits for those: no guest is
    // loaded and EL2 has set no deadline, by the caller.
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

/// Loads a guest's virtual timer: first CNTVOFF_EL2, `offset` ticks; then the comparator; then the
/// control. The guest sees them from its entry on, EL2 after the next barrier.
pub(crate) fn load_virtual(offset: u64, registers: &SystemRegisters) {
    // SAFETY: these registers make the virtual timer and what EL1 and EL0 may access of it, which
    // are the guest's. EL2 does not use them.
    unsafe {
        msr!("cntvoff_el2", offset);
        msr!("cntv_cval_el0", *registers.cntv_cval_el0);
        asm!("isb", options(nostack, preserves_flags));
        msr!("cntv_ctl_el0", *registers.cntv_ctl_el0);
        msr!("cntkctl_el1", *registers.cntkctl_el1);
    }
}

/// Writes CNTVOFF_EL2 for the guest that is loaded: `offset` ticks. Its virtual timer may fire at
/// once.
pub(crate) fn set_virtual_offset(offset: u64) {
    // SAFETY: the offset moves the guest's virtual counter alone. EL2 reads the physical one.
    unsafe {
        msr!("cntvoff_el2", offset);
        asm!("isb", options(nostack, preserves_flags));
    }
}

/// Saves the guest's virtual timer into `registers`, and stops it.
pub(crate) fn save_virtual(registers: &mut SystemRegisters) {
    *registers.cntv_ctl_el0 = mrs!("cntv_ctl_el0");
    *registers.cntv_cval_el0 = mrs!("cntv_cval_el0");
    *registers.cntkctl_el1 = mrs!("cntkctl_el1");
    // SAFETY: the guest's CNTV_CTL_EL0 was saved, and EL2 does not use the virtual timer.
    unsafe {
        msr!("cntv_ctl_el0", 0);
        asm!("isb", options(nostack, preserves_flags));
    }
}

/// Returns whether the virtual timer fires where CNTVOFF_EL2 is ahead of the counter, as it is for
/// a guest that has seen more time than this machine since its power-on. Waits for some
/// microseconds, or longer where the timers can't be set as fast.
///
/// The architecture computes modulo 2^64. QEMU (10.0, `gt_recalc_timer`) takes the overflow of
/// CVAL + offset for "never". There, such a timer must be
/// [nudged](crate::world::Loaded::nudge_timer). The answer is found by a trial.
///
/// # Safety
///
/// No [`Loaded`](crate::world::Loaded) of this core is alive: its virtual timer would be lost. EL2
/// has set no deadline.
pub unsafe fn fires_across_zero() -> bool {
    /// Ticks per second, of the first trial's length: 20 us.
    const FIRST: u64 = 50_000;
    // Longer than it takes to set two timers, even under an emulator that has much else to do: the
    // length is doubled until that is so.
    let mut ticks = (frequency() / FIRST).max(1);
    loop {
        // SAFETY: no guest is loaded on this core and EL2 has set no deadline, by the caller.
        if let Some(fires) = unsafe { try_across_zero(ticks) } {
            return fires;
        }
        ticks *= 2;
    }
}

/// Sets the virtual timer across zero, and EL2's own timer for one tick later, and returns whether
/// the first has fired when the second has: an emulator looks at both by the same clock. Returns
/// `None` if the virtual timer was due in `ticks` ticks before both were set.
///
/// # Safety
///
/// No guest is loaded on this core, and EL2 has set no deadline.
unsafe fn try_across_zero(ticks: u64) -> Option<bool> {
    const AHEAD: u64 = 1 << 40;
    const IMASK: u64 = 2;
    const ISTATUS: u64 = 4;
    let due = counter() + ticks;
    let mut trial = SystemRegisters::default();
    *trial.cntv_cval_el0 = due + AHEAD;
    *trial.cntv_ctl_el0 = ENABLE | IMASK;
    load_virtual(AHEAD.wrapping_neg(), &trial);
    // SAFETY: EL2's physical timer acts by its interrupt alone, which is masked. EL2 has set no
    // deadline, by the caller.
    unsafe {
        msr!("cnthp_cval_el2", due + 1);
        msr!("cnthp_ctl_el2", ENABLE | IMASK);
    }
    // The barrier of the counter is behind both.
    let is_in_time = counter() < due;
    while is_in_time && mrs!("cnthp_ctl_el2") & ISTATUS == 0 {
        core::hint::spin_loop();
    }
    stop_deadline();
    save_virtual(&mut trial);
    is_in_time.then_some(*trial.cntv_ctl_el0 & ISTATUS != 0)
}

/// Makes the virtual timer compare again, where it does not notice by itself that its time has
/// come.
pub(crate) fn nudge_virtual() {
    let control = mrs!("cntv_ctl_el0");
    if control & ENABLE != 0 {
        // SAFETY: the timer is off for one instruction alone. Then it has the value that the guest
        // gave it.
        unsafe {
            msr!("cntv_ctl_el0", control & !ENABLE);
            msr!("cntv_ctl_el0", control);
            asm!("isb", options(nostack, preserves_flags));
        }
    }
}

/// Stops EL2's physical timer. Its interrupt line falls.
#[inline(always)]
pub fn stop_deadline() {
    // SAFETY: EL2's physical timer acts by its interrupt alone, which EL2 expects at any time.
    unsafe {
        msr!("cnthp_ctl_el2", 0);
        asm!("isb", options(nostack, preserves_flags));
    }
}

/// Makes EL2's physical timer, INTID 26, fire when the counter reaches `deadline`, in ticks;
/// `u64::MAX` stops it. The timer is set from the entry of a guest on, or from the next barrier on.
#[inline(always)]
pub fn set_deadline(deadline: u64) {
    // A timer that never fires must be off: an emulator that skips idle time would go to the end of
    // time for it.
    let control = if deadline == u64::MAX { 0 } else { ENABLE };
    // SAFETY: EL2's physical timer acts by its interrupt alone, which EL2 expects at any time.
    unsafe {
        msr!("cnthp_cval_el2", deadline);
        msr!("cnthp_ctl_el2", control);
    }
}
