//! Where to say that the device tree is of no use: the UARTs of the boards that are known, at the
//! addresses where their manuals have them.

use stasis_memory::range::Range;

/// Bytes of a PL011's registers.
const LEN: u64 = 0x1000;

/// The PL011s, in the order in which they are looked for: of QEMU's `virt`, and of the Raspberry Pi
/// 4 and 5. Where one is looked for on another's board there is RAM.
pub const PL011S: [Range; 3] =
    [Range::new(0x0900_0000, LEN), Range::new(0xfe20_1000, LEN), Range::new(0x10_7d00_1000, LEN)];

/// Returns whether these are the identification registers of a PL011, UARTPeriphID0 to 3 and
/// UARTPCellID0 to 3 (DDI 0183G, 3.3.15). Its revision makes no difference.
pub fn is_pl011(ids: [u32; 8]) -> bool {
    /// Bits [7:4] of UARTPeriphID2.
    const REVISION: u32 = 0xf0;
    let [part, designer, revision, configuration, cell @ ..] = ids;
    (part, designer, revision & !REVISION, configuration) == (0x11, 0x10, 0x04, 0)
        && cell == [0x0d, 0xf0, 0x05, 0xb1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pl011_is_known_by_its_identification_whatever_its_revision() {
        // QEMU's, and a Raspberry Pi 4's (r1p5).
        for revision in [0x14, 0x34] {
            assert!(is_pl011([0x11, 0x10, revision, 0, 0x0d, 0xf0, 0x05, 0xb1]));
        }
        // A PL031, RAM of zeros, and a bus without anything.
        assert!(!is_pl011([0x31, 0x10, 0x14, 0, 0x0d, 0xf0, 0x05, 0xb1]));
        assert!(!is_pl011([0; 8]) && !is_pl011([u32::MAX; 8]));
    }
}
