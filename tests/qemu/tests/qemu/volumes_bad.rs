//! Disks that guests can't have, and writes for which there is no room: one line that says so, and
//! the guests go on.

use anyhow::{Context, Result, ensure};
use stasis_host::config::{DiskConfig, GuestConfig};
use stasis_qemu_tests::guests::SILENCE;
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::{Setup, Stasis, guest};
use xtask::disk;

use crate::disks::{goes_on, make_newer};
use crate::on_demand_devices::{self, GUEST};
use crate::virtio::line;
use crate::volumes::{log_in, machine_with};

/// Bytes of a disk.
const MIB: u64 = 1 << 20;

/// Returns a machine with a `counter` and `idle` guests, each with a disk of 2 MiB: their names and
/// those of their volumes.
fn machine<'l>(lab: &'l Lab, guests: &[(&str, &str)]) -> Result<Setup<'l>> {
    let mut setup = lab.machine().guest("counter")?.file("idle", lab.guest("idle")?);
    for (name, volume) in guests {
        let mut config = guest(name, 4);
        config.image = "idle".to_owned();
        config.disks = vec![DiskConfig { volume: (*volume).to_owned(), size: 2 * MIB, from: None }];
        setup = setup.configured(config, None);
    }
    Ok(setup)
}

pub fn disks_that_can_not_be_had_are_named_and_the_others_run(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    disk::store(&disk, true)?.create_volume("small", MIB, 0)?;
    let guests = [("one", "data"), ("narrow", "small")];
    let mut stasis = machine(lab, &guests)?.disk(&disk).boot()?;
    stasis.complaint(&["guest \"narrow\"", "volume \"small\" has 1048576 bytes, fewer than"])?;
    goes_on(&mut stasis)?;
    let number = stasis.checkpoint("one", "with-its-disk")?;
    stasis.quit()?;

    // Another guest has the volume by now.
    let mut stasis = machine(lab, &[("two", "data")])?.disk(&disk).boot()?;
    let resume = format!("resume {number}");
    stasis.refused_for(&resume, &["volume \"data\" is in use by guest \"two\""])?;
    stasis.refused_for("volume delete data", &["in use by guest \"two\""])?;
    stasis.refused_for("volume copy nobodys other", &["there is no volume \"nobodys\""])?;
    goes_on(&mut stasis)?;
    stasis.quit()?;

    // The volume was deleted; the checkpoint still has it.
    let mut stasis = machine(lab, &[])?.disk(&disk).boot()?;
    stasis.command("volume delete data")?;
    let keep = format!("{resume} --keep-disks");
    stasis.refused_for(&keep, &["volume \"data\" is not there any more"])?;
    stasis.command("volume create data 1M")?;
    stasis.refused_for(&keep, &["volume \"data\" has 1048576 bytes, fewer than the 2097152"])?;
    stasis.command("volume delete data")?;
    stasis.resume(number)?;
    let list = stasis.command("volume list")?.join("\n");
    ensure!(list.contains("data"), "the volume does not come back: {list}");
    goes_on(&mut stasis)?;
    stasis.quit()?;

    make_newer(&disk)?;
    let mut stasis = machine(lab, &[("one", "data")])?.disk(&disk).boot()?;
    stasis.complaint(&["error: guest \"one\": the store has version 200"])?;
    goes_on(&mut stasis)?;
    stasis.quit()
}

/// Returns how many lines of the console so far have these words.
fn said(stasis: &Stasis, words: &str) -> usize {
    stasis.qemu.console.transcript().matches(words).count()
}

