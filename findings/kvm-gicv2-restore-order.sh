#!/bin/sh
# An interrupt that is made pending in KVM's GICv2 while GICD_CTLR is 0 is never delivered, also after GICD_CTLR is 1: user space that restores a GIC and
# switches it on last, as one would with hardware, loses all that is pending. KVM shows it as pending and enabled all the same.
#
# Why it matters: who restores a guest and compares what reads back finds nothing wrong; the guest waits for an SGI, or the edge of a device, for ever.
#
# Source: the GIC architecture specification (IHI 0048B.b), 4.3.1: GICD_CTLR says whether pending interrupts are forwarded; it is no condition for their
# becoming pending. Linux's Documentation/virt/kvm/devices/arm-vgic.rst has no order for it.
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
name = "restore-order"
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
/// WFI; STR X0, [X1], where there is no memory; B .
const CODE: [u32; 3] = [0xd503_207f, 0xf900_0020, 0x1400_0000];

extern "C" fn nothing(_: libc::c_int) {}

fn set(gic: &DeviceFd, group: u32, attr: u64, value: u64) {
    let addr = &value as *const u64 as u64;
    gic.set_device_attr(&kvm_device_attr { group, attr, addr, flags: 0 }).unwrap();
}

/// Returns whether the SPI reads as pending, and whether it ends the vCPU's WFI.
fn restored(ctlr_first: bool) -> (bool, bool) {
    let vm = Kvm::new().unwrap().create_vm().unwrap();
    let page = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
    };
    unsafe { page.cast::<[u32; 3]>().write(CODE) };
    let region = kvm_userspace_memory_region {
        slot: 0, flags: 0, guest_phys_addr: RAM, memory_size: 4096, userspace_addr: page as u64,
    };
    unsafe { vm.set_user_memory_region(region).unwrap() };
    let mut vcpu = vm.create_vcpu(0).unwrap();
    let mut init = kvm_vcpu_init::default();
    vm.get_preferred_target(&mut init).unwrap();
    vcpu.vcpu_init(&init).unwrap();
    let core = |offset: u64| 0x6030_0000_0010_0000 | offset / 4;
    vcpu.set_one_reg(core(8), &0x1000_0000_u64.to_le_bytes()).unwrap();
    vcpu.set_one_reg(core(256), &RAM.to_le_bytes()).unwrap();
    let type_ = kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V2;
    let gic = vm.create_device(&mut kvm_create_device { type_, fd: 0, flags: 0 }).unwrap();
    set(&gic, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, 64);
    set(&gic, KVM_DEV_ARM_VGIC_GRP_ADDR, 0, 0x0800_0000);
    set(&gic, KVM_DEV_ARM_VGIC_GRP_ADDR, 1, 0x0801_0000);
    set(&gic, KVM_DEV_ARM_VGIC_GRP_CTRL, 0, 0);
    // GICC_PMR and GICC_CTLR, then GICD_ISENABLER1 and GICD_ISPENDR1.
    set(&gic, KVM_DEV_ARM_VGIC_GRP_CPU_REGS, 0x04, 0x1e);
    set(&gic, KVM_DEV_ARM_VGIC_GRP_CPU_REGS, 0x00, 1);
    let steps = [(0x104, 1), (0x204, 1)];
    let gicd = |(offset, value)| set(&gic, KVM_DEV_ARM_VGIC_GRP_DIST_REGS, offset, value);
    let ctlr = (0x000, 1);
    let order = if ctlr_first { [ctlr, steps[0], steps[1]] } else { [steps[0], steps[1], ctlr] };
    order.into_iter().for_each(gicd);
    let mut pending = 0_u64;
    let (group, addr) = (KVM_DEV_ARM_VGIC_GRP_DIST_REGS, &mut pending as *mut u64 as u64);
    let mut read = kvm_device_attr { group, attr: 0x204, addr, flags: 0 };
    unsafe { gic.get_device_attr(&mut read).unwrap() };
    unsafe { libc::alarm(5) };
    let ended = matches!(vcpu.run(), Ok(VcpuExit::MmioWrite(..)));
    unsafe { libc::alarm(0) };
    (pending & 1 == 1, ended)
}

fn main() {
    unsafe {
        libc::mount(c"dev".as_ptr(), c"/dev".as_ptr(), c"devtmpfs".as_ptr(), 0, std::ptr::null());
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as usize;
        libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut());
    }
    for (name, first) in [("first", true), ("last", false)] {
        let (pending, ended) = restored(first);
        println!("CTLR {name}: pending {pending}, WFI ends {ended};");
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
python3 cpio.py target/$TARGET/release/restore-order > initramfs
timeout 300 qemu-system-aarch64 -M virt,virtualization=on,gic-version=2 -cpu cortex-a72 -m 512M -nic none -nographic \
    -kernel apt/unpacked/boot/vmlinuz-* -initrd initramfs -append "console=ttyAMA0 quiet" < /dev/null > out.log || { cat out.log; exit 1; }
FOUND=$(tr -d '\r' < out.log | grep '^CTLR' | tr '\n' ' ')

echo "version:     $KERNEL, $(qemu-system-aarch64 --version | head -1)"
echo "expectation: an enabled, pending interrupt is delivered once GICD_CTLR is 1, whatever was written first"
echo "behaviour:   KVM queues it when it becomes pending, or never: with GICD_CTLR last it reads as pending, and does not end a WFI"
echo "seen:        $FOUND"
EXPECTED="CTLR first: pending true, WFI ends true; CTLR last: pending true, WFI ends false; "
[ "$FOUND" = "$EXPECTED" ] || { echo "changed: it was \"$EXPECTED\""; exit 1; }
