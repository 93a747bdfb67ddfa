//! What Debian's own programs see of a guest's disk is what they see on plain QEMU: fio, and a copy of a whole disk.
//! Run by name: `cargo xtask test fidelity_tools_long`.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use stasis_qemu_tests::lab::{Built, Lab};
use xtask::images::tools;
use xtask::workspace::{read, write};

use crate::twins::Twins;

/// Mounts the disk with the programs, and what they ask the kernel for.
const TOOLS: &str = "mkdir -p /tools; mount -t ext4 -o ro /dev/vdb /tools; \
                     for folder in dev proc sys tmp; do mount -o bind /$folder /tools/$folder; done; ls /tools/bin";
/// Shows that the kernel has seen no error of a disk.
const NO_ERROR: &str = "dmesg | grep -c -i 'i/o error'";

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

/// Each job reads what it has written, and compares its sums. What the last one leaves depends on nothing else.
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
    let tools = tools::ensure(&Built::get()?.workspace)?;
    are_the_same(Twins::new(lab, 512)?.disk("root", &image).disk("tools", &tools).compare(FIO)?)
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
