//! Guests that go on at once, and whose memory is loaded while they run.

use anyhow::{Context, Result, ensure};
use stasis_guests::workload::Model;
use stasis_host::config::GuestConfig;
use stasis_qemu_tests::guests::{SILENCE, numbers, sound, ticks};
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::{Setup, Stasis, guest};
use stasis_qemu_tests::tamper;
use stasis_state::guest::Clock;
use std::path::Path;
use xtask::initramfs;
use xtask::monitor::Socket;

use crate::linux;

/// A guest that finds each of its pages wrong that is not of the instant of its registers.
const GUEST: &str = "waves";
/// Guest-physical address of a page that the guest looks at in each wave, and not at once.
const LATE_PAGE: u64 = 0x4110_0000 + 1400 * 4096;
/// Bytes that are loaded at once.
const UNIT_SIZE: u64 = stasis_memory::missing::UNIT_SIZE as u64;
/// Waves of each CPU in which the guest finds each of its cells once.
const WAVES: u64 = 100;

/// Returns the next numbers of waves that the guest prints, of either CPU, and makes sure that it
/// has found nothing wrong.
fn waves(stasis: &mut Stasis) -> Result<[u64; 2]> {
    loop {
        let line = stasis.qemu.console.next_line(SILENCE)?;
        sound(&line)?;
        if let (true, &[first, second]) = (line.starts_with("waves "), &*numbers(&line)) {
            return Ok([first, second]);
        }
    }
}

/// Makes sure that the guest has gone on for some waves, with both CPUs, and that it has found
/// nothing wrong.
fn goes_on(stasis: &mut Stasis) -> Result<()> {
    this_goes_on(stasis, GUEST)
}

/// Makes sure of the same of a guest with the program [`GUEST`], and another name.
pub fn this_goes_on(stasis: &mut Stasis, name: &str) -> Result<()> {
    these_go_on(stasis, name, 2)
}

/// Makes sure of the same of a guest that has so many CPUs, one or two.
pub fn these_go_on(stasis: &mut Stasis, name: &str, cpus: usize) -> Result<()> {
    stasis.attach(name)?;
    let begin = waves(stasis)?;
    loop {
        let now = waves(stasis)?;
        if (0..cpus).all(|cpu| now[cpu] >= begin[cpu] + WAVES) {
            return stasis.detach().map(drop);
        }
    }
}

/// Returns the bytes of a guest's memory that are still to be loaded.
pub fn to_load(stasis: &mut Stasis, guest: &str) -> Result<u64> {
    let lines = stasis.command("guests --json")?;
    let line = lines.iter().find(|line| line.contains(&format!("\"name\":\"{guest}\"")));
    let line = line.with_context(|| format!("{guest} is not there: {lines:?}"))?;
    let (_, rest) = line.split_once("\"to_load\":").context("the line does not say")?;
    Ok(numbers(rest)[0])
}

/// Waits until all of a guest's memory is there.
fn wait_until_loaded(stasis: &mut Stasis, guest: &str) -> Result<()> {
    for _ in 0..1000 {
        if to_load(stasis, guest)? == 0 {
            return Ok(());
        }
    }
    anyhow::bail!("{guest} is not loaded after a thousand looks")
}

/// Stores the guest, with `memory` MiB, after it has run for a while, and returns the checkpoint's
/// number.
fn store(lab: &Lab, disk: &Path, memory: u64) -> Result<u64> {
    store_on(lab.machine(), lab, disk, memory)
}

/// As [`store`], on this machine.
fn store_on(machine: Setup<'_>, lab: &Lab, disk: &Path, memory: u64) -> Result<u64> {
    let config = GuestConfig { vcpus: 2, ..guest(GUEST, memory) };
    let machine = machine.configured(config, Some(lab.guest(GUEST)?)).disk(disk);
    let mut stasis = machine.boot()?;
    goes_on(&mut stasis)?;
    let number = stasis.checkpoint(GUEST, GUEST)?;
    stasis.quit()?;
    tamper::in_blocks(disk, number)
}

