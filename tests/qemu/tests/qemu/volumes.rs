//! Disks of guests that are volumes of the store: Linux writes to them, power fails, checkpoints
//! have them.

use anyhow::{Result, ensure};
use sha2::{Digest, Sha256};
use stasis_host::config::{DiskConfig, GuestConfig};
use stasis_qemu_tests::lab::{Built, Lab};
use stasis_qemu_tests::stasis::{Setup, Stasis, guest};
use xtask::initramfs;
use xtask::setup;
use xtask::workspace::read;

use crate::linux::{BOOT_TIME, look_at_dmesg, shell};
use crate::virtio::line;

/// Bytes of the guest's disk.
const DISK: u64 = 32 << 20;

/// The image that the disk is made of: some words, and zeros between them.
fn image() -> Vec<u8> {
    let mut image = vec![0; (1 << 20) + 512];
    for at in (0..image.len()).step_by(100 << 10) {
        image[at..at + 9].copy_from_slice(b"something");
    }
    image
}

/// Returns a machine whose guest is Linux with a disk, made of [`image`].
pub fn machine(lab: &Lab) -> Result<Setup<'_>> {
    machine_with(lab, |_| ())
}

/// Returns the [`machine`] with what `edit` has made of the guest's configuration.
pub fn machine_with(lab: &Lab, edit: impl FnOnce(&mut GuestConfig)) -> Result<Setup<'_>> {
    let workspace = &Built::get()?.workspace;
    let mut config = guest("linux", 256);
    config.vcpus = 2;
    config.initrd = Some("initramfs".to_owned());
    config.cmdline = "console=ttyAMA0".to_owned();
    let from = Some("image".to_owned());
    config.disks = vec![DiskConfig { volume: "root".to_owned(), size: DISK, from }];
    edit(&mut config);
    // The drivers first: kernel and drivers are of one version.
    let initramfs = initramfs::make_with_virtio(workspace)?;
    let kernel = read(&setup::guests::ensure(workspace)?.kernel)?;
    let machine = lab.machine().file("initramfs", initramfs).file("image", image());
    Ok(machine.configured(config, Some(kernel)))
}

pub fn log_in(stasis: &mut Stasis) -> Result<()> {
    stasis.attach("linux")?;
    Ok(stasis.qemu.console.wait_for(initramfs::PROMPT, BOOT_TIME).map(drop)?)
}

/// Returns the hash of the first `mib` MiB of the guest's disk, as the disk has them.
fn hash(stasis: &mut Stasis, mib: u64) -> Result<String> {
    shell(stasis, "echo 3 > /proc/sys/vm/drop_caches")?;
    let read = format!("dd if=/dev/vda bs=1M count={mib} 2> /dev/null");
    line(stasis, &format!("{read} | sha256sum | head -c 64; echo"))
}

/// Writes `mib` MiB of random bytes at `at` MiB of the guest's disk. What was written is flushed
/// only if `how` says `conv=fsync`.
pub fn write(stasis: &mut Stasis, mib: u64, at: u64, how: &str) -> Result<()> {
    let dd = "dd if=/dev/urandom of=/dev/vda bs=64k";
    let (count, seek) = (mib * 16, at * 16);
    shell(stasis, &format!("{dd} count={count} seek={seek} {how} 2> /dev/null")).map(drop)
}

/// Sector of 4 KiB from which on [`write_small`] writes, and how many it writes: they are no
/// multiple of what is kept in memory at most.
const SMALL_AT: u64 = 6000;
const SMALL: u64 = 21;

/// Writes random bytes to the guest's disk by pieces of 4 KiB, one behind the other, without a
/// flush. The guest has them in a file, too.
fn write_small(stasis: &mut Stasis) -> Result<()> {
    let make = format!("dd if=/dev/urandom of=/small bs=4k count={SMALL} 2> /dev/null");
    let write = format!("dd if=/small of=/dev/vda bs=4k seek={SMALL_AT} oflag=direct 2> /dev/null");
    shell(stasis, &format!("{make} && {write}")).map(drop)
}

