//! Virtio devices of guests, driven by an unmodified Linux.

use anyhow::{Context, Result, ensure};
use stasis_guest::image::Kind;
use stasis_host::config::{DiskConfig, GuestConfig};
use stasis_qemu_tests::guests::SILENCE;
use stasis_qemu_tests::lab::{Built, Lab};
use stasis_qemu_tests::stasis::{Setup, Stasis, guest};
use xtask::initramfs;
use xtask::setup;
use xtask::workspace::{read, write};

use crate::linux::{BOOT_TIME, dmesg_is_silent, look_at_dmesg, shell};
use crate::on_demand_devices::GUEST;
use crate::others::u_boot;
use crate::twins::Twins;

/// Bytes of the guest's disk.
const DISK: u64 = 64 << 20;

/// Returns a machine whose guest is Linux with the drivers for virtio devices.
pub fn machine<'l>(lab: &'l Lab, entropy: bool, disks: &[&str]) -> Result<Setup<'l>> {
    let workspace = &Built::get()?.workspace;
    let mut config = guest("linux", 256);
    config.vcpus = 2;
    config.initrd = Some("initramfs".to_owned());
    config.cmdline = "console=ttyAMA0".to_owned();
    config.entropy = entropy;
    let disks = disks.iter();
    config.disks = disks
        .map(|name| DiskConfig { volume: (*name).to_owned(), size: DISK, from: None })
        .collect();
    // The drivers first: kernel and drivers are of one version.
    let initramfs = initramfs::make_with_virtio(workspace)?;
    let kernel = read(&setup::guests::ensure(workspace)?.kernel)?;
    Ok(lab.machine().file("initramfs", initramfs).configured(config, Some(kernel)))
}

/// Attaches the console to the Linux, and waits for its shell.
pub fn log_in(stasis: &mut Stasis) -> Result<()> {
    stasis.attach("linux")?;
    stasis.qemu.console.wait_for(initramfs::PROMPT, BOOT_TIME).map(drop)?;
    Ok(())
}

/// Returns what a command prints: one line.
pub fn line(stasis: &mut Stasis, command: &str) -> Result<String> {
    let lines = shell(stasis, command)?;
    let last = lines.iter().rev().find(|line| !line.trim().is_empty());
    Ok(last.with_context(|| format!("{command} prints nothing"))?.trim().to_owned())
}

pub fn linux_and_its_clone_read_random_bytes_before_and_after_a_resume(lab: &Lab) -> Result<()> {
    const READ: &str = "head -c 4096 /dev/hwrng | sha256sum | cut -c 1-64";
    let disk = lab.disk()?;
    let mut stasis = machine(lab, true, &[])?.disk(&disk).boot()?;
    log_in(&mut stasis)?;
    look_at_dmesg(&mut stasis)?;
    let source = line(&mut stasis, "cat /sys/class/misc/hw_random/rng_current")?;
    ensure!(source == "virtio_rng.0", "the source is {source}");
    let mut hashes = vec![line(&mut stasis, READ)?];
    stasis.detach()?;
    let number = stasis.checkpoint("linux", "random")?;
    stasis.attach("linux")?;
    hashes.push(line(&mut stasis, READ)?);
    stasis.detach()?;
    // The rings and buffers are on pages that both share until one of them, or its device, writes.
    stasis.command("clone linux as twin")?;
    for guest in ["twin", "linux"] {
        stasis.attach(guest)?;
        hashes.push(line(&mut stasis, READ)?);
        stasis.detach()?;
    }
    stasis.kill()?;

    for _ in 0..2 {
        let mut stasis = lab.machine().no_archive().disk(&disk).boot()?;
        stasis.resume(number)?;
        stasis.attach("linux")?;
        hashes.push(line(&mut stasis, READ)?);
        dmesg_is_silent(&mut stasis)?;
        stasis.kill()?;
    }
    hashes.sort_unstable();
    hashes.dedup();
    ensure!(hashes.len() == 6, "some bytes came twice: {hashes:?}");
    ensure!(hashes.iter().all(|hash| hash.len() == 64), "a hash is none: {hashes:?}");
    Ok(())
}

