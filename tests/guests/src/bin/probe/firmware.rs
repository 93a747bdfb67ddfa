//! PSCI and SMCCC, by HVC and by SMC.

use stasis_guests::exception::catch;
use stasis_guests::psci::*;
use stasis_guests::{gic, mmio, msr, println, timer};

/// The MPIDR of a CPU that is not there, and of the one that is.
const ABSENT: u64 = 7;
const SELF: u64 = 0;

type Conduit = fn(u64, [u64; 3]) -> u64;

/// Prints it.
pub fn probe() {
    by("hvc", hvc);
    let fault = catch(|| {
        let _ = smc(u64::from(VERSION), [0; 3]);
    });
    println!("~ smc: ESR {:x?}", fault.map(|fault| fault.esr));
    if fault.is_none() {
        by("~ smc", smc);
    }
    suspend();
}

fn by(prefix: &str, call: Conduit) {
    println!("{prefix} PSCI_VERSION {:#x}", call(u64::from(VERSION), [0; 3]));
    println!("{prefix} MIGRATE_INFO_TYPE {}", call(u64::from(MIGRATE_INFO_TYPE), [0; 3]) as i32);
    for function in
        [CPU_SUSPEND, CPU_OFF, CPU_ON, AFFINITY_INFO, SYSTEM_OFF, SYSTEM_RESET, FEATURES]
    {
        println!(
            "{prefix} PSCI_FEATURES {function:#x}: {}",
            call(u64::from(FEATURES), [u64::from(function), 0, 0]) as i32
        );
    }
    for function in [0x8400_001f, 0xc400_001f, 0x8600_0000, 0xbf00_ff01, 0x0, 0xffff_ffff_u32] {
        println!("{prefix} unknown {function:#x}: {}", call(u64::from(function), [0; 3]) as i32);
    }
    println!(
        "{prefix} CPU_ON absent: {}",
        call(u64::from(CPU_ON), [ABSENT, 0x4008_0000, 0]) as i32
    );
    println!("{prefix} CPU_ON self: {}", call(u64::from(CPU_ON), [SELF, 0x4008_0000, 0]) as i32);
    println!(
        "{prefix} AFFINITY_INFO self: {} absent: {}",
        call(u64::from(AFFINITY_INFO), [SELF, 0, 0]) as i32,
        call(u64::from(AFFINITY_INFO), [ABSENT, 0, 0]) as i32
    );
    println!("~ SMCCC {prefix} SMCCC_VERSION {:#x}", call(u64::from(SMCCC_VERSION), [0; 3]) as i32);
    println!(
        "~ SMCCC {prefix} PSCI_FEATURES SMCCC_VERSION: {}",
        call(u64::from(FEATURES), [u64::from(SMCCC_VERSION), 0, 0]) as i32
    );
    println!(
        "~ SMCCC {prefix} ARCH_FEATURES of itself: {}, of ARCH_WORKAROUND_1: {}",
        call(u64::from(SMCCC_ARCH_FEATURES), [u64::from(SMCCC_ARCH_FEATURES), 0, 0]) as i32,
        call(u64::from(SMCCC_ARCH_FEATURES), [0x8000_8000, 0, 0]) as i32
    );
}

/// CPU_SUSPEND to a standby state, with a wake-up event already there.
fn suspend() {
    gic::init();
    gic::enable(timer::VIRTUAL, 0xa0);
    msr!("CNTV_CVAL_EL0", 0);
    msr!("CNTV_CTL_EL0", timer::ENABLE);
    println!("hvc CPU_SUSPEND standby: {}", hvc(u64::from(CPU_SUSPEND), [0; 3]) as i32);
    msr!("CNTV_CTL_EL0", 0);
    mmio::write32(gic::GICD_ICENABLER, 1 << timer::VIRTUAL);
}
