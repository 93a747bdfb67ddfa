//! How a guest stops by itself.

use core::fmt;

use stasis_devices::device::Verdict;

/// The way in which a guest has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The guest has switched its machine off. Stasis does nothing about it.
    Off,
    /// The guest has reset its machine.
    Reset,
    /// The guest can't go on.
    Crash(Crash),
}

/// The reason why a guest can't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The first instruction of the guest's exception handler takes that same exception.
    ExceptionLoop {
        /// Virtual address of the handler.
        pc: u64,
    },
    /// One of the guest's devices says so, for this reason.
    Device(Verdict),
    /// The guest's memory was loaded while it ran, and a part of that can't be.
    NotLoaded {
        /// Guest-physical address of what it lacks.
        address: u64,
        /// Number of the checkpoint that has it.
        checkpoint: u64,
        /// Whether the checkpoint is damaged there. If not, it can't be read.
        is_damaged: bool,
    },
}

impl fmt::Display for Stopped {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => out.write_str("is off"),
            Self::Reset => out.write_str("has reset its machine"),
            Self::Crash(Crash::Device(verdict)) => verdict.fmt(out),
            Self::Crash(Crash::NotLoaded { address, checkpoint, is_damaged }) => {
                let why = if *is_damaged { "is damaged there" } else { "can't be read" };
                write!(
                    out,
                    "can't go on: its memory at {address:#x} is still to be loaded, and checkpoint {checkpoint} {why}"
                )
            }
            Self::Crash(Crash::ExceptionLoop { pc }) => {
                write!(
                    out,
                    "has crashed: its exception handler at {pc:#x} takes an exception itself, for ever"
                )
            }
        }
    }
}
