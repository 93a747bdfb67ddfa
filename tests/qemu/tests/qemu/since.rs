//! A checkpoint shares with the one before what did not change since, and is whole all the same.

use anyhow::{Context, Result, ensure};
use stasis_host::config::GuestConfig;
use stasis_qemu_tests::guests::numbers;
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::{Stasis, guest};
use stasis_qemu_tests::tamper;
use stasis_state::{PAGE_SIZE, RecordType};
use stasis_store::Compression;
use xtask::{disk, initramfs};

use crate::linux;
use crate::on_demand::this_goes_on;
use crate::resume::{file, same};

const GUEST: &str = "waves";
/// Bytes of which a checkpoint of a guest that stood still writes fewer: its registers, and the
/// metadata around them.
const FEW: u64 = 64 << 10;

/// Makes a checkpoint of [`GUEST`]. Returns its number, its bytes, and how many of them it shares.
fn checkpoint(stasis: &mut Stasis) -> Result<(u64, u64, u64)> {
    checkpoint_of(stasis, GUEST)
}

/// Makes a checkpoint. Returns its number, its bytes, and how many of them it shares.
fn checkpoint_of(stasis: &mut Stasis, guest: &str) -> Result<(u64, u64, u64)> {
    let lines = stasis.command(&format!("checkpoint {guest} {guest}"))?;
    let line = lines.iter().find(|line| line.starts_with("checkpoint ")).context("no line")?;
    println!("{line}");
    let before = |unit: &str| line.split(unit).next().map(numbers)?.last().copied();
    let number = numbers(line).first().copied().context("no number")?;
    let shared = if line.contains(" of them shared") { before(" of them shared") } else { Some(0) };
    Ok((number, before(" bytes").context("no bytes")?, shared.context("no number is shared")?))
}

/// What was stored before a store is upgraded stays as it is; what is stored then shares.
pub fn a_store_of_version_2_is_upgraded_with_what_is_in_it(lab: &Lab) -> Result<()> {
    let disk = lab.disk_of_version("version-2.img", 2)?;
    let machine = lab.machine().configured(guest(GUEST, 32), Some(lab.guest(GUEST)?)).disk(&disk);
    let mut stasis = machine.boot()?;
    let (first, ..) = checkpoint(&mut stasis)?;
    let (second, _, shared) = checkpoint(&mut stasis)?;
    ensure!(shared == 0, "a store of version 2 shares {shared} bytes");
    let before = [first, second].map(|number| tamper::get(&disk, number));
    stasis.command("store upgrade")?;
    let (third, bytes, shared) = checkpoint(&mut stasis)?;
    ensure!(bytes > 0 && shared == 0, "checkpoint {third} shares with one that has no identity");
    let (_, bytes, shared) = checkpoint(&mut stasis)?;
    ensure!(shared > 0, "the next one shares nothing of {bytes} bytes");
    for (number, before) in [first, second].into_iter().zip(before) {
        ensure!(tamper::get(&disk, number)? == before?, "checkpoint {number} has changed");
    }
    stasis.command(&format!("delete {second}"))?;
    stasis.kill()?;
    let mut stasis = lab.machine().no_archive().disk(&disk).boot()?;
    stasis.command(&format!("resume {first} --whole"))?;
    checkpoint(&mut stasis)?;
    stasis.quit()
}

/// What the next checkpoint would have shared is bad on the disk by then. One line says so, and the
/// checkpoint after it has all of the memory.
pub fn a_damaged_parent_costs_one_checkpoint_and_no_guest(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let config = GuestConfig { vcpus: 2, ..guest(GUEST, 32) };
    let machine = lab.machine().configured(config, Some(lab.guest(GUEST)?)).disk(&disk);
    let mut stasis = machine.boot()?;
    let (parent, ..) = checkpoint(&mut stasis)?;
    stasis.quit()?;
    let bytes = tamper::get(&disk, parent)?;
    let block = tamper::first_block(&bytes)?;
    let sector = tamper::sector_of(&disk, &bytes[block..block + PAGE_SIZE])?;
    let mut stasis = lab.machine().no_archive().disk(&disk).boot()?;
    stasis.resume(format!("{parent} --whole"))?;
    this_goes_on(&mut stasis, GUEST)?;
    tamper::spoil(&disk, sector)?;
    let why = "the checkpoint that it shares with is damaged";
    stasis.refused_for(&format!("checkpoint {GUEST} {GUEST}"), &[why])?;
    this_goes_on(&mut stasis, GUEST)?;
    let (next, _, shared) = checkpoint(&mut stasis)?;
    ensure!(shared == 0, "checkpoint {next} shares {shared} bytes with a damaged one");
    stasis.refused(&format!("resume {parent} --whole"))?;
    this_goes_on(&mut stasis, GUEST)?;
    stasis.resume(format!("{next} --whole"))?;
    this_goes_on(&mut stasis, GUEST)?;
    stasis.quit()
}

