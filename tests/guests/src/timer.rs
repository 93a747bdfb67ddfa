//! The generic timer: virtual (PPI 27) and physical (PPI 30).

/// INTID of the virtual timer.
pub const VIRTUAL: u32 = 27;
/// INTID of the physical timer.
pub const PHYSICAL: u32 = 30;

/// CNTx_CTL.ENABLE.
pub const ENABLE: u64 = 1;
/// CNTx_CTL.IMASK.
pub const IMASK: u64 = 2;
/// CNTx_CTL.ISTATUS.
pub const ISTATUS: u64 = 4;

/// Returns the virtual count.
pub fn now() -> u64 {
    mrs!("CNTVCT_EL0")
}

/// Returns ticks of the count per second.
pub fn frequency() -> u64 {
    mrs!("CNTFRQ_EL0")
}

/// Waits by looking at the count.
pub fn spin_ms(ms: u64) {
    let end = now() + frequency() * ms / 1000;
    while now() < end {
        core::hint::spin_loop();
    }
}
