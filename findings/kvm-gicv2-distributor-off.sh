#!/bin/sh
# A guest of KVM's with a GICv2 loses what is pending when it switches its distributor off, and on again: KVM takes an enabled, pending interrupt out of the vCPU's
# list while GICD_CTLR is 0, and does not put it back when GICD_CTLR becomes 1. GICD_ISPENDR and GICD_ISENABLER show it as before.
#
# Why it matters: an operating system that masks all interrupts for a moment in the distributor waits for a device's edge, or another CPU's SGI, for ever. On hardware, and in QEMU, it does not.
#
# Source: the GIC architecture specification (IHI 0048B.b), 4.3.1: GICD_CTLR says whether pending interrupts are forwarded; while it is 0, they stay pending.
#
# Needs cargo, rustup, python3, apt-get and dpkg-deb of a Debian (the kernel of arm64 is fetched, and not installed), and qemu-system-aarch64 (seen with 10.0.2).
set -eu

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cd "$WORK"
mkdir -p src apt/none/partial apt/state/lists/partial apt/cache/archives/partial
CODENAME=$(. /etc/os-release; echo "$VERSION_CODENAME")
# The mirror is the one that this system uses: apt names it with what an update would fetch.
MIRROR=$(apt-get -o Dir::State::lists="$WORK/apt/none" --print-uris update | sed -n "s|^'\(.*\)dists/$CODENAME/InRelease'.*|\1|p" | head -1)
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $MIRROR $CODENAME main" > apt/sources.list
set -- -o Dir::Etc::sourcelist="$WORK/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::State="$WORK/apt/state" \
    -o Dir::State::status=/dev/null -o Dir::Cache="$WORK/apt/cache" -o APT::Architecture=arm64 -o APT::Architectures=arm64 \
    -o Acquire::Languages=none -o APT::Sandbox::User=
