//! The gate of a guest, which says whether its vCPUs may be entered.
//!
//! Whoever wants a guest whole [keeps its cores out](Gate::keep_out), calls them, and then takes
//! the locks of its vCPUs. A core that has entered a vCPU holds that vCPU's lock, and looks at the
//! gate after each interrupt. Afterwards the locks are given back, the gate is
//! [opened](Gate::let_in), and the vCPUs are kicked, in this order: a core that has found the lock
//! taken, or the gate closed, makes the vCPU sleep until then.

use crate::sync::{AtomicU8, Ordering};

/// Bit of [`Gate::reasons`]: the guest does not run.
const STOPPED: u8 = 1;
/// Unit of the count in [`Gate::reasons`] of those that want the guest whole. Only cores want one,
/// and there are few enough for the bits.
const WANTED: u8 = 2;

/// Gate of a guest: the reasons why none of its vCPUs may be entered, if there are any.
#[derive(Debug)]
pub struct Gate {
    reasons: AtomicU8,
}

impl Gate {
    /// Returns the gate of a guest that nobody wants whole, and that `runs` or does not.
    pub fn new(runs: bool) -> Self {
        Self { reasons: AtomicU8::new(if runs { 0 } else { STOPPED }) }
    }

    /// Returns whether the gate is closed: no vCPU may be entered, and a core that has entered one
    /// must leave it.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.reasons.load(Ordering::Relaxed) != 0
    }

    /// Closes the gate for a caller that wants the guest whole, until [`Self::let_in`]. The caller
    /// then calls the cores of the vCPUs.
    pub fn keep_out(&self) {
        self.reasons.fetch_add(WANTED, Ordering::Relaxed);
    }

    /// Takes back one [`Self::keep_out`]. The caller then kicks the vCPUs.
    pub fn let_in(&self) {
        self.reasons.fetch_sub(WANTED, Ordering::Relaxed);
    }

    /// Opens or closes the gate for a guest that `runs` from now on, or does not. The caller holds
    /// the lock of what its vCPUs share.
    pub fn set_runs(&self, runs: bool) {
        match runs {
            true => self.reasons.fetch_and(!STOPPED, Ordering::Relaxed),
            false => self.reasons.fetch_or(STOPPED, Ordering::Relaxed),
        };
    }
}