pub fn a_guest_goes_on_at_once_and_finds_all_of_its_memory(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let number = store(lab, &disk, 32)?;
    let mut stasis = lab.machine().no_archive().disk(&disk).boot()?;
    let lines = stasis.command(&format!("resume {number}"))?;
    ensure!(lines.iter().any(|line| line.contains(" pages to load, ")), "{lines:?}");
    goes_on(&mut stasis)?;
    wait_until_loaded(&mut stasis, GUEST)?;
    // In the place of itself, whose memory is another by now, again while it is loaded, and beside
    // itself.
    for _ in 0..3 {
        stasis.resume(number)?;
    }
    goes_on(&mut stasis)?;
    stasis.resume(format!("{number} as other"))?;
    goes_on(&mut stasis)?;
    // What is half loaded is stored whole, and what was loaded in this way can be stored again.
    stasis.resume(number)?;
    let again = stasis.checkpoint(GUEST, "again")?;
    goes_on(&mut stasis)?;
    ensure!(stasis.resume_whole(again)? == 1, "it is read once where there is room for both");
    ensure!(to_load(&mut stasis, GUEST)? == 0, "--whole leaves something to load");
    goes_on(&mut stasis)?;
    stasis.quit()
}

/// The machine has 32 MiB in one piece, and not twice.
pub fn a_guest_is_read_twice_where_there_is_no_room_for_two(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let number = store(lab, &disk, 32)?;
    let mut stasis = lab.machine().no_archive().memory("72M").disk(&disk).boot()?;
    ensure!(stasis.resume_whole(number)? == 1, "a guest that is new is read once");
    goes_on(&mut stasis)?;
    ensure!(stasis.resume_whole(number)? == 2, "it is checked before its memory is overwritten");
    ensure!(to_load(&mut stasis, GUEST)? == 0, "--whole leaves something to load");
    goes_on(&mut stasis)?;
    stasis.quit()
}

pub fn what_was_loaded_is_bit_for_bit_what_was_stored(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let number = tamper::switched_off(&disk, store(lab, &disk, 32)?)?;
    let mut stasis = lab.machine().no_archive().disk(&disk).boot()?;
    let mut stored = Vec::new();
    // First into memory that was never used, then into that of the same guest.
    for name in ["first", "second"] {
        stasis.resume(number)?;
        stored.push(stasis.checkpoint(GUEST, name)?);
    }
    stasis.quit()?;
    let expected = tamper::memory(&tamper::get(&disk, number)?)?;
    for number in stored {
        let found = tamper::memory(&tamper::get(&disk, number)?)?;
        ensure!(found.len() == expected.len());
        let differs = (0..found.len()).find(|&at| found[at] != expected[at]);
        ensure!(differs.is_none(), "checkpoint {number}: byte {differs:#x?} is another");
    }
    Ok(())
}

/// Checks that a guest is stopped by name of [`LATE_PAGE`], and that neither another guest nor
/// Stasis suffers.
fn stops_at_the_page(stasis: &mut Stasis, number: u64, why: &str) -> Result<()> {
    stasis.resume(number)?;
    let line = format!(
        "[guest \"{GUEST}\": can't go on: its memory at {LATE_PAGE:#x} is still to be loaded, and checkpoint {number} {why}]"
    );
    stasis.qemu.console.wait_for(&line, SILENCE)?;
    stasis.refused_for(&format!("checkpoint {GUEST} lost"), &["is lost"])?;
    stasis.attach("counter")?;
    ticks(&mut stasis.qemu.console, &mut Model::new(), 3)?;
    stasis.detach().map(drop)
}

pub fn a_damaged_page_stops_its_guest_by_name_and_no_other(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let number = store(lab, &disk, 32)?;
    let mut bytes = tamper::get(&disk, number)?;
    let at = tamper::page_at(&bytes, LATE_PAGE)?;
    bytes[at + 100] ^= 4;
    let bad = tamper::put(&disk, "bad", &bytes)?;
    let mut stasis = lab.machine().guest("counter")?.disk(&disk).boot()?;
    stops_at_the_page(&mut stasis, bad, "is damaged there")?;
    // What is damaged can be deleted, and what is lost can be resumed from another checkpoint.
    stasis.refused_for(&format!("resume {bad} --whole"), &["crc"])?;
    stasis.command(&format!("delete {bad}"))?;
    stasis.resume(number)?;
    goes_on(&mut stasis)?;
    stasis.quit()
}

