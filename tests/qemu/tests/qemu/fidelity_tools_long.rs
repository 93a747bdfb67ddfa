//! What Debian's own programs see of a guest's disk and card is what they see on plain QEMU: fio,
//! btrfs, a copy of a whole disk, kexec. Run by name: `cargo xtask test fidelity_tools_long`.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use stasis_qemu_tests::lab::{Built, Lab};
use xtask::images::{ext4, tools};
use xtask::initramfs;
use xtask::setup;
use xtask::workspace::{read, write};

use crate::twins::{BOOTS, Twins};

/// Mounts the disk with the programs, and what they ask the kernel for.
const TOOLS: &str = "mkdir -p /tools; mount -t ext4 -o ro $(ls /dev/vd? | tail -n 1) /tools; \
                     for folder in dev proc sys tmp; do mount -o bind /$folder /tools/$folder; done; ls /tools/bin";
/// Shows that the kernel has seen no error of a disk.
const NO_ERROR: &str = "dmesg | grep -c -i 'i/o error'";

/// Returns twins with a disk of this content, called `root`, and one with Debian's programs, which
/// is the last.
fn twins<'l>(
    lab: &'l Lab,
    image: &Path,
    between: Option<(&'static str, &Path)>,
) -> Result<Twins<'l>> {
    let twins = Twins::new(lab, 512)?.disk("root", image);
    let twins = match between {
        Some((name, image)) => twins.disk(name, image),
        None => twins,
    };
    Ok(twins.disk("tools", &tools::ensure(&Built::get()?.workspace)?))
}

/// Makes an image of which each 8 bytes are others.
fn make_image(path: &Path, mib: u64) -> Result<()> {
    let words = (0..mib << 17).flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    write(path, &words.collect::<Vec<u8>>())
}

/// Makes an image of zeros.
fn make_hole(path: &Path, mib: u64) -> Result<()> {
    Ok(File::create(path)?.set_len(mib << 20)?)
}

/// Makes sure that both have left the same first disk.
fn are_the_same([theirs, ours]: [PathBuf; 2]) -> Result<()> {
    let (theirs, ours) = (read(&theirs)?, read(&ours)?);
    let at = theirs.iter().zip(&ours).position(|(theirs, ours)| theirs != ours);
    ensure!(at.is_none() && theirs.len() == ours.len(), "the disks differ from byte {at:?} on");
    Ok(())
}

/// Each job reads what it has written, and compares its sums. What the last one leaves depends on
/// nothing else.
const FIO: &[&str] = &[
    TOOLS,
    "fio() { chroot /tools /bin/fio --filename=/dev/vda --direct=1 --thread --verify_fatal=1 --verify_state_save=0 --eta=never \"$@\" > /tmp/out; \
     echo status $?; grep -o 'err= *[0-9]*' /tmp/out; grep 'issued rwts' /tmp/out; grep verify: /tmp/out; }",
    "fio --name=mixed --rw=randrw --bs=4k --size=4m --ioengine=libaio --iodepth=32 --verify=crc32c",
    "fio --name=sizes --rw=randwrite --bsrange=512-128k --size=6m --ioengine=libaio --iodepth=8 --verify=sha256",
    "fio --name=flushed --rw=randwrite --bs=8k --size=1m --ioengine=psync --fdatasync=4 --verify=md5",
    "fio --name=jobs --rw=randwrite --bs=16k --size=2m --offset_increment=4m --numjobs=4 --ioengine=libaio --iodepth=8 --verify=crc32c --group_reporting",
    "fio --name=last --rw=write --bs=96k --size=16m --ioengine=libaio --iodepth=4 --verify=pattern --verify_pattern=%o",
    "echo 3 > /proc/sys/vm/drop_caches; sha256sum /dev/vda",
    NO_ERROR,
];

pub fn fio_with_checksums_is_as_on_plain_qemu(lab: &Lab) -> Result<()> {
    let image = lab.path("made.img");
    make_image(&image, 16)?;
    are_the_same(twins(lab, &image, None)?.compare(FIO)?)
}

/// What a Linux does with a btrfs, which has a sum of each block.
const BTRFS: &[&str] = &[
    TOOLS,
    "btrfs() { chroot /tools /bin/btrfs \"$@\"; }; chroot /tools /bin/mkfs.btrfs -q -L ours -d single -m dup /dev/vda; echo $?",
    "mkdir /mnt; mount -t btrfs /dev/vda /mnt; cd /mnt; ls",
    "for n in $(seq 100); do seq $n $((n * 50)) > f$n; done; rm f?; mkdir -p a/b/c; cp f1* a/b/c; mv f2* a; sync",
    "dd if=/dev/zero of=hole bs=4k seek=1000 count=1 2> /dev/null; truncate -s 9M hole; fallocate -l 3M pre; echo $?",
    "ln f30 hard; ln -s f30 soft; chmod 4711 f31; ls -l f31 hard soft | cut -c 1-10",
    "mount -o bind /mnt /tools/tmp; btrfs subvolume snapshot /tmp /tmp/then > /dev/null; echo $?; seq 70000 > f50; rm f60",
    "echo 3 > /proc/sys/vm/drop_caches; find . -type f | sort | xargs md5sum | md5sum; find . | wc -l",
    "cat /dev/zero > full; sync; [ $(wc -c < full) -gt 1000000 ] && echo much; rm full; sync",
    "btrfs scrub start -B -d /tmp 2> /dev/null | grep -i 'error summary'; fstrim /mnt; echo $?",
    "cd /; umount /tools/tmp; umount /mnt; btrfs check /dev/vda 2>&1 | grep -i error | sed 's/[0-9]* bytes/some bytes/'",
    "echo 3 > /proc/sys/vm/drop_caches; mount -t btrfs /dev/vda /mnt; cd /mnt; find . -type f | sort | xargs md5sum | md5sum; find . | wc -l",
    "cmp f50 then/f50 > /dev/null; echo $?; seq 50 2500 | cmp - then/f50 && echo same; cd /; umount /mnt",
    "dmesg | grep -i btrfs | grep -c -i -E 'error|warn|corrupt|csum'",
    NO_ERROR,
];

