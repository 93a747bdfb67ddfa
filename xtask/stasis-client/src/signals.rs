//! [`Signals`]: the signals by which a person, or a system that goes down, ends a tool.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The signals that end a tool.
pub(crate) const ENDING: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// Signals of this thread, such as [`ENDING`], which end nothing by themselves until this is
/// dropped. One that the process ignores, as behind `nohup`, is still ignored.
pub(crate) struct Signals {
    arrived: SignalFd,
    before: SigSet,
}

impl Signals {
    /// Catches the signals from now on.
    ///
    /// # Errors
    ///
    /// Linux has no file for it.
    pub(crate) fn catch(signals: &[Signal]) -> io::Result<Self> {
        let ignored = ignored();
        let ends = |signal: &Signal| ignored & 1 << (*signal as i32 - 1) == 0;
        let caught: SigSet = signals.iter().copied().filter(ends).collect();
        let arrived =
            SignalFd::with_flags(&caught, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let before = caught.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        Ok(Self { arrived, before })
    }

    /// Returns the next signal that has come, and takes it.
    pub(crate) fn take(&self) -> Option<Signal> {
        let info = self.arrived.read_signal().ok()??;
        Signal::try_from(info.ssi_signo as i32).ok()
    }

    /// Returns what becomes readable when a signal has come.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.arrived.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // One more that came while the machine was told has ended nothing, and must not do so in
        // the midst of what else is cleaned up.
        while self.take().is_some() {}
        // The mask is one that the thread has had.
        let _ = self.before.thread_set_mask();
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signals")
    }
}

/// Returns the signals that this process ignores, one bit for each; none if Linux does not say it.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
