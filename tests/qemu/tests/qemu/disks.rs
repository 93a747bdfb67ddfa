//! Disks that have no store, or no room: one line that says so, and the guests go on.

use anyhow::{Context, Result, ensure};
use stasis_guests::workload::Model;
use stasis_qemu_tests::guests::ticks;
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::{Setup, Stasis};
use stasis_qemu_tests::tamper;
use stasis_store::gpt::{self, Guid, NewPartition};
use stasis_store::{BlockDevice, SECTOR};
use xtask::disk;

use crate::periodic::every_second;

/// Boots a counter; checkpoints are refused with a line that has these words in it, and the counter
/// goes on.
pub fn no_checkpoints(setup: Setup<'_>, words: &[&str]) -> Result<()> {
    let mut stasis = setup.guest("counter")?.boot()?;
    stasis.refused_for("checkpoint counter one", words)?;
    stasis.refused_for("store", words)?;
    stasis.refused_for("resume 1", words)?;
    stasis.refused_for("delete 1", words)?;
    goes_on(&mut stasis)?;
    stasis.quit()
}

pub fn goes_on(stasis: &mut Stasis) -> Result<()> {
    stasis.is_alive()?;
    stasis.attach("counter")?;
    ticks(&mut stasis.qemu.console, &mut Model::new(), 3)?;
    stasis.detach().map(drop)
}

pub fn no_disk(lab: &Lab) -> Result<()> {
    no_checkpoints(lab.machine(), &["no", "disk"])
}

pub fn checkpoints_that_will_come_to_nothing_are_warned_of(lab: &Lab) -> Result<()> {
    let setup = lab.machine().guest("counter")?.change("counter", |config| {
        config.periodic = Some(every_second(3));
    });
    let mut stasis = setup.boot()?;
    stasis.complaint(&["counter", "checkpoint-every comes to nothing: ", "disk"])?;
    goes_on(&mut stasis)?;
    stasis.quit()
}

pub fn no_partition(lab: &Lab) -> Result<()> {
    let path = lab.path("disk.img");
    disk::create_empty(&path, 64 << 20)?;
    no_checkpoints(lab.machine().disk(&path), &["no partition table"])?;

    // One for somebody else.
    let mut blank = disk::FileDisk::open(&path, true)?;
    let last = blank.block_count() - 100;
    let mut other = NewPartition::stasis(Guid([7; 16]), None, last);
    other.kind = Guid([9; 16]);
    gpt::create(&mut blank, Guid([8; 16]), &[other])?;
    drop(blank);
    no_checkpoints(lab.machine().disk(&path), &["no stasis partition"])?;

    // Neither a table nor zeros.
    let junk: Vec<u8> =
        (0..1u32 << 16).flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    std::fs::write(&path, junk)?;
    no_checkpoints(lab.machine().disk(&path), &["partition"])
}

pub fn a_disk_of_larger_blocks_is_named(lab: &Lab) -> Result<()> {
    let drive = format!("if=none,id=large,format=raw,file={}", lab.disk()?.display());
    let device = "virtio-blk-device,drive=large,logical_block_size=4096,physical_block_size=4096";
    let setup = lab.machine().argument("-drive").argument(drive);
    no_checkpoints(setup.argument("-device").argument(device), &["blocks of 4096 bytes", "512"])
}

pub fn no_store_in_the_partition(lab: &Lab) -> Result<()> {
    let path = lab.disk()?;
    first_sector(&path, |sector| sector.fill(0))?;
    no_checkpoints(lab.machine().disk(&path), &["no store"])
}

pub fn a_store_of_a_newer_version(lab: &Lab) -> Result<()> {
    let path = lab.disk()?;
    make_newer(&path)?;
    no_checkpoints(lab.machine().disk(&path), &["version 200"])
}

/// Makes a store one of a version that there is not yet.
pub fn make_newer(path: &std::path::Path) -> Result<()> {
    first_sector(path, |sector| {
        const CRC: usize = 8;
        const VERSION: usize = 12;
        sector[VERSION] = 200;
        let crc = stasis_store::layout::checksum(sector);
        sector[CRC..CRC + 4].copy_from_slice(&crc.to_le_bytes());
    })
}

/// Changes the first sector of the store.
fn first_sector(path: &std::path::Path, change: impl FnOnce(&mut [u8])) -> Result<()> {
    let mut disk = disk::FileDisk::open(path, true)?;
    let partition = stasis_store::partition::find(&mut disk)?;
    let mut sector = [0; SECTOR];
    disk.read(partition.first(), &mut sector)?;
    change(&mut sector);
    disk.write(partition.first(), &sector)?;
    Ok(())
}

pub fn a_full_store(lab: &Lab) -> Result<()> {
    full_store(lab, |lab| Ok(lab.machine()))
}

