//! Firmware calls with garbage in them.

use core::arch::asm;
use stasis_guests::exception::catch;
use stasis_guests::println;
use stasis_guests::psci::*;
use stasis_guests::random::Random;

/// The functions that would end the guest, as they may.
const FINAL: [u32; 9] = [
    CPU_OFF,
    SYSTEM_OFF,
    SYSTEM_RESET,
    // CPU_SUSPEND, 32-bit and 64-bit: nothing would wake it.
    0x8400_0001,
    CPU_SUSPEND,
    // SYSTEM_SUSPEND, and SYSTEM_RESET2.
    0x8400_000e,
    0xc400_000e,
    0x8400_0012,
    0xc400_0012,
];

/// Makes the attack.
pub fn attack() {
    println!("calls by hvc");
    by(hvc);
    println!("calls by smc");
    by(smc);
    println!("immediates");
    let _ = catch(|| {
        // SAFETY: X0 is no function that exists; SMCCC 1.1 keeps X4 and up, and none of Rust's
        // values are in the rest.
        unsafe {
            asm!("hvc #1", "hvc #0xffff", "smc #1", "smc #0xffff", inout("x0") 0x1234_5678_u64 => _,
                clobber_abi("C"));
        }
    });
}

fn by(call: fn(u64, [u64; 3]) -> u64) {
    let mut random = Random(0x5eed);
    let allowed = |function: u32, args: [u64; 3]| {
        if !FINAL.contains(&function) {
            let _ = catch(|| {
                let _ = call(u64::from(function), args);
            });
        }
    };
    for base in [
        0x8400_0000_u32,
        0xc400_0000,
        0x8000_0000,
        0xc000_0000,
        0x8600_0000,
        0xc600_0000,
        0x0400_0000,
    ] {
        for id in 0..64 {
            allowed(base + id, [random.next(), random.next(), random.next()]);
            allowed(base + id, [!0, !0, !0]);
            // An absent CPU, or this one; an entry outside of RAM, or odd.
            allowed(base + id, [id.into(), 0x4008_0001, 0]);
            allowed(base + id, [0x8000_0000, 0xffff_ffff_ffff_fff0, 0]);
        }
    }
    for _ in 0..2000 {
        allowed(random.next() as u32, [random.next(), random.next(), random.next()]);
    }
    // What is above the function's 32 bits.
    let _ = catch(|| {
        let _ = call(0xffff_ffff_0000_0000 | u64::from(VERSION), [0; 3]);
    });
}