pub fn a_write_without_room_is_an_error_of_the_guests_and_one_line(lab: &Lab) -> Result<()> {
    const FILL: &str = "dd if=/dev/urandom of=/dev/vda bs=64k count=512 oflag=direct 2>&1 | grep -c 'Input/output error'";
    /// Bytes of the machine's disk: less than the guest's disk has.
    const ROOM: u64 = 16 * MIB;
    let disk = lab.disk_of(ROOM)?;
    let torn = |config: &mut GuestConfig| {
        config.disks[0].from = None;
        config.disks.push(DiskConfig { volume: "torn".to_owned(), size: MIB, from: None });
    };
    let mut store = disk::store(&disk, true)?;
    store.create_volume("torn", MIB, 0)?;
    store.volumes_mut().write("torn", 0, &[7; 4096])?;
    store.volumes_mut().flush("torn")?;
    drop(store);
    damage_a_map(&disk)?;
    let mut stasis = machine_with(lab, torn)?.disk(&disk).boot()?;
    log_in(&mut stasis)?;
    ensure!(line(&mut stasis, FILL)? == "1", "nothing says that there is no room");
    // A minute later, one more line may come.
    let more = "for n in $(seq 50); do dd if=/dev/urandom of=/dev/vda bs=64k seek=$((n * 10)) count=1 oflag=direct 2>&1; done | grep -c 'Input/output error'";
    let failures: usize = line(&mut stasis, more)?.parse()?;
    let lines = said(&stasis, "disk \"root\": a write has failed: the store is full");
    ensure!(lines > 0 && lines < failures / 2, "{lines} lines for {failures} failures");
    let read = "dd if=/dev/vda of=/dev/null bs=64k count=16 iflag=direct 2> /dev/null && echo read";
    ensure!(line(&mut stasis, read)? == "read", "what was written can't be read");
    // The map of the other disk is damaged.
    let torn = "dd if=/dev/vdb of=/dev/null bs=4k count=1 iflag=direct 2>&1 | grep -c 'Input/output error'";
    ensure!(line(&mut stasis, torn)? == "1", "a damaged disk can be read");
    let lines = said(&stasis, "disk \"torn\": a read has failed: the block map of volume \"torn\"");
    ensure!(lines > 0, "nothing says that a map is damaged");
    stasis.detach()?;
    // The guest can flush nothing more than there is room for, and the machine ends all the same.
    stasis.is_alive()?;
    stasis.kill()
}

/// Makes the guest `requests` do what a byte asks for. Returns whether its disk has done it.
fn does(stasis: &mut Stasis, byte: char) -> Result<bool> {
    let answer = format!("requests {byte} ");
    stasis.attach(GUEST)?;
    stasis.qemu.console.send(&[byte as u8])?;
    let is_done = stasis.qemu.console.find_line("the guest's answer", SILENCE, |line| {
        line.strip_prefix(&answer).map(|how| how == "done")
    })?;
    stasis.detach()?;
    Ok(is_done)
}

/// What a guest was told is written, and is not: its disk must fail from then on, until the guest
/// starts anew.
pub fn a_restart_that_is_refused_accepts_no_lost_writes(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let mut stasis = on_demand_devices::machine(lab)?.disk(&disk).boot()?;
    ensure!(does(&mut stasis, 'W')? && does(&mut stasis, 'f')?, "the disk fails");
    let number = stasis.checkpoint(GUEST, "before")?;
    stasis.quit()?;

    let rules = lab.path("no-flush");
    let rule = "[inject-error]\nevent = \"none\"\niotype = \"flush\"\nerrno = \"5\"\n";
    std::fs::write(&rules, rule)?;
    let bad = format!("blkdebug:{}:{}", rules.display(), disk.display());
    // The disk is too large now for the volume that there is, so the guest can't start anew.
    let machine = on_demand_devices::machine(lab)?.change(GUEST, |guest| guest.disks[0].size *= 2);
    let mut stasis = machine.disk(bad.as_ref()).boot()?;
    stasis.complaint(&["volume \"data\" has 4194304 bytes, fewer than"])?;
    stasis.command(&format!("resume {number} --keep-disks"))?;
    ensure!(does(&mut stasis, 'W')? && does(&mut stasis, 'R')?, "the disk fails too early");
    ensure!(!does(&mut stasis, 'f')?, "a flush is done by a disk that does none");
    ensure!(!does(&mut stasis, 'R')?, "what was lost is read");
    stasis.refused_for(&format!("restart {GUEST}"), &["fewer than the 8388608"])?;
    ensure!(!does(&mut stasis, 'R')?, "the guest goes on with what was lost");
    ensure!(!does(&mut stasis, 'W')?, "the guest writes to what was lost");
    stasis.kill()
}

/// Damages the only block map of a store.
fn damage_a_map(path: &std::path::Path) -> Result<()> {
    const BLOCK: usize = 4096;
    let mut bytes = std::fs::read(path)?;
    let mut blocks = (0..bytes.len()).step_by(BLOCK);
    let map = blocks.find(|at| bytes[*at..].starts_with(b"SMAP")).context("no map")?;
    bytes[map + 20] ^= 1;
    Ok(std::fs::write(path, bytes)?)
}
