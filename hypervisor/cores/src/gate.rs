//! Whether a guest's vCPUs may be entered.
//!
//! Whoever wants a guest whole [keeps its cores out](Gate::keep_out), calls them, and then takes the locks of its vCPUs: a core that has entered one
//! holds that vCPU's lock, and asks here after each interrupt. Afterwards the locks are given back, the gate is [opened](Gate::let_in), and the
//! vCPUs are kicked, in this order: a core that has found the lock taken, or the gate closed, has the vCPU sleep until then.

use crate::sync::{AtomicU8, Ordering};

/// Of [`Gate::reasons`]: the guest does not run.
const STOPPED: u8 = 1;
/// Of [`Gate::reasons`]: one more wants the guest whole. Several may at a time; only cores do, and there are not that many.
const WANTED: u8 = 2;

/// Why no vCPU of a guest may be entered, if there is a reason.
#[derive(Debug)]
pub struct Gate {
    reasons: AtomicU8,
}

impl Gate {
    /// Returns the gate of a guest that nobody wants whole.
    pub fn new(runs: bool) -> Self {
        Self { reasons: AtomicU8::new(if runs { 0 } else { STOPPED }) }
    }

    /// Returns whether no vCPU may be entered, and who is in a guest must leave it.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.reasons.load(Ordering::Relaxed) != 0
    }

    /// Closes the gate for one who wants the guest whole, until [`Self::let_in`]. The cores of the vCPUs are then to be called.
    pub fn keep_out(&self) {
        self.reasons.fetch_add(WANTED, Ordering::Relaxed);
    }

    /// Takes back one [`Self::keep_out`]. The vCPUs are then to be kicked.
    pub fn let_in(&self) {
        self.reasons.fetch_sub(WANTED, Ordering::Relaxed);
    }

    /// Says whether the guest runs, unless somebody wants it whole. The caller holds the lock of what its vCPUs share.
    pub fn set_runs(&self, runs: bool) {
        match runs {
            true => self.reasons.fetch_and(!STOPPED, Ordering::Relaxed),
            false => self.reasons.fetch_or(STOPPED, Ordering::Relaxed),
        };
    }
}
