//! What a Linux sees of its devices is what it sees on plain QEMU: an ext4 that the host has made,
//! and resets amid requests. Run by name: `cargo xtask test fidelity_long`.

use anyhow::{Result, ensure};
use stasis_qemu_tests::lab::Lab;
use xtask::images::ext4;

use crate::twins::Twins;

/// Bytes of the disk. Linux has a copy of it in its memory.
const DISK: u64 = 32 << 20;
/// Finds all files of the mounted file system, and lets go of it.
const HASHES: &str =
    "find . -type f | sort | xargs md5sum | md5sum; find . | wc -l; cd /; umount /mnt";

/// What a Linux does with the file system.
const WORKLOAD: &[&str] = &[
    "md5sum /dev/vda; mkdir /mnt; mount -t ext4 /dev/vda /mnt; cd /mnt; ls; cat greeting",
    "for n in $(seq 100); do seq $n $((n * 50)) > f$n; done; rm f?; mkdir -p a/b/c; cp f1* a/b/c; mv f2* a; sync",
    "dd if=/dev/zero of=hole bs=4k seek=1000 count=1 2> /dev/null; truncate -s 9M hole; fallocate -l 3M pre; echo $?",
    "ln f30 hard; ln -s f30 soft; chmod 4711 f31; ls -l f31 hard soft | cut -c 1-10; df . | wc -l",
    "echo 3 > /proc/sys/vm/drop_caches; find . -type f | sort | xargs md5sum | md5sum; find . | wc -l",
    // The room that is left. What is written must be there, and what has no room must be said.
    "cat /dev/zero > full; sync; [ $(wc -c < full) -gt 1000000 ] && echo much; rm full; sync",
    "cd /; fstrim /mnt; echo $?; umount /mnt; mount -t ext4 /dev/vda /mnt; cd /mnt",
    HASHES,
];

/// The driver lets go of each device and takes it again. `dd` keeps the disk busy meanwhile: first
/// it reads, then it writes what is there already.
const RESETS: &[&str] = &[
    "cp /dev/vda /tmp/disk; cd /sys/bus/virtio/drivers; ls virtio_blk virtio_net virtio_rng | grep virtio",
    "for n in 1 2 3; do (dd if=/dev/vda of=/dev/null bs=4k iflag=direct 2> /dev/null &); usleep 200000; \
     echo virtio0 > virtio_blk/unbind; echo virtio0 > virtio_blk/bind; sleep 1; ls /dev/vda; done",
    "for n in 1 2 3; do (dd if=/tmp/disk of=/dev/vda bs=4k oflag=direct 2> /dev/null &); usleep 200000; \
     echo virtio0 > virtio_blk/unbind; echo virtio0 > virtio_blk/bind; sleep 1; ls /dev/vda; done",
    "cmp /dev/vda /tmp/disk && echo same",
    "ip link set eth0 up; echo virtio1 > virtio_net/unbind; ls /sys/class/net; echo virtio1 > virtio_net/bind; sleep 1; ls /sys/class/net",
    "cat /sys/class/net/eth0/mtu; ip link set eth0 up; sleep 1; cat /sys/class/net/eth0/carrier",
    "(dd if=/dev/hwrng of=/dev/null bs=64 2> /dev/null &); usleep 200000; echo virtio2 > virtio_rng/unbind; cat /sys/class/misc/hw_random/rng_current",
    "echo virtio2 > virtio_rng/bind; sleep 1; cat /sys/class/misc/hw_random/rng_current; head -c 1000 /dev/hwrng | wc -c",
    "cd /; mount -t ext4 /dev/vda /mnt; cd /mnt",
    HASHES,
];

pub fn an_ext4_and_resets_amid_requests_are_as_on_plain_qemu(lab: &Lab) -> Result<()> {
    let (files, image) = (lab.path("files"), lab.path("made.img"));
    std::fs::create_dir_all(files.join("folder"))?;
    std::fs::write(files.join("greeting"), "made by the host\n")?;
    std::fs::write(files.join("folder/large"), [7; 3_000_000])?;
    ext4::make(&image, DISK, Some(&files))?;
    let left = Twins::new(lab, 256)?.disk("root", &image).compare(&[WORKLOAD, RESETS].concat())?;
    for image in left {
        ext4::check(&image)?;
        let back = lab.path("back");
        ext4::take(&image, "/folder/large", &back)?;
        ensure!(std::fs::read(&back)? == [7; 3_000_000], "{} has another file", image.display());
    }
    Ok(())
}
