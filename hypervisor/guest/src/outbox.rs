//! What must be done outside of a guest after an answer to it, as values: [`Outbox`].
//!
//! The guest's logic runs under the lock of what its vCPUs share. Under that lock nothing is done
//! that takes another lock, or long. The logic puts such things into the outbox, and its caller
//! carries them out, best when the lock is released.

use core::fmt;

use stasis_vgic::VcpuMask;

use crate::exit::{self, Cause, EncodingName};

/// What must be done outside of the guest. The caller of the guest's logic empties it after each
/// call ([`Outbox::take`]): it has room for what one access can entail.
#[derive(Debug, Default)]
pub struct Outbox {
    /// The other vCPUs that must pass through [`Vgic::enter`](stasis_vgic::Vgic::enter), or look at
    /// their power state.
    pub kick: VcpuMask,
    /// The other thing that must be done. One access entails at most one.
    pub errand: Option<Errand>,
    /// Whether virtio devices have requests: [`Guest::serve`](crate::Guest::serve) does them.
    pub has_work: bool,
}

/// What must be done outside of the guest, besides kicking its vCPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// The guest's UART sends this byte.
    Send(u8),
    /// The guest rings the doorbell of another one.
    Ring {
        /// Index of the region, among those that the ringing guest shares.
        region: u8,
        /// Number of the guest that is rung, among those that share the region.
        peer: u8,
    },
    /// A vCPU waits for memory that is still to be loaded: the loader must look.
    Load,
    /// The guest did something that a person should know.
    Report(Report),
}

impl Outbox {
    /// An outbox with nothing in it.
    pub const EMPTY: Self = Self { kick: VcpuMask::NONE, errand: None, has_work: false };

    /// Returns whether there is nothing to do.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.kick.is_empty() && self.errand.is_none() && !self.has_work
    }

    /// Returns what must be done, and leaves the outbox empty.
    #[inline]
    pub fn take(&mut self) -> Self {
        core::mem::replace(self, Self::EMPTY)
    }

    /// Adds `vcpus` to those that must be kicked.
    #[inline]
    pub fn kick(&mut self, vcpus: VcpuMask) {
        self.kick.0 |= vcpus.0;
    }
}

/// An act of a guest that the log warns of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// The guest has accessed an address at which nothing can answer.
    NothingThere {
        /// Purpose of the access.
        cause: Cause,
        /// Intermediate physical address; the virtual address if that is not known.
        address: u64,
        /// Virtual address of the instruction.
        pc: u64,
    },
    /// The guest has accessed a system register that it does not have.
    NoRegister {
        /// Encoding of the register, as in [`exit::SystemAccess`].
        encoding: u16,
        /// Virtual address of the instruction.
        pc: u64,
    },
    /// The guest has executed an instruction that is UNDEFINED here.
    Undefined {
        /// ESR_EL2 of the trap.
        esr: u64,
        /// Virtual address of the instruction.
        pc: u64,
    },
}

/// Writes a sentence like `Load at 0xb000000, which nothing there can answer, from PC 0x40080000`,
/// for a line of the log that begins with the guest's name.
impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NothingThere { cause, address, pc } => write!(
                out,
                "{cause:?} at {address:#x}, which nothing there can answer, from PC {pc:#x}"
            ),
            Self::NoRegister { encoding, pc } => {
                write!(out, "{} is not there, from PC {pc:#x}", EncodingName(encoding))
            }
            Self::Undefined { esr, pc } => {
                write!(out, "{} at PC {pc:#x}, which is UNDEFINED here", exit::describe(esr))
            }
        }
    }
}
