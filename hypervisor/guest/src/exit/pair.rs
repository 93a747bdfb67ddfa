//! Loads of a pair of registers: `ldp x0, x1, [x2, #16]`.
//!
//! As for [writebacks](super::writeback), the syndrome does not describe them (ISV is 0), so EL2
//! reads the instruction. Linux reads a generation ID so: a copy of 16 bytes is one load of a pair.

use stasis_state::vcpu::Core;

use super::{Access, Cause, Fault};
use crate::register::general;
use stasis_devices::access::Width;

/// Bytes of a page: the two halves of an access in one page are in the windows of one device.
const PAGE: u64 = 4096;

/// Returns the access if `instruction` is a load of a pair that explains `fault`: Load/store
/// register pair, offset (DDI 0487, C4.1.94), of general registers.
pub(super) fn decode(instruction: u32, fault: &Fault, core: &Core) -> Option<Access> {
    let field = |lowest: u32, bits: u32| instruction >> lowest & ((1 << bits) - 1);
    if field(22, 8) != 0b1010_0101 || fault.cause != Cause::Load {
        return None;
    }
    let width = match field(30, 2) {
        0 => Width::Word,
        2 => Width::Doubleword,
        _ => return None,
    };
    let (register, base, second) = (field(0, 5) as u8, field(5, 5) as u8, field(10, 5) as u8);
    // SP is no base for a device. If both registers are one, the result is not defined (K1.2.15).
    if base == 31 || register == second {
        return None;
    }
    let offset = i64::from(((field(15, 7) << 25) as i32) >> 25) * width.bytes() as i64;
    let address = general(core, base).wrapping_add_signed(offset);
    let is_in_page = fault.virtual_address % PAGE + 2 * width.bytes() <= PAGE;
    (address == fault.virtual_address && is_in_page).then_some(Access {
        write: false,
        width,
        register,
        sign_extend: false,
        sixty_four: width == Width::Doubleword,
        writeback: None,
        second: Some(second),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::FaultKind;

    const DEVICE: u64 = 0xffff_0000_0912_0010;

    fn fault(cause: Cause, virtual_address: u64) -> Fault {
        let (ipa, kind) = (Some(0x0912_0000 + virtual_address % PAGE), FaultKind::Translation);
        Fault { cause, virtual_address, ipa, kind, on_walk: false }
    }

    fn decoded(instruction: u32, fault: &Fault) -> Option<Access> {
        let mut core = Core::default();
        core.x[2] = DEVICE - 16;
        decode(instruction, fault, &core)
    }

    #[test]
    fn a_load_of_a_pair_is_two_loads() {
        // ldp x0, x1, [x2, #16]
        let access = decoded(0xa941_0440, &fault(Cause::Load, DEVICE)).unwrap();
        assert_eq!((access.width, access.register), (Width::Doubleword, 0));
        assert_eq!((access.second, access.writeback), (Some(1), None));
        // ldp w0, w1, [x2, #16]
        let access = decoded(0x2942_0440, &fault(Cause::Load, DEVICE)).unwrap();
        assert_eq!((access.width, access.sixty_four), (Width::Word, false));
    }

    #[test]
    fn other_instructions_and_addresses_are_no_load_of_a_pair() {
        let load = fault(Cause::Load, DEVICE);
        // A store, a vector, a post-index, LDPSW, one register twice, SP.
        for other in [0xa901_0440, 0xad41_0440, 0xa8c1_0440, 0x6942_0440, 0xa941_0040, 0xa941_07e0]
        {
            assert_eq!(decoded(other, &load), None, "{other:#x}");
        }
        assert_eq!(decoded(0xa941_0440, &fault(Cause::Load, DEVICE + 8)), None);
        assert_eq!(decoded(0xa941_0440, &fault(Cause::Store, DEVICE)), None);
    }

    #[test]
    fn a_pair_that_lies_in_two_pages_is_refused() {
        let mut core = Core::default();
        core.x[2] = 0x0912_0ff8;
        assert_eq!(decode(0xa940_0440, &fault(Cause::Load, 0x0912_0ff8), &core), None);
    }
}