/// Checks that the guest's disk has what [`write_small`] has written.
fn look_at_small(stasis: &mut Stasis) -> Result<()> {
    let read = format!("dd if=/dev/vda bs=4k skip={SMALL_AT} count={SMALL} iflag=direct");
    let found = line(stasis, &format!("{read} 2> /dev/null | cmp - /small && echo the same"))?;
    ensure!(found == "the same", "small writes: {found}");
    Ok(())
}

pub fn what_linux_has_flushed_is_there_after_a_power_cut(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let mut stasis = machine(lab)?.disk(&disk).boot()?;
    log_in(&mut stasis)?;
    look_at_dmesg(&mut stasis)?;
    let bytes = line(&mut stasis, "tr -d '\\0' < /dev/vda | wc -c")?;
    ensure!(bytes == "99", "the image has 99 bytes that are not 0, and the disk {bytes}");
    write(&mut stasis, 4, 2, "conv=fsync")?;
    let flushed = hash(&mut stasis, 8)?;
    // Past the flushed part, and not flushed.
    write(&mut stasis, 4, 16, "oflag=direct")?;
    stasis.kill()?;

    let mut stasis = machine(lab)?.disk(&disk).boot()?;
    log_in(&mut stasis)?;
    let found = hash(&mut stasis, 8)?;
    ensure!(found == flushed, "{found} is there, {flushed} was flushed");
    stasis.detach()?;
    let refused = stasis.refused("volume delete root")?;
    ensure!(refused.contains("in use by guest \"linux\""), "{refused}");
    stasis.command("volume copy root other")?;
    let list = stasis.command("volume list")?;
    ensure!(list.iter().any(|line| line.contains("other")), "{list:?}");
    stasis.command("volume delete other")?;
    stasis.quit()
}

pub fn stop_tells_that_what_a_guest_has_written_is_not_on_the_disk(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    // The volume is made while the disk is well.
    machine(lab)?.disk(&disk).boot()?.quit()?;
    let rules = lab.path("no-flush");
    std::fs::write(
        &rules,
        "[inject-error]\nevent = \"none\"\niotype = \"flush\"\nerrno = \"5\"\n",
    )?;
    let bad = format!("blkdebug:{}:{}", rules.display(), disk.display());
    let mut stasis = machine(lab)?.disk(bad.as_ref()).boot()?;
    log_in(&mut stasis)?;
    write(&mut stasis, 1, 0, "oflag=direct")?;
    stasis.detach()?;
    stasis.refused_for("stop all", &["\"linux\" is off, but"])?;
    let guests = stasis.command("guests")?.join("\n");
    ensure!(guests.contains(" off "), "{guests}");
    Ok(())
}

pub fn a_checkpoint_has_the_disk_as_of_its_instant(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let mut stasis = machine(lab)?.disk(&disk).boot()?;
    log_in(&mut stasis)?;
    write(&mut stasis, 4, 0, "conv=fsync")?;
    // The guest has not flushed this, and the checkpoint has it nevertheless.
    write(&mut stasis, 2, 8, "oflag=direct")?;
    let then = hash(&mut stasis, 16)?;
    // Some of it is not even in the volume yet.
    write_small(&mut stasis)?;
    stasis.detach()?;
    let number = stasis.checkpoint("linux", "disks")?;
    stasis.attach("linux")?;
    look_at_small(&mut stasis)?;
    write(&mut stasis, 8, 1, "conv=fsync")?;
    let later = hash(&mut stasis, 16)?;
    ensure!(later != then, "nothing was written");
    stasis.kill()?;

    let mut stasis = machine(lab)?.no_archive().disk(&disk).boot()?;
    let said = stasis.command(&format!("resume {number}"))?;
    let kept = format!("what it had become is volume \"root-before-{number}\"");
    ensure!(said.iter().any(|line| line.contains(&kept)), "{said:?}");
    stasis.attach("linux")?;
    let found = hash(&mut stasis, 16)?;
    ensure!(found == then, "{found} is there, {then} was at the instant");
    look_at_small(&mut stasis)?;
    // The guest goes on with the disk.
    write(&mut stasis, 1, 3, "conv=fsync")?;
    stasis.kill()?;

    let mut store = xtask::disk::store(&disk, true)?;
    let names: Vec<String> = store.volumes().iter().map(|one| one.name.to_string()).collect();
    ensure!(names == ["root", &format!("root-before-{number}")], "{names:?}");
    let hash_of = |store: &mut stasis_store::Store<_>, name: &str| -> Result<String> {
        let mut bytes = vec![0; 16 << 20];
        store.volumes_mut().read(name, 0, &mut bytes)?;
        Ok(Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect())
    };
    let before = hash_of(&mut store, &names[1])?;
    ensure!(before == later, "{before} was kept, {later} is what it had become");
    let usage = store.usage().free;
    store.delete_volume(&names[1])?;
    ensure!(store.usage().free > usage + (4 << 20), "what only the kept one had is free");
    Ok(())
}

