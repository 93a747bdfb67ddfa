//! The PL031: identification, setting, alarm.

use crate::interrupts;
use stasis_guests::mmio::{read32, write32};
use stasis_guests::rtc::*;
use stasis_guests::{gic, println};

/// 2026-01-01.
const RECENT: u32 = 1_767_225_600;

/// Prints it.
pub fn probe() {
    for group in [PERIPH_ID, PERIPH_ID + 16] {
        println!(
            "RTC ID {:x} {:x} {:x} {:x}",
            read32(group),
            read32(group + 4),
            read32(group + 8),
            read32(group + 12)
        );
    }
    println!(
        "RTC CR {:#x} IMSC {:#x} RIS {:#x} MIS {:#x}",
        read32(CR),
        read32(IMSC),
        read32(RIS),
        read32(MIS)
    );
    println!("RTC tells the time: {}", read32(DR) > RECENT);
    write32(LR, 1_000_000_000);
    println!(
        "RTC can be set: {} LR {}",
        read32(DR).wrapping_sub(1_000_000_000) < 5,
        read32(LR).wrapping_sub(1_000_000_000) < 5
    );

    gic::enable(INTID, 0x60);
    write32(ICR, 1);
    write32(MR, read32(DR) + 1);
    println!("RTC alarm set: MIS {:#x}", read32(MIS));
    write32(IMSC, 1);
    println!("RTC taken {}", interrupts::wait());
    println!("RTC RIS {:#x}, alarm in time: {}", read32(RIS), read32(DR) >= read32(MR));
    gic::set_bit(gic::GICD_ICENABLER, INTID);
}
