//! Holding a vCPU: it stands still, out of its guest, with its list registers folded into the
//! records.
//!
//! A guest's access to its distributor may be about an interrupt that is in the list registers of
//! another vCPU, which only that vCPU's core can read. So the core that answers the access wants
//! the other vCPU held, interrupts its core, waits until it stands still, makes the access, and
//! releases it. One vCPU of a guest does so at a time. While a vCPU waits for that, it counts as
//! standing still itself, so two that want each other held do not wait for ever.
//!
//! A vCPU may be wanted, and want others, again and again. So none of these waits is longer than
//! the turn of the vCPU that waits: when its core must decide, it gives up. Then the access was not
//! made, and traps again when the guest goes on. A vCPU that gives up standing still does so with
//! its list registers folded, and stands still before its next entry.
//!
//! The holder writes `wanted` and then reads `running`. The held vCPU's core writes `running` and
//! then reads `wanted`. Between the two each has a sequentially consistent fence. So at least one
//! of them sees what the other one has written.

use crate::sync::{AtomicBool, Lock, LockGuard, Ordering, fence, spin_loop};
use stasis_vgic::VcpuMask;

/// Part of a vCPU in the protocol: whether others want it held, and whether it stands still.
#[derive(Debug)]
pub struct Hold {
    /// Whether somebody wants the vCPU to stand still.
    wanted: AtomicBool,
    /// Whether the vCPU's list registers may have what its records do not. False while the vCPU is
    /// unloaded or stands still.
    running: AtomicBool,
}

impl Default for Hold {
    fn default() -> Self {
        Self::new()
    }
}

impl Hold {
    /// Returns the part of a vCPU that is not loaded, and that nobody wants held.
    pub fn new() -> Self {
        Self { wanted: AtomicBool::new(false), running: AtomicBool::new(false) }
    }

    /// Says that the vCPU's core may fill list registers. The core must then ask
    /// [`Self::is_wanted`], and fill none if the vCPU is wanted.
    #[inline]
    pub fn begin_running(&self) {
        self.running.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Says that the list registers are folded, and stay so until [`Self::begin_running`].
    #[inline]
    pub fn end_running(&self) {
        self.running.store(false, Ordering::Release);
    }

    /// Returns whether somebody wants the vCPU held. Its core then folds the list registers and
    /// calls [`Self::stand_still`].
    #[inline]
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    /// Waits until the vCPU is released, or its turn `is_over`. The list registers are folded. In
    /// both cases the caller asks [`Self::is_wanted`] again before it fills one.
    pub fn stand_still(&self, is_over: impl Fn() -> bool) {
        self.end_running();
        while self.is_wanted() && !is_over() {
            spin_loop();
        }
        self.begin_running();
    }

    fn want(&self) {
        self.wanted.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Waits until the vCPU stands still. Returns `false` if the turn of the vCPU that waits
    /// `is_over` first.
    fn wait(&self, is_over: impl Fn() -> bool) -> bool {
        while self.running.load(Ordering::Acquire) {
            if is_over() {
                return false;
            }
            spin_loop();
        }
        true
    }

    fn release(&self) {
        self.wanted.store(false, Ordering::Release);
    }
}

/// Turn to make others stand still, which one vCPU of a guest has at a time.
#[derive(Debug)]
pub struct Turns(Lock<()>);

impl Default for Turns {
    fn default() -> Self {
        Self::new()
    }
}

impl Turns {
    /// Returns the turn of a guest none of whose vCPUs makes others stand still.
    pub fn new() -> Self {
        Self(Lock::new(()))
    }

    /// Takes the turn, once nobody else makes others stand still. Returns `None` if the turn of the
    /// vCPU that waits `is_over` first.
    fn take(&self, is_over: impl Fn() -> bool) -> Option<LockGuard<'_, ()>> {
        loop {
            match self.0.try_lock() {
                Some(turn) => return Some(turn),
                None if is_over() => return None,
                None => spin_loop(),
            }
        }
    }
}

/// The vCPUs of a guest, for this protocol.
pub trait Vcpus {
    /// Returns the guest's turn to make others stand still.
    fn turns(&self) -> &Turns;
    /// Returns a vCPU's part in the protocol. Panics if there is no such vCPU.
    fn hold(&self, index: usize) -> &Hold;
    /// Interrupts the core of a vCPU, if that core runs the vCPU or is about to.
    fn call(&self, index: usize);
}

/// The vCPUs of a guest that stand still for one of them, until this is dropped.
pub struct Held<'a, V: Vcpus> {
    guest: &'a V,
    /// The vCPU that the others stand still for.
    index: usize,
    vcpus: VcpuMask,
    /// The turn to make others stand still; `None` as long as nobody is held.
    turn: Option<LockGuard<'a, ()>>,
}

impl<'a, V: Vcpus> Held<'a, V> {
    /// Returns an empty set of vCPUs that are held for vCPU `index`.
    pub fn nobody(guest: &'a V, index: usize) -> Self {
        Self { guest, index, vcpus: VcpuMask::NONE, turn: None }
    }

    /// Returns the vCPUs that stand still, or were made to.
    pub fn vcpus(&self) -> VcpuMask {
        self.vcpus
    }

    /// Makes these vCPUs stand still, too. The caller's own vCPU is out of its guest and folded,
    /// and the caller holds no lock. Returns `false` if the turn of the caller's vCPU `is_over`
    /// before all of them stand still.
    #[must_use]
    pub fn add(&mut self, missing: VcpuMask, is_over: impl Fn() -> bool) -> bool {
        let guest = self.guest;
        if self.turn.is_none() {
            // While the caller's vCPU waits for its turn, it counts as standing still itself.
            let own = guest.hold(self.index);
            own.end_running();
            self.turn = guest.turns().take(&is_over);
            if self.turn.is_none() {
                own.begin_running();
                return false;
            }
        }
        for other in missing.iter() {
            guest.hold(other).want();
            guest.call(other);
        }
        // The missing ones are released with the others, whether they stand still by then or not.
        self.vcpus.0 |= missing.0;
        missing.iter().all(|other| guest.hold(other).wait(&is_over))
    }
}

impl<V: Vcpus> Drop for Held<'_, V> {
    fn drop(&mut self) {
        if self.turn.is_some() {
            self.vcpus.iter().for_each(|other| self.guest.hold(other).release());
            self.turn = None;
            self.guest.hold(self.index).begin_running();
        }
    }
}
