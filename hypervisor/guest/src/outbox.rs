//! What an answer to a guest leaves to be done outside of it, as values: [`Outbox`].
//!
//! The guest's logic runs under the lock of what its vCPUs share. What takes other locks, or time, is not done there: the logic puts
//! it here, and whoever has called it carries it out, best once the lock is released.

use core::fmt;

use stasis_vgic::VcpuMask;

use crate::exit::{self, Cause, EncodingName};

/// What is to be done outside of the guest. Whoever holds it empties it after each call of the guest's logic ([`Outbox::take`]): it has
/// room for what one access can entail.
#[derive(Debug, Default)]
pub struct Outbox {
    /// These other vCPUs must pass through [`Vgic::enter`](stasis_vgic::Vgic::enter), or look at their power state.
    pub kick: VcpuMask,
    /// What else must be done. One access entails one such thing at the most.
    pub errand: Option<Errand>,
}

/// What must be done outside of the guest, besides kicking its vCPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// The guest's UART sends this byte.
    Send(u8),
    /// The guest rings the doorbell of another one.
    Ring {
        /// Which of the regions that the ringing guest shares, in its order.
        region: u8,
        /// The number of the guest that is rung, among those that share the region.
        peer: u8,
    },
    /// The guest did something that a person should know of.
    Report(Report),
}

impl Outbox {
    /// An outbox with nothing in it.
    pub const EMPTY: Self = Self { kick: VcpuMask::NONE, errand: None };

    /// Returns whether there is nothing to be done.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.kick.is_empty() && self.errand.is_none()
    }

    /// Returns what is to be done, and leaves nothing.
    #[inline]
    pub fn take(&mut self) -> Self {
        core::mem::replace(self, Self::EMPTY)
    }

    /// Adds vCPUs to those that must be kicked.
    #[inline]
    pub fn kick(&mut self, vcpus: VcpuMask) {
        self.kick.0 |= vcpus.0;
    }
}

/// What a guest did that it is warned of in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// It has reached for an address at which nothing can answer.
    NothingThere {
        /// How.
        cause: Cause,
        /// The intermediate physical address; the virtual one where that is not known.
        address: u64,
        /// Where its instruction is.
        pc: u64,
    },
    /// It has reached for a system register that it does not have.
    NoRegister {
        /// The register, as in the syndrome.
        encoding: u16,
        /// Where its instruction is.
        pc: u64,
    },
    /// It has done what is UNDEFINED here.
    Undefined {
        /// ESR_EL2.
        esr: u64,
        /// Where its instruction is.
        pc: u64,
    },
}

/// As in `Read at 0xb000000, which nothing there can answer, from PC 0x40080000`: a line of the log goes on so behind the guest's name.
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
