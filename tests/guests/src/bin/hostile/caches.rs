//! Cache maintenance by set and way, which acts on the caches of the core and not on a guest's
//! memory; and invalidations that are broadcast to all cores.

use core::arch::asm;
use stasis_guests::random::Random;
use stasis_guests::{mrs, msr};

/// Operands without a meaning, of each instruction.
const GARBAGE: usize = 1000;
/// Broadcasts in a row.
const BROADCASTS: usize = 1000;

/// Makes the attack.
pub fn attack() {
    for level in 0..7 {
        // CLIDR_EL1.Ctype: data or unified caches are 2 and more.
        if mrs!("CLIDR_EL1") >> (3 * level) & 7 >= 2 {
            all_lines(level);
        }
    }
    let mut random = Random(0xcac4e);
    for _ in 0..GARBAGE {
        by_set_and_way(random.next());
    }
    for _ in 0..BROADCASTS {
        // SAFETY: TLBs and instruction caches are filled again.
        unsafe { asm!("tlbi vmalle1is", "ic ialluis", "dsb sy", "isb") };
    }
}

/// Every line of a cache, as Arm's own example does it (ARM DDI 0487, D7.5.9).
fn all_lines(level: u64) {
    msr!("CSSELR_EL1", level << 1);
    let ccsidr = mrs!("CCSIDR_EL1");
    let line_shift = (ccsidr & 7) + 4;
    let last_way = (ccsidr >> 3 & 0x3ff) as u32;
    let last_set = ccsidr >> 13 & 0x7fff;
    // A cache of one way has none in the operand.
    let way_shift = last_way.leading_zeros() % 32;
    for way in 0..=u64::from(last_way) {
        for set in 0..=last_set {
            by_set_and_way(way << way_shift | set << line_shift | level << 1);
        }
    }
}

/// Invalidates, cleans, and does both.
fn by_set_and_way(operand: u64) {
    // SAFETY: Invalidation alone would lose what Rust has written; HCR_EL2.SWIO makes it clean as
    // well, and QEMU has no caches.
    unsafe {
        asm!("dc isw, {0}", "dc csw, {0}", "dc cisw, {0}", in(reg) operand);
    }
}
