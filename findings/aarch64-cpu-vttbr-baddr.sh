#!/bin/sh
# `VTTBR_EL2.set_baddr` of the crate aarch64-cpu writes the whole register: the VMID beside the address becomes 0.
#
# Why it matters: a hypervisor that changes to a guest's other stage 2 table by it runs that guest under VMID 0, on what the TLB holds of whoever
# else runs under 0. Nothing fails at once. The crate's documentation does not say it, and its own word for "the other fields stay" is `modify`.
#
# Source: the Arm architecture (DDI 0487), VTTBR_EL2: VMID in bits 63 to 48, BADDR in bits 47 to 1.
#
# Needs cargo, rustup and qemu-system-aarch64 on the PATH (seen with 10.0.2).
set -eu

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cd "$WORK"
mkdir src
cat > Cargo.toml <<'TOML'
[package]
name = "vttbr"
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
use aarch64_cpu::registers::{Readable, Writeable, VTTBR_EL2};

// At EL2: QEMU's virt with virtualization=on. The stack is below the image.
core::arch::global_asm!(".section .text.first", ".global _start", "_start: adr x0, _start", "mov sp, x0", "bl run", "b .");

fn print(text: &[u8]) {
    for &byte in text {
        unsafe { core::ptr::write_volatile(0x0900_0000 as *mut u32, byte.into()) }; // UARTDR
    }
}

fn print_vmid() {
    let vmid = VTTBR_EL2.read(VTTBR_EL2::VMID) as u8;
    print(&[b'0' + vmid % 10, b' ']);
}

#[no_mangle]
extern "C" fn run() -> ! {
    VTTBR_EL2.write(VTTBR_EL2::VMID.val(7) + VTTBR_EL2::BADDR.val(0x4000_0000 >> 1));
    print_vmid();
    VTTBR_EL2.set_baddr(0x4100_0000);
    print_vmid();
    print(if VTTBR_EL2.get_baddr() == 0x4100_0000 { b"address kept" } else { b"address lost" });
    unsafe { core::arch::asm!("smc #0", in("x0") 0x8400_0008_u64, options(noreturn)) }; // PSCI SYSTEM_OFF
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
RUST
TARGET=aarch64-unknown-none-softfloat
rustup --quiet target add $TARGET
RUSTFLAGS="-Clink-arg=--image-base=0x40080000" cargo build --quiet --release --target $TARGET 2> cargo.log || { cat cargo.log; exit 1; }
FOUND=$(timeout 60 qemu-system-aarch64 -M virt,virtualization=on,gic-version=2 -cpu cortex-a72 -nic none \
    -display none -monitor none -serial stdio -kernel target/$TARGET/release/vttbr | tr -d '\r\n')

echo "version:     aarch64-cpu 11.2.0, $(qemu-system-aarch64 --version | head -n 1)"
echo "expectation: 7 7 address kept: what sets the address leaves the VMID as it is"
echo "behaviour:   the VMID is 0 after it"
echo "seen:        $FOUND (VMID before; VMID after; address)"
[ "$FOUND" = "7 0 address kept" ] || { echo "changed: it was \"7 0 address kept\""; exit 1; }
