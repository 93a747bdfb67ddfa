//! What must be done outside of a guest after an answer to it, as values: [`Outbox`].
//!
//! The guest's logic runs under the lock of what its vCPUs share. Under that lock nothing is done
//! that takes another lock, or long. The logic puts such things into the outbox, and its caller
//! carries them out, best when the lock is released.

use core::fmt;

use stasis_vgic::VcpuMask;

use crate::exit::{self, Cause, EncodingName};

/// What must be done outside of the guest. The caller of the guest's logic empties it after each
/// call: it has room for what one access can entail.
#[derive(Debug, Default)]
pub struct Outbox {
    /// What is in the outbox, in one word, for it is mostly empty: bit n for vCPU n, which must be
    /// kicked, and [`WORK`] and [`ERRAND`].
    things: u16,
    /// The errand, if [`ERRAND`] is set. One access entails at most one.
    errand: Option<Errand>,
}

/// Bit of [`Outbox::things`]: virtio devices have requests.
const WORK: u16 = 1 << 8;
/// Bit of [`Outbox::things`]: there is an errand.
const ERRAND: u16 = 1 << 9;

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
    pub const EMPTY: Self = Self { things: 0, errand: None };

    /// Returns whether there is nothing to do.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.things == 0
    }

    /// Adds `vcpus` to those that must be kicked: the other vCPUs that must pass through
    /// [`Vgic::enter`](stasis_vgic::Vgic::enter), or look at their power state.
    #[inline]
    pub fn kick(&mut self, vcpus: VcpuMask) {
        self.things |= u16::from(vcpus.0);
    }

    /// Returns the vCPUs that must be kicked, and takes them out.
    #[inline]
    pub fn take_kicks(&mut self) -> VcpuMask {
        let kicks = VcpuMask(self.things as u8);
        self.things &= !u16::from(u8::MAX);
        kicks
    }

    /// Notes that virtio devices have requests: [`Guest::serve`](crate::Guest::serve) does them.
    #[inline]
    pub fn note_work(&mut self) {
        self.things |= WORK;
    }

    /// Returns whether virtio devices have requests.
    #[inline]
    pub fn has_work(&self) -> bool {
        self.things & WORK != 0
    }

    /// Notes that the requests of virtio devices are done, or are noted elsewhere.
    #[inline]
    pub fn forget_work(&mut self) {
        self.things &= !WORK;
    }

    /// Puts in the other thing that must be done.
    #[inline]
    pub fn put(&mut self, errand: Errand) {
        self.things |= ERRAND;
        self.errand = Some(errand);
    }

    /// Returns the errand, if there is one, and takes it out.
    #[inline]
    pub fn take_errand(&mut self) -> Option<Errand> {
        self.things &= !ERRAND;
        self.errand.take()
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
