//! A trapped load or store, as the syndrome of its data abort describes it.

use stasis_devices::access::Width;
use stasis_state::vcpu::Core;

use super::syndrome::{AbortIss, ISS_DATA_ABORT};
use crate::register::{general, is_big_endian, set_general};

/// Returns the width of the access in a syndrome with ISV = 1.
#[inline]
pub(super) fn width(iss: AbortIss) -> Width {
    match iss.read_as_enum(ISS_DATA_ABORT::SAS) {
        Some(ISS_DATA_ABORT::SAS::Value::Byte) => Width::Byte,
        Some(ISS_DATA_ABORT::SAS::Value::Halfword) => Width::Halfword,
        Some(ISS_DATA_ABORT::SAS::Value::Word) => Width::Word,
        Some(ISS_DATA_ABORT::SAS::Value::Doubleword) | None => Width::Doubleword,
    }
}

/// The change of the base register: its number, and its new value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writeback {
    pub(super) register: u8,
    pub(super) value: u64,
}

impl Writeback {
    /// Writes the new value to the base register. Call it after the access: an access that aborts
    /// leaves the base register as it was.
    pub fn apply(self, core: &mut Core) {
        set_general(core, self.register, self.value);
    }
}

/// A load or store of one general register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Whether the access is a store.
    pub write: bool,
    /// Width of the access.
    pub width: Width,
    /// Number of the general register: 0 to 30 are X0 to X30; 31 is XZR.
    pub register: u8,
    /// Whether a loaded value is sign-extended.
    pub sign_extend: bool,
    /// Whether the register is an X register. Then the sign goes up to bit 63, and to bit 31
    /// otherwise.
    pub sixty_four: bool,
    /// The change of the base register, if the instruction makes one.
    pub writeback: Option<Writeback>,
    /// Number of the second register, if the instruction loads or stores a pair: it has the bytes
    /// behind those of the first.
    pub second: Option<u8>,
}

impl Access {
    /// Returns the access that a syndrome with ISV = 1 describes.
    #[inline]
    pub(super) fn decode(iss: AbortIss) -> Self {
        Self {
            write: iss.is_set(ISS_DATA_ABORT::WNR),
            width: width(iss),
            register: iss.read(ISS_DATA_ABORT::SRT) as u8,
            sign_extend: iss.is_set(ISS_DATA_ABORT::SSE),
            sixty_four: iss.is_set(ISS_DATA_ABORT::SF),
            // A syndrome never describes an instruction with writeback.
            writeback: None,
            second: None,
        }
    }

    /// Returns what a store stores: the register's value, cut to the access's width.
    pub fn stored(&self, core: &Core) -> u64 {
        self.width.truncate(general(core, self.register))
    }

    /// Finishes a load: puts the device's `value` into the register.
    pub fn load(&self, core: &mut Core, value: u64) {
        let value = if self.sign_extend {
            let register = if self.sixty_four { Width::Doubleword } else { Width::Word };
            register.truncate(self.width.sign_extend(value))
        } else {
            self.width.truncate(value)
        };
        set_general(core, self.register, value);
    }

    /// Converts `value` between the order of bytes of the guest, which may be big-endian, and that
    /// of devices, which is little-endian. The function is its own inverse.
    #[inline]
    pub fn in_device_order(&self, core: &Core, sctlr_el1: u64, value: u64) -> u64 {
        if is_big_endian(core, sctlr_el1) { self.width.swap_bytes(value) } else { value }
    }
}
