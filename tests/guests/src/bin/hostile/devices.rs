//! Devices, and what lies between them: every width, every alignment, every kind of instruction.

use core::arch::asm;
use stasis_guests::exception::{catch, catch_call};
use stasis_guests::mmio::{read8, read16, read32, write8, write16, write32};
use stasis_guests::random::Random;
use stasis_guests::{gic, println, rtc, uart};

/// What may be written over and over. The UART's data register is not among them: the transcript
/// is.
const PLACES: [(&str, usize, usize); 8] = [
    ("GICD", gic::GICD, 0x1000),
    ("GICD, beyond", gic::GICD + 0x1000, 0xf000),
    ("GICC", gic::GICC, 0x2000),
    ("UART", uart::UART + 0x44, 0xfbc),
    ("RTC", rtc::RTC, 0x1000),
    ("virtio", 0x0a00_0000, 0x4000),
    ("nothing", 0x0b00_0000, 0x1_0000),
    ("the end of the devices", 0x3fff_0000, 0x1_0000),
];

/// Makes the attack.
pub fn attack() {
    for (name, start, size) in PLACES {
        println!("flood {name}");
        flood(start, size);
        unusual(start);
        restore();
    }
    jumps();
}

/// Puts the devices back into a state in which the guest can go on.
fn restore() {
    write32(gic::GICD_CTLR, 0);
    for word in 0..9 {
        for bank in [gic::GICD_ICENABLER, gic::GICD_ICPENDR, gic::GICD_ICACTIVER] {
            write32(bank + word * 4, !0);
        }
    }
    for word in 0..4 {
        write32(gic::GICD_CPENDSGIR + word * 4, !0);
    }
    // With EOImode 0, each EOI drops one of the priorities that may be active.
    write32(gic::GICC_CTLR, 1);
    for _ in 0..64 {
        write32(gic::GICC_EOIR, 0);
    }
    gic::init();
    uart::init();
}

fn flood(start: usize, size: usize) {
    let mut random = Random(start as u64 | 1);
    let step = (size / 1024).next_multiple_of(4);
    for address in (start..start + size).step_by(step) {
        let _ = catch(|| {
            let value = random.next() as u32;
            write32(address, value);
            let _ = read32(address);
            write16(address + 2, value as u16);
            let _ = read16(address);
            write8(address + 3, value as u8);
            let _ = read8(address + 1);
            write32(address, !0);
            write32(address, 0);
            // Across its neighbour.
            let _ = read32(address + 1);
            write16(address + 1, value as u16);
        });
    }
}

/// Instructions whose abort has no valid syndrome, and some that are more than an access.
pub fn unusual(address: usize) {
    macro_rules! all {
        ($($instruction:literal)*) => { $(
            let _ = catch(|| {
                // SAFETY: What is accessed is a device or nothing; X9 to X12 and V0 to V3 are
                // declared.
                unsafe {
                    asm!($instruction, in("x8") address, out("x9") _, out("x10") _, out("x11") _,
                        inlateout("x12") address => _, out("v0") _, out("v1") _, out("v2") _, out("v3") _);
                }
            });
        )* };
    }
    all!(
        "ldr x9, [x8]" "str x8, [x8]" "ldp x9, x10, [x8]" "stp x8, x8, [x8]" "ldp w9, w10, [x8]" "stp w8, w8, [x8]"
        "ldr w9, [x12], #4" "ldr w9, [x12, #4]!" "str w8, [x12], #4" "str w8, [x12, #4]!" "ldp x9, x10, [x12], #16"
        "ldpsw x9, x10, [x8]" "ldrsb x9, [x8]" "ldrsh w9, [x8]" "ldrsw x9, [x8]" "ldur w9, [x8, #1]" "ldur x9, [x8, #3]"
        "ldr q0, [x8]" "str q0, [x8]" "ldr d0, [x8]" "ldr s0, [x8]" "ldr h0, [x8]" "ldr b0, [x8]" "ldp q0, q1, [x8]"
        "stp q0, q1, [x8]" "ld1 {{v0.16b-v3.16b}}, [x8]" "st1 {{v0.16b-v3.16b}}, [x8]" "ld4 {{v0.4s-v3.4s}}, [x8]"
        "ld1r {{v0.4s}}, [x8]" "ldxr w9, [x8]" "ldaxr x9, [x8]" "ldxp x9, x10, [x8]" "stxr w9, w10, [x8]" "stlxr w9, w10, [x8]"
        "ldar w9, [x8]" "stlr w8, [x8]" "ldarb w9, [x8]" "ldtr w9, [x8]" "sttr w8, [x8]" "prfm pldl1keep, [x8]"
        "dc zva, x8" "dc cvac, x8" "dc civac, x8" "ic ivau, x8" "ldr wzr, [x8]" "ldr xzr, [x8]" "at s1e1w, x8"
    );
}

fn jumps() {
    println!("jump into devices");
    // On plain QEMU the registers are fetched: those of the GIC and the UART hold no instruction.
    for address in [
        gic::GICD,
        gic::GICD + 0x800,
        gic::GICC,
        uart::UART,
        uart::UART + 0x100,
        0x0b00_0000,
        0x0b00_0ffc,
        0x0f00_0000,
        0x3fff_fffc,
        0x0901_1000,
        0x0b00_0001,
    ] {
        let _ = catch_call(address);
    }
}