pub fn a_btrfs_is_as_on_plain_qemu(lab: &Lab) -> Result<()> {
    let image = lab.path("made.img");
    make_hole(&image, 128)?;
    let initramfs = initramfs::make_with_virtio_and_btrfs(&Built::get()?.workspace)?;
    twins(lab, &image, None)?.initramfs(&initramfs)?.compare(BTRFS).map(drop)
}

/// The whole of a disk, in blocks of several sizes, to another one and back.
const WHOLE: &[&str] = &[
    "dd if=/dev/vda bs=1M 2> /dev/null | sha256sum",
    "dd if=/dev/vda bs=4k iflag=direct 2> /dev/null | sha256sum",
    "dd if=/dev/vda of=/dev/vdb bs=1M oflag=direct 2> /dev/null; echo $?",
    "echo 3 > /proc/sys/vm/drop_caches; cmp /dev/vda /dev/vdb && echo same; sha256sum /dev/vdb",
    "dd if=/dev/zero of=/dev/vda bs=64k 2> /dev/null; sync; echo 3 > /proc/sys/vm/drop_caches; sha256sum /dev/vda",
    "dd if=/dev/vdb of=/dev/vda bs=20k conv=fsync 2> /dev/null; echo 3 > /proc/sys/vm/drop_caches; sha256sum /dev/vda",
    NO_ERROR,
];

pub fn a_whole_disk_is_copied_as_on_plain_qemu(lab: &Lab) -> Result<()> {
    let (image, empty) = (lab.path("made.img"), lab.path("empty.img"));
    make_image(&image, 64)?;
    make_hole(&empty, 64)?;
    let left = Twins::new(lab, 256)?.disk("root", &image).disk("copy", &empty).compare(WHOLE)?;
    let [_, ours] = &left;
    ensure!(read(ours)? == read(&image)?, "the disk is not what it was");
    are_the_same(left)
}

/// The network, the disk and the source of random bytes, before and after another kernel was booted
/// by the first one.
const DEVICES: [&str; 3] = [
    "sha256sum /dev/vda; cat /sys/block/vda/serial; dd if=/dev/vda of=/dev/null bs=4k count=999 iflag=direct 2> /dev/null; echo $?",
    "ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up; ping -c 9 -w 60 10.0.2.2 > /tmp/ping; grep -q 'bytes from' /tmp/ping && echo answers",
    "head -c 1000 /dev/hwrng | wc -c; nproc; wc -w < /proc/cmdline",
];

pub fn another_kernel_finds_live_devices_as_on_plain_qemu(lab: &Lab) -> Result<()> {
    let (image, folder, boot) = (lab.path("made.img"), lab.path("boot"), lab.path("made-boot.img"));
    make_image(&image, 16)?;
    let workspace = &Built::get()?.workspace;
    std::fs::create_dir_all(&folder).context("no folder for the kernel")?;
    write(&folder.join("initramfs"), &initramfs::make_with_virtio(workspace)?)?;
    write(&folder.join("vmlinuz"), &read(&setup::guests::ensure(workspace)?.kernel)?)?;
    ext4::make(&boot, 96 << 20, Some(&folder))?;
    let load = "mkdir /boot; mount -t ext4 -o ro /dev/vdb /boot; cp /boot/vmlinuz /boot/initramfs /tmp; \
                chroot /tools /bin/kexec -l /tmp/vmlinuz --initrd=/tmp/initramfs --command-line='console=ttyAMA0 second'; echo $?";
    // Without -x, kexec would take the network down first.
    let go = format!("cat /sys/kernel/kexec_loaded; chroot /tools /bin/kexec -e -x {BOOTS}");
    let second = "ls /tools /tmp; cat /proc/cmdline; cat /sys/class/net/eth0/operstate";
    let write = "head -c 3000000 /tmp/vmlinuz > /tmp/a; dd if=/tmp/a of=/dev/vda bs=4k seek=5 conv=fsync 2> /dev/null; echo $?";
    let [disk, network, rest] = DEVICES;
    let commands =
        [TOOLS, disk, network, rest, load, write, &go, second, disk, network, rest, NO_ERROR];
    are_the_same(twins(lab, &image, Some(("boot", &boot)))?.outside().compare(&commands)?)
}