/// The guest has one vCPU, which looks at the bytes before anything else ends its stay at EL1.
pub fn random_bytes_are_there_at_once_in_pages_that_a_clone_shares(lab: &Lab) -> Result<()> {
    let config = GuestConfig { entropy: true, ..guest(GUEST, 32) };
    let overcommitted = GuestConfig {
        image: GUEST.to_owned(),
        overcommit: true,
        entropy: true,
        ..guest("new", 32)
    };
    let machine = lab.machine().configured(config, Some(lab.guest(GUEST)?));
    let mut stasis = machine.configured(overcommitted, None).boot()?;
    for name in [GUEST, "new"] {
        stasis.attach(name)?;
        stasis.qemu.console.wait_for("requests begin", SILENCE)?;
        stasis.detach()?;
    }
    stasis.command(&format!("clone {GUEST} as twin"))?;
    let mut found = Vec::new();
    for name in ["twin", GUEST, "new", "twin", "new"] {
        stasis.attach(name)?;
        stasis.qemu.console.send(b"e")?;
        for _ in 0..2 {
            let line = stasis.qemu.console.find_line("random bytes", SILENCE, |line| {
                line.starts_with("random ").then(|| line.to_owned())
            })?;
            ensure!(!found.contains(&line), "{name} has {line}, as others before: {found:?}");
            found.push(line);
        }
        stasis.detach()?;
    }
    for none in ["bytes are late", "0000000000000000", "5a5a5a5a5a5a5a5a"] {
        ensure!(!found.contains(&format!("random {none}")), "what is there is old: {found:?}");
    }
    stasis.quit()
}

pub fn a_machine_without_a_seed_says_that_it_has_no_random_bytes(lab: &Lab) -> Result<()> {
    let setup = machine(lab, true, &[])?.argument("-machine").argument("dtb-randomness=off");
    let stasis = setup.boot()?;
    let said = stasis.greeting.iter().any(|line| line.contains("entropy comes to nothing"));
    ensure!(said, "nothing is said in {:?}", stasis.greeting);
    stasis.quit()
}

/// Linux 6.10 and later has a driver for the generation ID.
pub fn a_newer_linux_makes_its_random_numbers_anew_after_a_resume(lab: &Lab) -> Result<()> {
    const RESEEDED: &str = "dmesg | grep -c 'crng reseeded due to virtual machine fork'";
    let workspace = &Built::get()?.workspace;
    let kernel = read(&setup::guests::backports_kernel(workspace)?.image)?;
    let disk = lab.disk()?;
    let mut config = guest("linux", 256);
    config.initrd = Some("initramfs".to_owned());
    config.cmdline = "console=ttyAMA0".to_owned();
    config.entropy = true;
    let initramfs = initramfs::make_without_drivers(workspace)?;
    let setup = lab.machine().file("initramfs", initramfs).configured(config, Some(kernel));
    let mut stasis = setup.disk(&disk).boot()?;
    log_in(&mut stasis)?;
    // Only a generator that was seeded once is seeded anew: this waits for that.
    line(&mut stasis, "head -c 16 /dev/random | wc -c")?;
    let before = line(&mut stasis, RESEEDED)?;
    ensure!(before == "0", "it was reseeded {before} times before");
    stasis.detach()?;
    let number = stasis.checkpoint("linux", "generation")?;
    stasis.kill()?;
    let mut stasis = lab.machine().no_archive().disk(&disk).boot()?;
    for times in ["1", "1"] {
        stasis.resume(number)?;
        stasis.attach("linux")?;
        let found = line(&mut stasis, RESEEDED)?;
        ensure!(found == times, "it was reseeded {found} times");
        stasis.detach()?;
    }
    stasis.quit()
}

