//! Calls to the firmware: PSCI (DEN 0022) and SMCCC (DEN 0028).

use core::arch::asm;

/// PSCI_VERSION.
pub const VERSION: u32 = 0x8400_0000;
/// CPU_SUSPEND, 64-bit.
pub const CPU_SUSPEND: u32 = 0xc400_0001;
/// CPU_OFF.
pub const CPU_OFF: u32 = 0x8400_0002;
/// CPU_ON, 64-bit.
pub const CPU_ON: u32 = 0xc400_0003;
/// AFFINITY_INFO, 64-bit.
pub const AFFINITY_INFO: u32 = 0xc400_0004;
/// MIGRATE_INFO_TYPE.
pub const MIGRATE_INFO_TYPE: u32 = 0x8400_0006;
/// SYSTEM_OFF.
pub const SYSTEM_OFF: u32 = 0x8400_0008;
/// SYSTEM_RESET.
pub const SYSTEM_RESET: u32 = 0x8400_0009;
/// PSCI_FEATURES.
pub const FEATURES: u32 = 0x8400_000a;
/// SMCCC_VERSION.
pub const SMCCC_VERSION: u32 = 0x8000_0000;
/// SMCCC_ARCH_FEATURES.
pub const SMCCC_ARCH_FEATURES: u32 = 0x8000_0001;

macro_rules! conduit {
    ($(#[$doc:meta])* $name:ident, $instruction:literal) => {
        $(#[$doc])*
        #[inline(never)]
        pub fn $name(function: u64, args: [u64; 3]) -> u64 {
            let result: u64;
            // SAFETY: The firmware keeps X4 and up (SMCCC 1.1), and is given no memory of ours to
            // write to.
            unsafe {
                asm!($instruction, inlateout("x0") function => result, inlateout("x1") args[0] => _,
                    inlateout("x2") args[1] => _, inlateout("x3") args[2] => _,
                    clobber_abi("C"), options(nostack));
            }
            result
        }
    };
}
conduit!(
    /// A call by HVC: its X0.
    hvc, "hvc #0");
conduit!(
    /// A call by SMC: its X0.
    smc, "smc #0");

/// Switches the machine off.
pub fn system_off() -> ! {
    hvc(u64::from(SYSTEM_OFF), [0; 3]);
    loop {
        crate::sysreg::wfi();
    }
}