apt-get -qq "$@" update
KERNEL=$(apt-cache "$@" depends linux-image-cloud-arm64 | sed -n 's/ *Depends: \(linux-image-.*\)/\1/p' | head -1)
(cd apt && apt-get -qq "$@" download "$KERNEL" && dpkg-deb --extract ./*.deb unpacked)

cat > Cargo.toml <<'TOML'
[package]
name = "distributor-off"
version = "0.0.0"
edition = "2021"

[dependencies]
kvm-bindings = "=0.14.2"
kvm-ioctls = "=0.25.1"
libc = "0.2"
TOML
cat > src/main.rs <<'RUST'
use kvm_bindings::*;
use kvm_ioctls::{DeviceFd, Kvm, VcpuExit};

const RAM: u64 = 0x4000_0000;

// X0: 1 if the distributor must be switched off in the midst. What is stored to [X3], where there is no memory, is seen by this program.
std::arch::global_asm!(
    ".global guest, guest_end",
    "guest:",
    "movz x1, #0x0800, lsl #16", // GICD
    "movz x2, #0x0801, lsl #16", // GICC
    "movz x3, #0x1000, lsl #16",
    "mov w4, #0xf0",
    "str w4, [x2, #4]", // GICC_PMR
    "mov w4, #1",
    "str w4, [x2]",         // GICC_CTLR
    "str w4, [x1]",         // GICD_CTLR
    "str w4, [x1, #0x104]", // GICD_ISENABLER1: INTID 32
    "str w4, [x1, #0x204]", // GICD_ISPENDR1
    "ldr w5, [x2, #0x18]",  // GICC_HPPIR
    "str w5, [x3]",
    "cbz x0, 1f",
    "str wzr, [x1]",
    "str w4, [x1]",
    "1: ldr w5, [x1, #0x104]",
    "str w5, [x3]",
    "ldr w5, [x1, #0x204]",
    "str w5, [x3]",
    "ldr w5, [x2, #0x0c]", // GICC_IAR
    "str w5, [x3]",
    "b .",
    "guest_end:",
);

unsafe extern "C" {
    static guest: u8;
    static guest_end: u8;
}

fn set(gic: &DeviceFd, group: u32, attr: u64, value: u64) {
    let addr = &value as *const u64 as u64;
    gic.set_device_attr(&kvm_device_attr { group, attr, addr, flags: 0 }).unwrap();
}

/// Returns what the guest says: GICC_HPPIR, GICD_ISENABLER1, GICD_ISPENDR1, GICC_IAR.
fn said(off_in_the_midst: bool) -> Vec<u32> {
    let vm = Kvm::new().unwrap().create_vm().unwrap();
    let page = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
    };
    let (from, to) = (&raw const guest, &raw const guest_end);
    unsafe { std::ptr::copy_nonoverlapping(from, page.cast(), to.offset_from(from) as usize) };
    let region = kvm_userspace_memory_region {
        slot: 0, flags: 0, guest_phys_addr: RAM, memory_size: 4096, userspace_addr: page as u64,
    };
    unsafe { vm.set_user_memory_region(region).unwrap() };
    let mut vcpu = vm.create_vcpu(0).unwrap();
    let mut init = kvm_vcpu_init::default();
    vm.get_preferred_target(&mut init).unwrap();
    vcpu.vcpu_init(&init).unwrap();
    let core = |offset: u64| 0x6030_0000_0010_0000 | offset / 4;
    vcpu.set_one_reg(core(0), &u64::from(off_in_the_midst).to_le_bytes()).unwrap();
    vcpu.set_one_reg(core(256), &RAM.to_le_bytes()).unwrap();
    let type_ = kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V2;
    let gic = vm.create_device(&mut kvm_create_device { type_, fd: 0, flags: 0 }).unwrap();
    set(&gic, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, 64);
    set(&gic, KVM_DEV_ARM_VGIC_GRP_ADDR, 0, 0x0800_0000);
    set(&gic, KVM_DEV_ARM_VGIC_GRP_ADDR, 1, 0x0801_0000);
    set(&gic, KVM_DEV_ARM_VGIC_GRP_CTRL, 0, 0);
    let mut said = Vec::new();
    while said.len() < 4 {
        match vcpu.run().unwrap() {
            VcpuExit::MmioWrite(_, bytes) => said.push(u32::from_le_bytes(bytes.try_into().unwrap())),
            other => panic!("{other:?}"),
        }
    }
    said
}

fn main() {
    unsafe {
        libc::mount(c"dev".as_ptr(), c"/dev".as_ptr(), c"devtmpfs".as_ptr(), 0, std::ptr::null());
    }
    for (name, off) in [("stays on", false), ("goes off and on", true)] {
        let said = said(off);
        println!("CTLR {name}: HPPIR {}, then ISENABLER1 {:#x} ISPENDR1 {:#x} IAR {};", said[0], said[1], said[2], said[3]);
    }
    unsafe { libc::reboot(libc::RB_POWER_OFF) };
}
RUST
TARGET=aarch64-unknown-linux-musl
rustup --quiet target add $TARGET
RUSTFLAGS="-Clinker=rust-lld -Clink-self-contained=yes" cargo build --quiet --release --target $TARGET 2> cargo.log || { cat cargo.log; exit 1; }
cat > cpio.py <<'PYTHON'
"""Writes an initramfs with /init, /dev and /dev/console."""
import sys

def entry(name, mode, data=b"", device=(0, 0)):
    name = name.encode() + b"\0"
    fields = (1, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name), 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name
    pad = lambda bytes: bytes + b"\0" * (-len(bytes) % 4)
    return pad(head) + pad(data)

init = open(sys.argv[1], "rb").read()
parts = [entry("dev", 0o40755), entry("dev/console", 0o20600, device=(5, 1)), entry("init", 0o100755, init), entry("TRAILER!!!", 0)]
sys.stdout.buffer.write(b"".join(parts))
PYTHON
python3 cpio.py target/$TARGET/release/distributor-off > initramfs
timeout 300 qemu-system-aarch64 -M virt,virtualization=on,gic-version=2 -cpu cortex-a72 -m 512M -nic none -nographic \
    -kernel apt/unpacked/boot/vmlinuz-* -initrd initramfs -append "console=ttyAMA0 quiet" < /dev/null > out.log || { cat out.log; exit 1; }
FOUND=$(tr -d '\r' < out.log | grep '^CTLR' | tr '\n' ' ')

echo "version:     $KERNEL, $(qemu-system-aarch64 --version | head -1)"
echo "expectation: IAR 32 in both cases: an enabled, pending interrupt is taken once GICD_CTLR is 1 again"
echo "behaviour:   KVM forgets to deliver it, and shows it as enabled and pending"
echo "seen:        $FOUND"
EXPECTED="CTLR stays on: HPPIR 32, then ISENABLER1 0x1 ISPENDR1 0x1 IAR 32; CTLR goes off and on: HPPIR 32, then ISENABLER1 0x1 ISPENDR1 0x1 IAR 1023; "
[ "$FOUND" = "$EXPECTED" ] || { echo "changed: it was \"$EXPECTED\""; exit 1; }