pub fn linux_writes_and_reads_its_disk(lab: &Lab) -> Result<()> {
    let mut stasis = machine(lab, false, &["root", "data"])?.disk(&lab.disk()?).boot()?;
    log_in(&mut stasis)?;
    look_at_dmesg(&mut stasis)?;
    let sizes = line(&mut stasis, "echo $(cat /sys/block/vd?/size)")?;
    ensure!(sizes == "131072 131072", "the disks have {sizes} sectors");
    let serials = line(&mut stasis, "echo $(cat /sys/block/vd?/serial)")?;
    ensure!(serials == "rootdata", "the serial numbers are {serials}");
    let steps = [
        "head -c 33554432 /dev/urandom > /tmp/a",
        "dd if=/tmp/a of=/dev/vda bs=1M seek=7 2> /dev/null",
        "dd if=/tmp/a of=/dev/vdb bs=4k oflag=direct count=64 2> /dev/null",
        "sync; echo 3 > /proc/sys/vm/drop_caches",
    ];
    for step in steps {
        shell(&mut stasis, step)?;
    }
    let same = "dd if=/dev/vda bs=1M skip=7 count=32 2> /dev/null | cmp - /tmp/a && echo same";
    ensure!(line(&mut stasis, same)? == "same", "the disk has something else");
    let same = "dd if=/dev/vdb bs=4k count=64 2> /dev/null | cmp -n 262144 - /tmp/a && echo same";
    ensure!(line(&mut stasis, same)? == "same", "the second disk has something else");
    let zeros = "head -c 7340032 /dev/vda | tr -d '\\0' | wc -c";
    ensure!(line(&mut stasis, zeros)? == "0", "the rest is not zeros");
    // The driver lets go of the device, and takes it again.
    let again = "cd /sys/bus/virtio/drivers/virtio_blk; echo virtio0 > unbind; echo virtio0 > bind; \
                 sleep 1; dd if=/dev/vda bs=1M skip=7 count=32 2> /dev/null | cmp - /tmp/a && echo same";
    ensure!(line(&mut stasis, again)? == "same", "the disk has something else after a reset");
    stasis.detach()?;
    stasis.quit()
}

/// What a Linux does with a disk and a source of random bytes, and what it prints of it.
const WORKLOAD: &[&str] = &[
    "cat /sys/block/vda/size /sys/block/vda/serial /sys/block/vda/queue/logical_block_size",
    "cat /sys/block/vda/ro /sys/block/vda/cache_type /sys/class/misc/hw_random/rng_current",
    "yes stasis | head -c 3145728 > /tmp/a; dd if=/tmp/a of=/dev/vda bs=64k seek=5 conv=fsync 2> /dev/null",
    "dd if=/tmp/a of=/dev/vda bs=512 count=77 seek=9 oflag=direct 2> /dev/null; sync",
    "echo 3 > /proc/sys/vm/drop_caches; md5sum /dev/vda",
    "dd if=/dev/vda bs=512 skip=8 count=79 iflag=direct 2> /dev/null | md5sum",
    "dd if=/dev/vda of=/dev/null bs=512 skip=131072 count=1; dd if=/tmp/a of=/dev/vda seek=131072 count=1",
    "head -c 100000 /dev/hwrng | wc -c",
    "cd /sys/bus/virtio/drivers/virtio_blk; echo virtio0 > unbind; ls /dev/vd*; echo virtio0 > bind; cd",
    "sleep 1; md5sum /dev/vda; dmesg | grep -c -i 'i/o error'",
];

pub fn linux_sees_what_it_sees_on_plain_qemu(lab: &Lab) -> Result<()> {
    let image = lab.path("made.img");
    write(&image, &vec![0; DISK as usize])?;
    Twins::new(lab, 256)?.disk("root", &image).compare(WORKLOAD).map(drop)
}

pub fn u_boot_reads_what_it_has_written_to_a_disk(lab: &Lab) -> Result<()> {
    let mut config = guest("u-boot", 128);
    config.kind = Some(Kind::Raw);
    config.disks = vec![DiskConfig { volume: "root".to_owned(), size: DISK, from: None }];
    let disk = lab.disk()?;
    let mut stasis = lab.machine().configured(config, Some(u_boot()?)).disk(&disk).boot()?;
    stasis.attach("u-boot")?;
    let console = &mut stasis.qemu.console;
    console.wait_for("Hit any key to stop autoboot", SILENCE)?;
    console.send(b" ")?;
    console.wait_for("=> ", SILENCE)?;
    for (command, answer) in [
        ("virtio scan", "=> "),
        ("virtio info", "Capacity: 64.0 MB"),
        ("mw.l 0x41000000 0x12345678 0x1000", "=> "),
        ("virtio write 0x41000000 7 0x20", "32 blocks written: OK"),
        ("mw.l 0x42000000 0 0x1000", "=> "),
        ("virtio read 0x42000000 7 0x20", "32 blocks read: OK"),
        ("cmp.l 0x41000000 0x42000000 0x1000", "Total of 4096 word(s) were the same"),
    ] {
        console.send_line(command)?;
        console.wait_for(answer, SILENCE)?;
    }
    stasis.detach()?;
    stasis.quit()
}
