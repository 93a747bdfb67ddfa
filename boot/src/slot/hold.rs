//! Having a vCPU stand still, out of its guest, with its list registers folded into the records.
//!
//! A guest's access to its distributor may be about an interrupt that is in the list registers of another
//! vCPU, which only that one's core can read. So the core that answers the access wants the other vCPU
//! held, kicks it, waits until it stands still, makes the access, and releases it. One vCPU of a guest
//! does so at a time; meanwhile it counts as standing still itself, so two that want each other held
//! do not wait for ever.
//!
//! Who wants writes `wanted` and then reads `running`; who runs writes `running` and then reads `wanted`.
//! Sequential consistency keeps both from reading what was there before.

use core::sync::atomic::{AtomicBool, Ordering};

/// One vCPU's part in it.
pub struct Hold {
    /// Somebody wants it to stand still.
    wanted: AtomicBool,
    /// Its list registers may hold what its records do not. Not while it is unloaded or stands still.
    running: AtomicBool,
}

impl Hold {
    pub const fn new() -> Self {
        Self { wanted: AtomicBool::new(false), running: AtomicBool::new(false) }
    }

    /// From here on its list registers may be filled.
    pub fn begin_running(&self) {
        self.running.store(true, Ordering::SeqCst);
    }

    /// Its list registers are folded, and stay so until [`Self::begin_running`].
    pub fn end_running(&self) {
        self.running.store(false, Ordering::SeqCst);
    }

    /// Whether its core is to fold its list registers and call [`Self::stand_still`].
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::SeqCst)
    }

    /// Waits, folded, until it is released.
    pub fn stand_still(&self) {
        self.end_running();
        while self.is_wanted() {
            core::hint::spin_loop();
        }
        self.begin_running();
    }

    /// Wants it to stand still. Its core is to be told: one that runs it, or is about to.
    pub fn want(&self) {
        self.wanted.store(true, Ordering::SeqCst);
    }

    /// Waits until it stands still.
    pub fn wait(&self) {
        while self.running.load(Ordering::SeqCst) {
            core::hint::spin_loop();
        }
    }

    /// Lets it go on.
    pub fn release(&self) {
        self.wanted.store(false, Ordering::SeqCst);
    }
}