/// Returns a store that is full, on some kind of machine.
pub fn full_store<'l>(lab: &'l Lab, machine: impl Fn(&'l Lab) -> Result<Setup<'l>>) -> Result<()> {
    // Room for a guest that has next to nothing in its memory, not for one with 8 MiB.
    let path = lab.disk_of(8 << 20)?;
    let mut stasis = machine(lab)?.guest("counter")?.guest("idle")?.disk(&path).boot()?;
    let number = stasis.checkpoint("idle", "small")?;
    let before = tamper::get(&path, number)?;
    for _ in 0..3 {
        stasis.refused_for("checkpoint counter large", &["full"])?;
    }
    ensure!(
        stasis.command("store")?.iter().any(|line| line.contains("small")),
        "the older checkpoint is not listed"
    );
    goes_on(&mut stasis)?;

    // There is room again once something was deleted; not for the counter, but for another small
    // one.
    let again = stasis.checkpoint("idle", "again")?;
    stasis.command(&format!("delete {again}"))?;
    stasis.quit()?;
    ensure!(tamper::list(&path)? == [(number, "small".to_owned())]);
    ensure!(tamper::get(&path, number)? == before, "the older checkpoint has changed");
    let mut stasis = machine(lab)?.no_archive().disk(&path).boot()?;
    stasis.resume(number)?;
    stasis.is_alive()?;
    stasis.quit()
}

pub fn a_disk_that_fails_during_a_checkpoint(lab: &Lab) -> Result<()> {
    failing_disk(lab, |lab| Ok(lab.machine()), &["failed writing", "an I/O error"])
}

/// Checks, on a machine whose disk has a bad place, that the checkpoint that needs the place fails
/// with these words, and that neither the guest nor an older checkpoint suffers.
pub fn failing_disk<'l>(
    lab: &'l Lab,
    machine: impl Fn(&'l Lab) -> Result<Setup<'l>>,
    words: &[&str],
) -> Result<()> {
    let path = lab.disk()?;
    let mut model = Model::new();
    // Behind the first checkpoint, which is small, and within the second, which is not.
    const BAD_BLOCK: u64 = 600;
    let first = stasis_store::partition::find(&mut disk::FileDisk::open(&path, false)?)?.first();
    let rules = lab.path("bad-place");
    let sector = first + BAD_BLOCK * stasis_store::layout::BLOCK_SECTORS;
    std::fs::write(
        &rules,
        format!("[inject-error]\nevent = \"write_aio\"\nerrno = \"5\"\nsector = \"{sector}\"\n"),
    )?;
    let bad = format!("blkdebug:{}:{}", rules.display(), path.display());
    let setup = machine(lab)?.guest("counter")?.guest("idle")?.disk(bad.as_ref());
    let mut stasis = setup.boot()?;
    let older = stasis.checkpoint("idle", "older")?;
    let before = tamper::get(&path, older)?;
    stasis.attach("counter")?;
    ticks(&mut stasis.qemu.console, &mut model, 3)?;
    stasis.detach()?;
    stasis.refused_for("checkpoint counter broken", words)?;
    stasis.attach("counter")?;
    ticks(&mut stasis.qemu.console, &mut model, 3)?;
    stasis.detach()?;
    stasis.resume(older)?;
    // There is room for a small one before the bad place.
    stasis.checkpoint("idle", "newer")?;
    stasis.quit()?;
    ensure!(tamper::get(&path, older)? == before, "the older checkpoint has changed");
    let names: Vec<String> = tamper::list(&path)?.into_iter().map(|(_, name)| name).collect();
    ensure!(names == ["older", "newer"], "there are {names:?}");
    Ok(())
}

pub fn a_full_host_fails_the_checkpoint_and_not_the_machine(lab: &Lab) -> Result<()> {
    let path = lab.disk()?;
    let rules = lab.path("full-host");
    // ENOSPC, for every write.
    std::fs::write(&rules, "[inject-error]\nevent = \"write_aio\"\nerrno = \"28\"\n")?;
    let full = format!("blkdebug:{}:{}", rules.display(), path.display());
    let mut stasis = lab.machine().guest("counter")?.disk(full.as_ref()).boot()?;
    for _ in 0..2 {
        stasis.refused_for("checkpoint counter lost", &["failed writing"])?;
        goes_on(&mut stasis)?;
    }
    stasis.quit()?;
    ensure!(tamper::list(&path)?.is_empty());
    Ok(())
}

pub fn a_host_tool_keeps_off_the_disk_of_a_running_machine(lab: &Lab) -> Result<()> {
    let path = lab.disk()?;
    let mut stasis = lab.machine().guest("idle")?.disk(&path).boot()?;
    let number = stasis.checkpoint("idle", "one")?;
    let bytes = tamper::get(&path, number)?;
    let holder = format!("{} is in use: qemu-system-aar (process", path.display());
    for error in [
        tamper::put(&path, "two", &bytes).err().context("it was written")?,
        disk::store(&path, false).err().context("it was read")?,
    ] {
        ensure!(error.to_string().starts_with(&holder), "{error:#}");
        ensure!(error.to_string().ends_with("end that first"), "{error:#}");
    }
    stasis.is_alive()?;
    stasis.quit()?;
    tamper::put(&path, "two", &bytes)?;

    // The other way round QEMU refuses it.
    let held = disk::store(&path, true)?;
    ensure!(lab.machine().guest("idle")?.disk(&path).boot().is_err(), "QEMU has taken it");
    drop(held);
    lab.machine().guest("idle")?.disk(&path).boot()?.quit()
}
