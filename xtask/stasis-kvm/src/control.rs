//! [`Control`]: makes all vCPUs stand still between two entries of the guest, and lets them go on; and how the guest has ended.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::libc::{c_int, c_void, siginfo_t};
use nix::sys::eventfd::{EfdFlags, EventFd};
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

/// How a guest has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The guest has switched its machine off.
    Off,
    /// The guest has reset its machine.
    Reset,
    /// The guest can't go on, for this reason.
    Failed(String),
}

/// What the vCPUs' threads and the main thread tell each other.
#[derive(Debug)]
pub struct Control {
    state: Mutex<State>,
    changed: Condvar,
    /// Woken when the main thread has something to look at.
    pub news: EventFd,
}

#[derive(Debug, Default)]
struct State {
    /// The vCPUs must stand still.
    hold: bool,
    /// The vCPUs that stand still.
    standing: usize,
    ended: Option<Ended>,
}

/// The time after which a vCPU that has not come out is interrupted once more: a signal that came
/// right before it went in did nothing.
const AGAIN: Duration = Duration::from_millis(5);

impl Control {
    /// Returns the control of a machine that stands still: all vCPUs wait until they are [let
    /// go](Self::release).
    ///
    /// # Errors
    ///
    /// There are no more file descriptors, or signals can't be handled.
    pub fn new() -> Result<Self> {
        register_signal_handler(SIGRTMIN(), interrupted).context("cannot handle signals")?;
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let news = EventFd::from_value_and_flags(0, flags).context("cannot make an eventfd")?;
        let state = Mutex::new(State { hold: true, ..State::default() });
        Ok(Self { state, changed: Condvar::new(), news })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the main thread.
    pub fn tell(&self) {
        // A counter that is full wakes it, too.
        let _ = self.news.write(1);
    }

    /// Ends the guest. The first reason counts.
    pub fn end(&self, how: Ended) {
        self.lock().ended.get_or_insert(how);
        self.tell();
    }

    /// Returns how the guest has ended; `None` if it has not.
    pub fn ended(&self) -> Option<Ended> {
        self.lock().ended.clone()
    }

    /// Returns whether the calling vCPU must stand still, or is of no use any more.
    pub fn must_stand(&self) -> bool {
        let state = self.lock();
        state.hold || state.ended.is_some()
    }

    /// Stands still until the vCPUs may go on. Called by a vCPU's thread that has let go of its
    /// vCPU.
    pub fn stand(&self) {
        let mut state = self.lock();
        state.standing += 1;
        self.changed.notify_all();
        while state.hold || state.ended.is_some() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.standing -= 1;
    }

    /// Makes the vCPUs with these threads stand still, and returns when all do.
    pub fn hold(&self, threads: &[JoinHandle<()>]) {
        let mut state = self.lock();
        state.hold = true;
        while state.standing < threads.len() {
            for thread in threads {
                // A thread that has ended is no vCPU any more, and no thread ends.
                let _ = thread.kill(SIGRTMIN());
            }
            let waited = self.changed.wait_timeout(state, AGAIN);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Lets the vCPUs go on.
    pub fn release(&self) {
        self.lock().hold = false;
        self.changed.notify_all();
    }
}

/// Handles the signal that interrupts a vCPU: that KVM_RUN returns is all that is wanted.
extern "C" fn interrupted(_: c_int, _: *mut siginfo_t, _: *mut c_void) {}
