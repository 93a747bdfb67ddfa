//! Having a vCPU stand still, out of its guest, with its list registers folded into the records.
//!
//! A guest's access to its distributor may be about an interrupt that is in the list registers of another vCPU, which only that one's
//! core can read. So the core that answers the access wants the other vCPU held, interrupts its core, waits until it stands still,
//! makes the access, and releases it. One vCPU of a guest does so at a time; meanwhile it counts as standing still itself, so two
//! that want each other held do not wait for ever.
//!
//! Another vCPU may be wanted, or want this one, again and again. So none of these waits is longer than the turn of the vCPU that waits: when
//! its core is to decide, it gives up. The access was not made then, and traps again when the guest goes on; a vCPU that gives up standing
//! still does so with its list registers folded, and stands still before its next entry.
//!
//! Who wants writes `wanted` and then reads `running`; who runs writes `running` and then reads `wanted`. Between the two each has a
//! sequentially consistent fence: so one of them sees what the other one has written.

use crate::sync::{AtomicBool, Lock, LockGuard, Ordering, fence, spin_loop};
use stasis_vgic::VcpuMask;

/// A vCPU that others may make stand still.
#[derive(Debug)]
pub struct Hold {
    /// Somebody wants it to stand still.
    wanted: AtomicBool,
    /// Its list registers may hold what its records do not. Not while it is unloaded or stands still.
    running: AtomicBool,
}

impl Default for Hold {
    fn default() -> Self {
        Self::new()
    }
}

impl Hold {
    /// Returns what belongs to a vCPU that is not loaded, and that nobody wants held.
    pub fn new() -> Self {
        Self { wanted: AtomicBool::new(false), running: AtomicBool::new(false) }
    }

    /// Allows the vCPU's core to fill list registers, once [`Self::is_wanted`] then says that nobody wants it held.
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

    /// Returns whether the vCPU's core is to fold its list registers and call [`Self::stand_still`].
    #[inline]
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    /// Waits, folded, until the vCPU is released, or its turn `is_over`. In both cases the caller asks again before it fills a list register.
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

    /// Waits until the vCPU stands still. Returns `false` if the turn of the vCPU that waits `is_over` before.
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

/// Whose turn it is to make others stand still: one vCPU of a guest at a time.
#[derive(Debug)]
pub struct Turns(Lock<()>);

impl Default for Turns {
    fn default() -> Self {
        Self::new()
    }
}

impl Turns {
    /// Returns those of a guest none of whose vCPUs makes others stand still.
    pub fn new() -> Self {
        Self(Lock::new(()))
    }

    /// Waits until nobody else makes others stand still. None: the turn of the vCPU that waits `is_over`.
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

/// The vCPUs of a guest.
pub trait Vcpus {
    /// Returns whose turn it is to make others stand still.
    fn turns(&self) -> &Turns;
    /// Returns a vCPU's part in it. Panics if there is no such vCPU.
    fn hold(&self, index: usize) -> &Hold;
    /// Interrupts the core of a vCPU, if it runs the vCPU or is about to.
    fn call(&self, index: usize);
}

/// The vCPUs of a guest that stand still for one of them, until this is dropped.
pub struct Held<'a, V: Vcpus> {
    guest: &'a V,
    /// For whom.
    index: usize,
    vcpus: VcpuMask,
    /// None as long as nobody is held.
    turn: Option<LockGuard<'a, ()>>,
}

impl<'a, V: Vcpus> Held<'a, V> {
    /// Returns that nobody is held yet for vCPU `index`.
    pub fn nobody(guest: &'a V, index: usize) -> Self {
        Self { guest, index, vcpus: VcpuMask::NONE, turn: None }
    }

    /// Returns who stands still.
    pub fn vcpus(&self) -> VcpuMask {
        self.vcpus
    }

    /// Makes these vCPUs stand still, too. The caller's own vCPU is out of its guest and folded, and the caller holds no lock. Returns `false` if
    /// the turn of the caller's vCPU `is_over`, and not all of them do.
    #[must_use]
    pub fn add(&mut self, missing: VcpuMask, is_over: impl Fn() -> bool) -> bool {
        let guest = self.guest;
        if self.turn.is_none() {
            // While this one waits for its turn, it counts as standing still itself.
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
        // The missing ones are released with the others, whether they are waited for to the end or not.
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
