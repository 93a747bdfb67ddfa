//! A load or store that trapped, as the syndrome of its data abort describes it.

use stasis_devices::access::Width;
use stasis_state::vcpu::Core;

use super::Writeback;
use super::syndrome::{AbortIss, ISS_DATA_ABORT};
use crate::register::{general, is_big_endian, set_general};

/// A load or store of one general register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// A store.
    pub write: bool,
    /// Its size.
    pub width: Width,
    /// 0 to 30: X0 to X30; 31 is XZR.
    pub register: u8,
    /// What is loaded is sign-extended.
    pub sign_extend: bool,
    /// The register is 64 bits wide: the sign goes up to bit 63, not to bit 31.
    pub sixty_four: bool,
    /// What becomes of the base register.
    pub writeback: Option<Writeback>,
}

impl Access {
    /// The access, as a syndrome with ISV set describes it.
    #[inline]
    pub(super) fn decode(iss: AbortIss) -> Self {
        Self {
            write: iss.is_set(ISS_DATA_ABORT::WNR),
            width: match iss.read_as_enum(ISS_DATA_ABORT::SAS) {
                Some(ISS_DATA_ABORT::SAS::Value::Byte) => Width::Byte,
                Some(ISS_DATA_ABORT::SAS::Value::Halfword) => Width::Halfword,
                Some(ISS_DATA_ABORT::SAS::Value::Word) => Width::Word,
                Some(ISS_DATA_ABORT::SAS::Value::Doubleword) | None => Width::Doubleword,
            },
            register: iss.read(ISS_DATA_ABORT::SRT) as u8,
            sign_extend: iss.is_set(ISS_DATA_ABORT::SSE),
            sixty_four: iss.is_set(ISS_DATA_ABORT::SF),
            // The syndrome describes none that has one.
            writeback: None,
        }
    }

    /// What a store stores: the register, cut to the access's width.
    pub fn stored(&self, core: &Core) -> u64 {
        self.width.truncate(general(core, self.register))
    }

    /// Finishes a load with what the device gave.
    pub fn load(&self, core: &mut Core, value: u64) {
        let value = if self.sign_extend {
            self.width.sign_extend(value)
        } else {
            self.width.truncate(value)
        };
        let register = if self.sixty_four { Width::Doubleword } else { Width::Word };
        set_general(core, self.register, register.truncate(value));
    }

    /// `value` on its way between the guest and a device: devices are little-endian, and a guest may be big-endian. Its own
    /// inverse.
    pub fn in_device_order(&self, core: &Core, sctlr_el1: u64, value: u64) -> u64 {
        if is_big_endian(core, sctlr_el1) { self.width.swap_bytes(value) } else { value }
    }
}
