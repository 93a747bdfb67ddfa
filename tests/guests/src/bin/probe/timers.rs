//! The virtual and the physical timer.

use crate::interrupts;
use stasis_guests::sysreg::wfi;
use stasis_guests::timer::{ENABLE, IMASK, PHYSICAL, VIRTUAL, frequency, now};
use stasis_guests::{gic, mmio, mrs, msr, println};

macro_rules! timer {
    ($name:literal, $intid:expr, $ctl:literal, $cval:literal, $tval:literal, $count:literal) => {{
        gic::enable($intid, 0xa0);
        msr!($ctl, 0);
        println!(concat!($name, " off: CTL {}"), mrs!($ctl));
        let soon = frequency() / 100;

        // As far off as TVAL can tell, about: it is not due before it was looked at, however slow
        // the machine is.
        let start = mrs!($count);
        let far = frequency() * 30;
        msr!($cval, start + far);
        msr!($ctl, ENABLE);
        let left = mrs!($tval);
        println!(
            concat!($name, " on: CTL {} CVAL kept {} TVAL in range {}"),
            mrs!($ctl),
            mrs!($cval) == start + far,
            left <= far
        );
        msr!($cval, start + soon);
        println!(concat!($name, " taken {}"), interrupts::wait());
        println!(
            concat!($name, " after: in time {} CTL {}"),
            mrs!($count) >= start + soon,
            mrs!($ctl)
        );
        println!(concat!($name, " silent: taken {}"), interrupts::let_in());

        msr!($ctl, 0);
        msr!($tval, soon);
        let deadline = mrs!($cval);
        println!(
            concat!($name, " TVAL sets CVAL: {}"),
            deadline > start && deadline <= mrs!($count) + soon
        );
        msr!($ctl, ENABLE);
        println!(concat!($name, " by TVAL: taken {}"), interrupts::wait());

        // A negative TVAL: it has long expired.
        msr!($ctl, ENABLE | IMASK);
        msr!($tval, -5i64 as u64);
        println!(
            concat!($name, " expired, masked: CTL {} pending {}"),
            mrs!($ctl),
            gic::bit(gic::GICD_ISPENDR, $intid)
        );
        msr!($ctl, ENABLE);
        println!(
            concat!($name, " expired: CTL {} pending {}"),
            mrs!($ctl),
            gic::bit(gic::GICD_ISPENDR, $intid)
        );
        // The line falls before the interrupt is taken.
        msr!($cval, u64::MAX >> 1);
        println!(
            concat!($name, " put off: CTL {} pending {} taken {}"),
            mrs!($ctl),
            gic::bit(gic::GICD_ISPENDR, $intid),
            interrupts::let_in()
        );

        // WFI ends for an interrupt that the CPU masks.
        msr!($cval, mrs!($count) + soon);
        let deadline = mrs!($cval);
        while mrs!($count) < deadline {
            wfi();
        }
        // A busy machine raises the line some time after the counter is there.
        let is_pending = || gic::bit(gic::GICD_ISPENDR, $intid);
        while !is_pending() && mrs!($count) < deadline + frequency() {}
        println!(concat!($name, " WFI ends, masked: pending {}"), is_pending());
        println!(concat!($name, " then taken {}"), interrupts::wait());

        // Disabled in the GIC, it is pending and not taken.
        mmio::write32(gic::GICD_ICENABLER, 1 << $intid);
        msr!($cval, 0);
        msr!($ctl, ENABLE);
        println!(
            concat!($name, " disabled in the GIC: pending {} taken {}"),
            gic::bit(gic::GICD_ISPENDR, $intid),
            interrupts::let_in()
        );
        msr!($ctl, 0);
        println!(concat!($name, " off again: pending {}"), gic::bit(gic::GICD_ISPENDR, $intid));
    }};
}

/// Prints it.
pub fn probe() {
    println!("CNTFRQ_EL0 {}", frequency());
    let virtual_count = now();
    let physical_count = mrs!("CNTPCT_EL0");
    println!("the counts are one: {}", physical_count.wrapping_sub(virtual_count) < frequency());
    gic::init();
    timer!("CNTV", VIRTUAL, "CNTV_CTL_EL0", "CNTV_CVAL_EL0", "CNTV_TVAL_EL0", "CNTVCT_EL0");
    timer!("CNTP", PHYSICAL, "CNTP_CTL_EL0", "CNTP_CVAL_EL0", "CNTP_TVAL_EL0", "CNTPCT_EL0");
    msr!("CNTKCTL_EL1", 0x2);
    println!("CNTKCTL_EL1 {:#x}", mrs!("CNTKCTL_EL1"));
}
