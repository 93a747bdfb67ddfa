//! How a guest stops by itself.

use core::fmt;

use stasis_devices::device::Verdict;

/// How a guest has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It has switched its machine off. Nothing is done about it.
    Off,
    /// It has reset its machine.
    Reset,
    /// It can't go on.
    Crash(Crash),
}

/// Why a guest can't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The first instruction of its exception handler takes that very exception.
    ExceptionLoop {
        /// Where it is.
        pc: u64,
    },
    /// One of its devices says so, for this reason.
    Device(Verdict),
}

impl fmt::Display for Stopped {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => out.write_str("is off"),
            Self::Reset => out.write_str("has reset its machine"),
            Self::Crash(Crash::Device(verdict)) => verdict.fmt(out),
            Self::Crash(Crash::ExceptionLoop { pc }) => {
                write!(
                    out,
                    "has crashed: its exception handler at {pc:#x} takes an exception itself, for ever"
                )
            }
        }
    }
}