/// Makes sure that the kernel of the attached guest has seen no error of a disk, and no device that
/// is broken.
pub fn no_request_has_failed(stasis: &mut Stasis) -> Result<()> {
    let count = line(stasis, "dmesg | grep -i -c -e error -e reset -e fail -e timeout -e stall")?;
    ensure!(count == "0", "the kernel has {count} complaints");
    Ok(())
}

pub fn a_clone_has_a_disk_of_its_own_from_the_same_instant(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let mut stasis = machine(lab)?.disk(&disk).boot()?;
    log_in(&mut stasis)?;
    write(&mut stasis, 4, 0, "conv=fsync")?;
    // The disk has this and was not told to keep it, and this one is in the guest's memory alone.
    write(&mut stasis, 2, 8, "oflag=direct")?;
    write(&mut stasis, 1, 12, "")?;
    write_small(&mut stasis)?;
    stasis.detach()?;
    let said = stasis.command("clone linux as twin")?;
    let has = |words: &str| said.iter().any(|line| line.contains(words));
    ensure!(has("\"twin\" has volume \"root-twin\" in place of \"root\""), "{said:?}");
    let hash_of = |stasis: &mut Stasis, name: &str| -> Result<String> {
        stasis.attach(name)?;
        // All that the device writes for this goes to memory that both share.
        shell(stasis, "sync")?;
        let hash = hash(stasis, 16)?;
        look_at_small(stasis)?;
        stasis.detach()?;
        Ok(hash)
    };
    let then = hash_of(&mut stasis, "linux")?;
    let found = hash_of(&mut stasis, "twin")?;
    ensure!(found == then, "the clone's disk has {found}, the original's {then}");

    // From now on they differ, and a second clone is called otherwise.
    stasis.attach("twin")?;
    write(&mut stasis, 2, 1, "conv=fsync")?;
    stasis.detach()?;
    let changed = hash_of(&mut stasis, "twin")?;
    ensure!(changed != then && hash_of(&mut stasis, "linux")? == then, "they have one disk");
    let said = stasis.command("clone twin as third")?;
    ensure!(said.iter().any(|line| line.contains("root-twin-third")), "{said:?}");
    ensure!(hash_of(&mut stasis, "third")? == changed, "the clone of the clone has another disk");
    for name in ["linux", "twin", "third"] {
        stasis.attach(name)?;
        no_request_has_failed(&mut stasis)?;
        stasis.detach()?;
    }
    // The clone starts again as its original does, with the disk that it has.
    stasis.command("restart third")?;
    stasis.attach("third")?;
    // The prompt of before is shown first.
    stasis.qemu.console.wait_for("Run /init", BOOT_TIME)?;
    stasis.qemu.console.wait_for(initramfs::PROMPT, BOOT_TIME)?;
    ensure!(hash(&mut stasis, 16)? == changed, "it has started with another disk");
    stasis.detach()?;
    ensure!(hash_of(&mut stasis, "linux")? == then, "the original's disk has changed");
    // The clone is stored, and comes back with its disk.
    let number = stasis.checkpoint("twin", "clone")?;
    stasis.kill()?;
    let mut stasis = machine(lab)?.no_archive().disk(&disk).boot()?;
    stasis.resume(number)?;
    ensure!(hash_of(&mut stasis, "twin")? == changed, "the clone comes back with another disk");
    stasis.quit()
}
