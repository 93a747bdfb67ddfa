#!/bin/sh
# Interrupts that are masked by `DAIF` of the crate aarch64-cpu make no critical section: the compiler moves accesses to memory across both writes. A loop that looks
# at a handler's counter between them reads it once, before the loop and before the first write, and never sees that the handler has run.
#
# Why it matters: DAIF needs no barrier of the CPU, so nobody writes one there. A lock that masks interrupts works until the optimizer sees both of its sides.
# A `compiler_fence` behind the one and before the other helps. What the crate cortex-m has for the same purpose contains such fences.
#
# Source: the Arm architecture (DDI 0487): writes to PSTATE's DAIF take effect in program order; the Rust reference, inline assembly, on `nomem`, which the crate says
# of all of its registers: the compiler may keep memory in registers across the instruction.
#
# Needs cargo, rustup and qemu-system-aarch64 on the PATH (seen with 10.0.2).
set -eu

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cd "$WORK"
mkdir src
cat > Cargo.toml <<'TOML'
[package]
name = "daif"
version = "0.0.0"
edition = "2021"

[dependencies]
aarch64-cpu = "=11.2.0"

[profile.release]
panic = "abort"
TOML
cat > src/main.rs <<'RUST'
#![no_std]
#![no_main]
use aarch64_cpu::registers::{Writeable, DAIF};
use core::cell::UnsafeCell;
use core::sync::atomic::{compiler_fence, Ordering::SeqCst};

// At EL1: QEMU's virt. The stack is below the image. The handler counts an interrupt, and ends it in the GIC.
core::arch::global_asm!(
    ".section .text.first",
    ".global _start",
    "_start: adr x0, _start",
    "mov sp, x0",
    "adr x0, vectors",
    "msr vbar_el1, x0",
    "isb",
    "bl run",
    "b .",
    ".balign 2048",
    "vectors: .skip 0x280",
    "stp x0, x1, [sp, #-16]!",
    "adrp x0, TAKEN",
    "ldr w1, [x0, :lo12:TAKEN]",
    "add w1, w1, #1",
    "str w1, [x0, :lo12:TAKEN]",
    "ldr x0, =0x08010000",
    "ldr w1, [x0, #0x0c]", // GICC_IAR
    "str w1, [x0, #0x10]", // GICC_EOIR
    "ldp x0, x1, [sp], #16",
    "eret",
);

/// Accessed with interrupts masked alone: by the handler, and by who has masked them.
#[repr(transparent)]
pub struct Masked(UnsafeCell<u32>);
unsafe impl Sync for Masked {}

#[no_mangle]
pub static TAKEN: Masked = Masked(UnsafeCell::new(0));

fn write(address: usize, value: u32) {
    unsafe { core::ptr::write_volatile(address as *mut u32, value) };
}

fn print(text: &[u8]) {
    text.iter().for_each(|&byte| write(0x0900_0000, byte.into())); // UARTDR
}

/// Looks a thousand times at most, with interrupts let in between, and returns whether there was one.
#[inline(always)]
fn sees(fence: impl Fn()) -> bool {
    for _ in 0..1000 {
        DAIF.write(DAIF::I::Masked);
        fence();
        let taken = unsafe { *TAKEN.0.get() };
        fence();
        DAIF.write(DAIF::I::Unmasked);
        if taken != 0 {
            return true;
        }
    }
    false
}

/// Makes an interrupt pending that comes as soon as it is let in, and says who has seen it.
#[inline(always)]
fn try_with(fence: impl Fn()) {
    DAIF.write(DAIF::I::Masked);
    unsafe { TAKEN.0.get().write_volatile(0) };
    write(0x0800_0f00, 2 << 24); // GICD_SGIR: SGI 0 to this CPU
    let seen = sees(fence);
    let taken = unsafe { TAKEN.0.get().read_volatile() };
    print(&[b'0' + taken as u8, b' ', if seen { b'y' } else { b'n' }, b' ']);
}

#[no_mangle]
extern "C" fn run() -> ! {
    write(0x0800_0000, 1); // GICD_CTLR
    write(0x0801_0004, 0xff); // GICC_PMR
    write(0x0801_0000, 1); // GICC_CTLR
    try_with(|| ());
    try_with(|| compiler_fence(SeqCst));
    unsafe { core::arch::asm!("hvc #0", in("x0") 0x8400_0008_u64, options(noreturn)) }; // PSCI SYSTEM_OFF
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
RUST
TARGET=aarch64-unknown-none-softfloat
rustup --quiet target add $TARGET
RUSTFLAGS="-Clink-arg=--image-base=0x40080000" cargo build --quiet --release --target $TARGET 2> cargo.log || { cat cargo.log; exit 1; }
FOUND=$(timeout 60 qemu-system-aarch64 -M virt,gic-version=2 -cpu cortex-a72 -nic none \
    -display none -monitor none -serial stdio -kernel target/$TARGET/release/daif | tr -d '\r\n')

echo "version:     aarch64-cpu 11.2.0, $(rustc --version), $(qemu-system-aarch64 --version | head -n 1)"
echo "expectation: 1 y 1 y: the handler counts an interrupt, and who masks interrupts, looks, and unmasks them again sees it the next time"
echo "behaviour:   without a fence the counter is read once, before the loop"
echo "seen:        $FOUND(interrupts taken, whether the loop has seen one; the same with compiler fences)"
[ "$FOUND" = "1 n 1 y " ] || { echo "changed: it was \"1 n 1 y \""; exit 1; }
