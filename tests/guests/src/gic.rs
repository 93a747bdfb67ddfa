//! The GICv2 (IHI 0048B.b): registers, and the little of a driver that the guests need.

use crate::mmio::{read8, read32, write8, write32};

/// The distributor.
pub const GICD: usize = 0x0800_0000;
/// The CPU interface.
pub const GICC: usize = 0x0801_0000;
/// Bytes that the device tree of `virt` gives to either.
pub const FRAME_SIZE: usize = 0x1_0000;

/// GICD_CTLR, 4.3.1.
pub const GICD_CTLR: usize = GICD;
/// GICD_TYPER, 4.3.2.
pub const GICD_TYPER: usize = GICD + 0x004;
/// GICD_IIDR, 4.3.3.
pub const GICD_IIDR: usize = GICD + 0x008;
/// GICD_IGROUPR, 4.3.4.
pub const GICD_IGROUPR: usize = GICD + 0x080;
/// GICD_ISENABLER, 4.3.5.
pub const GICD_ISENABLER: usize = GICD + 0x100;
/// GICD_ICENABLER, 4.3.6.
pub const GICD_ICENABLER: usize = GICD + 0x180;
/// GICD_ISPENDR, 4.3.7.
pub const GICD_ISPENDR: usize = GICD + 0x200;
/// GICD_ICPENDR, 4.3.8.
pub const GICD_ICPENDR: usize = GICD + 0x280;
/// GICD_ISACTIVER, 4.3.9.
pub const GICD_ISACTIVER: usize = GICD + 0x300;
/// GICD_ICACTIVER, 4.3.10.
pub const GICD_ICACTIVER: usize = GICD + 0x380;
/// GICD_IPRIORITYR, 4.3.11.
pub const GICD_IPRIORITYR: usize = GICD + 0x400;
/// GICD_ITARGETSR, 4.3.12.
pub const GICD_ITARGETSR: usize = GICD + 0x800;
/// GICD_ICFGR, 4.3.13.
pub const GICD_ICFGR: usize = GICD + 0xc00;
/// GICD_SGIR, 4.3.15.
pub const GICD_SGIR: usize = GICD + 0xf00;
/// GICD_CPENDSGIR, 4.3.16.
pub const GICD_CPENDSGIR: usize = GICD + 0xf10;
/// GICD_SPENDSGIR, 4.3.17.
pub const GICD_SPENDSGIR: usize = GICD + 0xf20;

/// GICC_CTLR, 4.4.1.
pub const GICC_CTLR: usize = GICC;
/// GICC_PMR, 4.4.2.
pub const GICC_PMR: usize = GICC + 0x04;
/// GICC_BPR, 4.4.3.
pub const GICC_BPR: usize = GICC + 0x08;
/// GICC_IAR, 4.4.4.
pub const GICC_IAR: usize = GICC + 0x0c;
/// GICC_EOIR, 4.4.5.
pub const GICC_EOIR: usize = GICC + 0x10;
/// GICC_RPR, 4.4.6.
pub const GICC_RPR: usize = GICC + 0x14;
/// GICC_HPPIR, 4.4.7.
pub const GICC_HPPIR: usize = GICC + 0x18;
/// GICC_ABPR, 4.4.8.
pub const GICC_ABPR: usize = GICC + 0x1c;
/// GICC_APR0, 4.4.13.
pub const GICC_APR: usize = GICC + 0xd0;
/// GICC_IIDR, 4.4.15.
pub const GICC_IIDR: usize = GICC + 0xfc;
/// GICC_DIR, 4.4.16.
pub const GICC_DIR: usize = GICC + 0x1000;

/// GICC_CTLR.EOImodeNS, as a guest without Security Extensions sees it: EOIR only drops the
/// priority.
pub const CTLR_EOIMODE: u32 = 1 << 9;
/// What IAR says when nothing is pending.
pub const SPURIOUS: u32 = 1023;

/// Enables both halves; every priority may interrupt, in eight groups of levels.
pub fn init() {
    write32(GICD_CTLR, 1);
    write32(GICC_PMR, 0xf8);
    write32(GICC_BPR, 3);
    write32(GICC_CTLR, 1);
}

/// Sets an interrupt's priority, by a byte access.
pub fn set_priority(intid: u32, priority: u8) {
    write8(GICD_IPRIORITYR + intid as usize, priority);
}

/// Returns an interrupt's priority.
pub fn priority(intid: u32) -> u8 {
    read8(GICD_IPRIORITYR + intid as usize)
}

/// Writes the interrupt's bit in a bank of one bit each.
pub fn set_bit(bank: usize, intid: u32) {
    write32(bank + intid as usize / 32 * 4, 1 << (intid % 32));
}

/// Reads the interrupt's bit in a bank of one bit each.
pub fn bit(bank: usize, intid: u32) -> bool {
    read32(bank + intid as usize / 32 * 4) & 1 << (intid % 32) != 0
}

/// Lets an interrupt come, at a priority.
pub fn enable(intid: u32, priority: u8) {
    set_priority(intid, priority);
    set_bit(GICD_ISENABLER, intid);
}

/// Sends an SGI to this CPU.
pub fn send_to_self(sgi: u32) {
    const TO_SELF: u32 = 2 << 24;
    write32(GICD_SGIR, TO_SELF | sgi);
}

/// Returns the priorities that are active, as one bit for every eighth. GICC has a level for every
/// second priority, GICV for every eighth; the least binary point that can be set tells which of
/// the two this is.
pub fn active_priorities() -> u32 {
    let binary_point = read32(GICC_BPR);
    write32(GICC_BPR, 0);
    let finest = read32(GICC_BPR);
    write32(GICC_BPR, binary_point);
    if finest >= 2 {
        return read32(GICC_APR);
    }
    let mut bits = 0;
    for level in 0..128 {
        if read32(GICC_APR + level / 32 * 4) & 1 << (level % 32) != 0 {
            bits |= 1 << (level / 4);
        }
    }
    bits
}