/// A guest is stored until its disk is full. The checkpoint that finds no room leaves the marks of
/// what has changed: the next one has it.
pub fn a_disk_that_is_full_between_two_checkpoints_loses_no_page(lab: &Lab) -> Result<()> {
    let disk = lab.disk_of(16 << 20)?;
    let machine = lab.machine().configured(guest(GUEST, 32), Some(lab.guest(GUEST)?)).disk(&disk);
    let mut stasis = machine.boot()?;
    let mut numbers = Vec::new();
    let reason = loop {
        ensure!(numbers.len() < 64, "the disk does not get full");
        match checkpoint(&mut stasis) {
            Ok((number, ..)) => numbers.push(number),
            Err(_) => break stasis.refused(&format!("checkpoint {GUEST} {GUEST}"))?,
        }
    };
    ensure!(reason.contains("the store is full"), "{reason}");
    ensure!(numbers.len() > 1, "one checkpoint is all that fits");
    // The one that the next one shares with stays.
    let last = numbers.pop();
    for number in numbers {
        stasis.command(&format!("delete {number}"))?;
    }
    stasis.command(&format!("pause {GUEST}"))?;
    let (sharing, _, shared) = checkpoint(&mut stasis)?;
    ensure!(shared > 0, "it shares nothing with checkpoint {last:?}");
    let sharing = file(&disk, sharing)?;
    for line in tamper::list(&disk)? {
        stasis.command(&format!("delete {}", line.0))?;
    }
    let (whole, _, shared) = checkpoint(&mut stasis)?;
    ensure!(shared == 0, "it shares {shared} bytes with nobody");
    same(&sharing, &file(&disk, whole)?, &[RecordType::Clock])?;
    stasis.quit()
}

/// An idle Linux writes a few pages between two checkpoints.
pub fn a_second_checkpoint_of_an_idle_linux_is_a_fiftieth_of_the_first(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let mut stasis = linux::machine(lab, 1)?.disk(&disk).boot()?;
    stasis.attach("linux")?;
    stasis.qemu.console.wait_for(initramfs::PROMPT, linux::BOOT_TIME)?;
    stasis.detach()?;
    let (_, first, _) = checkpoint_of(&mut stasis, "linux")?;
    std::thread::sleep(std::time::Duration::from_secs(5));
    let (_, bytes, shared) = checkpoint_of(&mut stasis, "linux")?;
    let written = bytes - shared;
    println!("{written} bytes are written, {} in 1000 of {first}", written * 1000 / first);
    ensure!(written * 50 <= first, "{written} bytes are written, of {first} at first");
    stasis.quit()
}

/// The guest writes between the first two, and stands still then, so that a whole one can be
/// compared.
pub fn a_checkpoint_that_shares_is_bit_for_bit_a_whole_one(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let machine = lab.machine().configured(guest(GUEST, 32), Some(lab.guest(GUEST)?)).disk(&disk);
    let mut stasis = machine.boot()?;
    let (first, _, shared) = checkpoint(&mut stasis)?;
    ensure!(shared == 0, "the first one shares {shared} bytes");
    let (second, bytes, shared) = checkpoint(&mut stasis)?;
    ensure!(shared > 0 && shared < bytes, "the second one shares {shared} of {bytes} bytes");
    stasis.command(&format!("pause {GUEST}"))?;
    let (third, ..) = checkpoint(&mut stasis)?;
    let (fourth, bytes, shared) = checkpoint(&mut stasis)?;
    ensure!(bytes - shared < FEW, "it stood still, and {bytes} bytes less {shared} were written");
    let sharing = [file(&disk, third)?, file(&disk, fourth)?];
    for number in [first, second, third, fourth] {
        stasis.command(&format!("delete {number}"))?;
    }
    let (whole, _, shared) = checkpoint(&mut stasis)?;
    ensure!(shared == 0, "it shares {shared} bytes with nobody");
    let whole = file(&disk, whole)?;
    for sharing in sharing {
        same(&sharing, &whole, &[RecordType::Clock])?;
    }
    stasis.quit()
}

/// Each is whole, of a store that compresses, too: the one that it shared with may go, and a guest
/// that was resumed from it shares with it in turn.
pub fn the_first_one_is_deleted_and_the_second_one_is_resumed(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    disk::store(&disk, true)?.set_compression(Compression::Lz4)?;
    let machine = lab.machine().configured(guest(GUEST, 32), Some(lab.guest(GUEST)?)).disk(&disk);
    let mut stasis = machine.boot()?;
    let (first, ..) = checkpoint(&mut stasis)?;
    let (second, _, shared) = checkpoint(&mut stasis)?;
    ensure!(shared > 0, "nothing is shared");
    stasis.command(&format!("delete {first}"))?;
    stasis.kill()?;
    let before = file(&disk, second)?;
    let mut stasis = lab.machine().no_archive().disk(&disk).boot()?;
    stasis.command(&format!("resume {second} --whole"))?;
    let (third, _, shared) = checkpoint(&mut stasis)?;
    ensure!(shared > 0, "it shares nothing with what it was resumed from");
    stasis.quit()?;
    let after = file(&disk, third)?;
    ensure!(before.records.len() == after.records.len(), "blocks have come or gone");
    ensure!(tamper::state(&tamper::get(&disk, third)?)?.lineage.is_some(), "it has no identity");
    Ok(())
}
