//! Exits, one after the other, of every kind that is cheap to bring about.

use core::arch::asm;
use stasis_guests::exception::catch;
use stasis_guests::mmio::{read32, write32};
use stasis_guests::psci::{self, hvc, smc};
use stasis_guests::second::Second;
use stasis_guests::sysreg::wfi;
use stasis_guests::{gic, mrs, msr, timer, uart};

/// The number of exits of a kind that come in a row.
const ROW: usize = 500;
/// The number of times that the second CPU is switched on.
const STARTS: u64 = 20;

/// Each exits at least once.
const EXITS: [fn(); 11] = [
    || ignore(hvc(u64::from(psci::VERSION), [0; 3])),
    || ignore(smc(0x1234_5678, [0; 3])),
    || ignore(read32(gic::GICD_ISENABLER)),
    || write32(gic::GICD_ICFGR + 8, !0),
    || write32(uart::IMSC, 0),
    || ignore(mrs!("CNTPCT_EL0")),
    || msr!("CNTP_CVAL_EL0", 0),
    || ignore(mrs!("ID_AA64PFR0_EL1")),
    || ignore(mrs!("CTR_EL0")),
    || ignore(catch(|| write32(0x0b00_0000, 0))),
    // SAFETY: A register and a call that nobody knows.
    || ignore(catch(|| unsafe { asm!("msr s3_1_c15_c7_0, xzr", "hvc #7", clobber_abi("C")) })),
];

/// The answers don't matter.
fn ignore<T>(_: T) {}

/// Makes the attack.
pub fn attack() {
    for exit in EXITS {
        for _ in 0..ROW {
            exit();
        }
    }
    sleepless();
    starts();
}

/// WFI and CPU_SUSPEND with an interrupt that is pending and masked: they end at once.
fn sleepless() {
    gic::init();
    gic::enable(timer::VIRTUAL, 0xa0);
    msr!("CNTV_CVAL_EL0", 0);
    msr!("CNTV_CTL_EL0", timer::ENABLE);
    for _ in 0..ROW {
        wfi();
        hvc(u64::from(psci::CPU_SUSPEND), [0; 3]);
    }
    msr!("CNTV_CTL_EL0", 0);
    gic::set_bit(gic::GICD_ICENABLER, timer::VIRTUAL);
}

/// Switches the second CPU on and off, if there is one.
fn starts() {
    for context in 0..STARTS {
        if Second::on(context) != 0 {
            return;
        }
        Second::context();
        Second::off();
        while hvc(u64::from(psci::AFFINITY_INFO), [Second::MPIDR, 0, 0]) == 0 {}
    }
}
