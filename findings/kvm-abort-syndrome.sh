#!/bin/sh
# An external abort that KVM of Linux 6.1 makes for its guest has ones in bits 63 to 32 of ESR_EL1, of which bits 63 to 56 are reserved: a word of 32 bits whose sign
# was extended.
#
# Why it matters: a guest that takes the class of the exception by a shift of the whole register, or compares all of it, does not know the exception. Hardware and QEMU have zeros there.
#
# Source: the Arm architecture (DDI 0487), ESR_EL1: bits 63 to 56 are RES0.
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
name = "abort-syndrome"
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

// Jumps to where no memory is, and stores ESR_EL1 to where no memory is, either, so that this program sees it.
std::arch::global_asm!(
    ".balign 4096",
    ".global guest, guest_end",
    "guest:",
    "adr x1, 1f",
    "msr vbar_el1, x1",
    "isb",
    "mov x2, #0x20000000",
    "br x2",
    ".balign 2048",
    "1: .skip 0x200", // the vectors; at 0x200 that of EL1's own exceptions
    "mrs x5, esr_el1",
    "mov x3, #0x10000000",
    "str x5, [x3]",
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

/// Returns ESR_EL1 of the guest's abort.
fn syndrome() -> u64 {
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
    // PSTATE: EL1h, and all masked.
    vcpu.set_one_reg(core(264), &0x3c5_u64.to_le_bytes()).unwrap();
    vcpu.set_one_reg(core(256), &RAM.to_le_bytes()).unwrap();
    let type_ = kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V2;
    let gic = vm.create_device(&mut kvm_create_device { type_, fd: 0, flags: 0 }).unwrap();
    set(&gic, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, 64);
    set(&gic, KVM_DEV_ARM_VGIC_GRP_ADDR, 0, 0x0800_0000);
    set(&gic, KVM_DEV_ARM_VGIC_GRP_ADDR, 1, 0x0801_0000);
    set(&gic, KVM_DEV_ARM_VGIC_GRP_CTRL, 0, 0);
    match vcpu.run().unwrap() {
        VcpuExit::MmioWrite(_, bytes) => u64::from_le_bytes(bytes.try_into().unwrap()),
        other => panic!("{other:?}"),
    }
}

fn main() {
    unsafe {
        libc::mount(c"dev".as_ptr(), c"/dev".as_ptr(), c"devtmpfs".as_ptr(), 0, std::ptr::null());
    }
    println!("ESR_EL1 {:#018x}", syndrome());
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
python3 cpio.py target/$TARGET/release/abort-syndrome > initramfs
timeout 300 qemu-system-aarch64 -M virt,virtualization=on,gic-version=2 -cpu cortex-a72 -m 512M -nic none -nographic \
    -kernel apt/unpacked/boot/vmlinuz-* -initrd initramfs -append "console=ttyAMA0 quiet" < /dev/null > out.log || { cat out.log; exit 1; }
FOUND=$(tr -d '\r' < out.log | grep '^ESR')

echo "version:     $KERNEL, $(qemu-system-aarch64 --version | head -1)"
echo "expectation: ESR_EL1 0x0000000086000010: an instruction abort, external"
echo "behaviour:   KVM sets bits 63 to 32"
echo "seen:        $FOUND"
EXPECTED="ESR_EL1 0xffffffff86000010"
[ "$FOUND" = "$EXPECTED" ] || { echo "changed: it was \"$EXPECTED\""; exit 1; }
