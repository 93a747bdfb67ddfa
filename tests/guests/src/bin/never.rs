//! Sets each deadline of its machine to where it never comes, and looks whether it is left alone:
//! with each byte that is typed, a round of lines that are the same on every machine and at every
//! time.
//!
//! While one timer is at the end of time, the other one ends the wait for it.

#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use stasis_guests::mmio::{read32, write32};
use stasis_guests::sysreg::{mask_irqs, unmask_irqs, wfi};
use stasis_guests::timer::{ENABLE, PHYSICAL, VIRTUAL, frequency};
use stasis_guests::{gic, mrs, msr, println, rtc, uart};

stasis_guests::entry!(main, irq);

/// Where timers are put that are not to fire: "never", in the ways that drivers write it.
const FAR: [u64; 4] = [u64::MAX, u64::MAX - 1, u64::MAX - 1_000_000_000, i64::MAX as u64];

/// More returns from WFI than this within [`MS`] are a machine that can't wait. A hypervisor may
/// look at its guest a thousand times in a second; where a deadline lay in the past, there were
/// 18,000.
const FEW: u32 = 300;
const MS: u64 = 100;

const PRIORITY: u8 = 0xa0;

/// The last interrupt that was taken.
static TAKEN: AtomicU32 = AtomicU32::new(gic::SPURIOUS);

fn main() {
    gic::init();
    for intid in [VIRTUAL, PHYSICAL, rtc::INTID] {
        gic::enable(intid, PRIORITY);
    }
    loop {
        round();
        println!("next");
        uart::get();
    }
}

macro_rules! timer {
    ($name:literal, $ctl:literal, $cval:literal, $tval:literal, $count:literal, $intid:expr, $other_ctl:literal, $other_cval:literal) => {{
        for far in FAR {
            msr!($cval, far);
            msr!($ctl, ENABLE);
            let (ctl, kept, tval) = (mrs!($ctl), mrs!($cval) == far, mrs!($tval) as u32);
            let left = far.wrapping_sub(mrs!($count)) as u32;
            let near = tval.wrapping_sub(left) < frequency() as u32;
            println!(
                concat!($name, " at {:#x}: CTL {} CVAL kept {} TVAL its low half {}"),
                far, ctl, kept, near
            );
            let pending = gic::bit(gic::GICD_ISPENDR, $intid);
            msr!($other_cval, mrs!($count) + frequency() * MS / 1000);
            msr!($other_ctl, ENABLE);
            println!("  pending {pending} then taken {}", wait());
            msr!($other_ctl, 0);
            msr!($ctl, 0);
        }
        // As far as TVAL reaches, to either side.
        msr!($ctl, ENABLE);
        msr!($tval, i32::MAX as u64);
        println!(concat!($name, " TVAL {:#x}: CTL {}"), i32::MAX, mrs!($ctl));
        msr!($ctl, 0);
    }};
}

fn round() {
    timer!(
        "CNTV",
        "CNTV_CTL_EL0",
        "CNTV_CVAL_EL0",
        "CNTV_TVAL_EL0",
        "CNTVCT_EL0",
        VIRTUAL,
        "CNTP_CTL_EL0",
        "CNTP_CVAL_EL0"
    );
    timer!(
        "CNTP",
        "CNTP_CTL_EL0",
        "CNTP_CVAL_EL0",
        "CNTP_TVAL_EL0",
        "CNTPCT_EL0",
        PHYSICAL,
        "CNTV_CTL_EL0",
        "CNTV_CVAL_EL0"
    );
    // The alarm has just been: it comes again in 2^32 seconds.
    write32(rtc::MR, read32(rtc::DR) - 1);
    write32(rtc::ICR, 1);
    write32(rtc::IMSC, 1);
    msr!("CNTV_CVAL_EL0", mrs!("CNTVCT_EL0") + frequency() * MS / 1000);
    msr!("CNTV_CTL_EL0", ENABLE);
    println!("RTC alarm that has been: RIS {} then taken {}", read32(rtc::RIS), wait());
    write32(rtc::IMSC, 0);
}

/// Sleeps until an interrupt was taken: which.
fn wait() -> u32 {
    TAKEN.store(gic::SPURIOUS, Relaxed);
    let mut returns = 0;
    while TAKEN.load(Relaxed) == gic::SPURIOUS {
        wfi();
        returns += 1;
        unmask_irqs();
        mask_irqs();
    }
    if returns > FEW {
        println!("WFI returned {returns} times");
    }
    TAKEN.load(Relaxed)
}

fn irq() {
    let iar = read32(gic::GICC_IAR);
    match iar & 0x3ff {
        VIRTUAL => msr!("CNTV_CTL_EL0", 0),
        PHYSICAL => msr!("CNTP_CTL_EL0", 0),
        rtc::INTID => write32(rtc::IMSC, 0),
        _ => return,
    }
    TAKEN.store(iar, Relaxed);
    write32(gic::GICC_EOIR, iar);
}