pub fn a_guest_waits_for_a_disk_that_fails(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let number = store(lab, &disk, 32)?;
    let bytes = tamper::get(&disk, number)?;
    let at = tamper::page_at(&bytes, LATE_PAGE)?;
    let sector = tamper::sector_of(&disk, &bytes[at..at + 4096])?;
    for fails_once in [true, false] {
        let once = if fails_once { "on" } else { "off" };
        let rules = lab.path("bad-place-to-read");
        let rule = "[inject-error]\nevent = \"read_aio\"\nerrno = \"5\"";
        std::fs::write(&rules, format!("{rule}\nonce = \"{once}\"\nsector = \"{sector}\"\n"))?;
        let bad = format!("blkdebug:{}:{}", rules.display(), disk.display());
        let mut stasis = lab.machine().guest("counter")?.disk(bad.as_ref()).boot()?;
        stasis.resume(number)?;
        if fails_once {
            // What can't be read in one go is read page by page, at once.
            wait_until_loaded(&mut stasis, GUEST)?;
            goes_on(&mut stasis)?;
        } else {
            let line = format!("guest \"{GUEST}\" waits for memory that checkpoint {number} has: ");
            stasis.qemu.console.wait_for(&line, SILENCE)?;
            let words = &["was not loaded", "failed reading at sector", "an I/O error"];
            stasis.refused_for(&format!("checkpoint {GUEST} late"), words)?;
            ensure!(to_load(&mut stasis, GUEST)? > 0, "the place is read");
            stops_for_the_place(&mut stasis, number, sector)?;
        }
        stasis.attach("counter")?;
        ticks(&mut stasis.qemu.console, &mut Model::new(), 3)?;
        stasis.detach()?;
        stasis.is_alive()?;
        stasis.quit()?;
    }
    Ok(())
}

/// Checks that checkpoints of another guest are made while a guest waits for a place that the disk
/// refuses, and that this guest is stopped by name of the page after some tries.
fn stops_for_the_place(stasis: &mut Stasis, number: u64, sector: usize) -> Result<()> {
    for n in 0..3 {
        stasis.checkpoint("counter", &format!("beside-{n}"))?;
    }
    // Several pages have the same content, and any of them may stand in that place.
    let line = format!(" was not loaded: the disk failed reading at sector {sector}: ");
    stasis.qemu.console.wait_for(&line, SILENCE)?;
    let line = format!(" is still to be loaded, and checkpoint {number} can't be read]");
    stasis.qemu.console.wait_for(&line, SILENCE)?;
    stasis.checkpoint("counter", "after").map(drop)
}

/// A load of a guest's memory, from its resume to its end.
struct Load {
    /// Guest-physical addresses of the units, in the order in which they were loaded.
    units: Vec<u64>,
    /// Units for which the guest has waited.
    waited: usize,
    /// Number of a checkpoint that was made at the end.
    again: u64,
}

/// Resumes Linux on a new machine, which says what it loads, and waits until all is loaded.
fn resumed(lab: &Lab, disk: &Path, number: u64) -> Result<Load> {
    let mut stasis = lab.machine().no_archive().disk(disk).cmdline("log=debug").boot()?;
    stasis.resume(number)?;
    let mut units = Vec::new();
    let waited = stasis.qemu.console.find_line("the end of the load", SILENCE, |line| {
        let loaded = line.strip_suffix(" are loaded").and_then(|line| line.rsplit_once(" at 0x"));
        units.extend(loaded.and_then(|(_, address)| u64::from_str_radix(address, 16).ok()));
        let (_, rest) = line.split_once("it has waited for ")?;
        numbers(rest).first().copied()
    })?;
    let again = stasis.checkpoint("linux", "again")?;
    stasis.quit()?;
    Ok(Load { units, waited: waited as usize, again })
}

/// Only units for which the guest waits come before what it had touched first the time before.
pub fn what_a_linux_has_touched_first_is_loaded_first(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let mut stasis = linux::machine(lab, 1)?.disk(&disk).boot()?;
    stasis.attach("linux")?;
    stasis.qemu.console.wait_for(initramfs::PROMPT, linux::BOOT_TIME)?;
    stasis.detach()?;
    let first = stasis.checkpoint("linux", "first")?;
    stasis.quit()?;
    ensure!(tamper::touched(&tamper::get(&disk, first)?)?.is_empty(), "it was never resumed");
    let mut number = resumed(lab, &disk, first)?.again;
    for _ in 0..2 {
        let touched: Vec<u64> = tamper::touched(&tamper::get(&disk, number)?)?
            .into_iter()
            .filter(|page| page % UNIT_SIZE == 0)
            .collect();
        let Load { units, waited, again } = resumed(lab, &disk, number)?;
        println!("{} of {} units were touched, {waited} waited for", touched.len(), units.len());
        ensure!(!touched.is_empty(), "checkpoint {number} does not say what was touched");
        let begin = &units[..units.len().min(touched.len() + waited)];
        let late = touched.iter().find(|unit| !begin.contains(unit));
        ensure!(late.is_none(), "{late:x?} is not among the first {}: {begin:x?}", begin.len());
        number = again;
    }
    Ok(())
}

/// Resumes a guest of a card in a Raspberry Pi, pulls the card while the guest is loaded, and puts
/// another one in its place.
fn exchanged(lab: &Lab, card: &Path, other: &Path, number: u64) -> Result<Stasis> {
    let socket = Socket::new()?;
    let machine = lab.machine().raspi4()?.guest("counter")?.disk(card).monitor(&socket);
    let mut stasis = machine.boot()?;
    let mut monitor = socket.connect()?;
    stasis.resume(number)?;
    monitor.type_in("eject -f sd0")?;
    let line = format!("guest \"{GUEST}\" waits for memory that checkpoint {number} has: ");
    stasis.qemu.console.wait_for(&line, SILENCE)?;
    ensure!(to_load(&mut stasis, GUEST)? > 0, "all was loaded before the card was pulled");
    monitor.type_in(&format!("change sd0 {} raw", other.display()))?;
    Ok(stasis)
}

/// The cards have no identities of checkpoints, and theirs have the same number, name and length.
pub fn a_card_that_is_pulled_is_waited_for_and_another_one_is_told_from_it(
    lab: &Lab,
) -> Result<()> {
    let made = lab.disk()?;
    let file = tamper::get(&made, store_on(lab.machine().raspi4()?, lab, &made, 32)?)?;
    let mut record = tamper::File::parse(&file)?;
    record.set::<Clock>(0, "cntvct", 1)?;
    let card = lab.disk_of_version("card.img", 2)?;
    let other = lab.disk_of_version("other.img", 2)?;
    let number = tamper::put(&card, GUEST, &file)?;
    ensure!(tamper::put(&other, GUEST, &record.to_bytes())? == number);
    let mut stasis = exchanged(lab, &card, &card, number)?;
    let line = format!("guest \"{GUEST}\" has got the memory that it waited for");
    stasis.qemu.console.wait_for(&line, SILENCE)?;
    goes_on(&mut stasis)?;
    stasis.quit()?;
    let mut stasis = exchanged(lab, &card, &other, number)?;
    let line = format!(" is still to be loaded, and checkpoint {number} is damaged there]");
    stasis.qemu.console.wait_for(&line, SILENCE)?;
    stasis.is_alive()?;
    stasis.quit()
}

pub fn a_checkpoint_is_needed_until_all_of_it_is_loaded(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let number = store(lab, &disk, 512)?;
    let mut stasis = lab.machine().no_archive().disk(&disk).boot()?;
    stasis.resume(number)?;
    let words = &["is in use", "of guest \"waves\" are still to be loaded"];
    stasis.refused_for(&format!("delete {number}"), words)?;
    // A command that takes long does not keep the guest waiting.
    let before = to_load(&mut stasis, GUEST)?;
    stasis.command("top 1")?;
    let after = to_load(&mut stasis, GUEST)?;
    ensure!(
        after + (1 << 20) < before,
        "{before} bytes were to load, and {after} are after a second of top"
    );
    stasis.resume(number)?;
    // Power fails while it is loaded.
    stasis.kill()?;
    let mut stasis = lab.machine().no_archive().disk(&disk).boot()?;
    stasis.resume(number)?;
    goes_on(&mut stasis)?;
    wait_until_loaded(&mut stasis, GUEST)?;
    stasis.command(&format!("delete {number}"))?;
    goes_on(&mut stasis)?;
    stasis.quit()
}
