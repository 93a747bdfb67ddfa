//! What is resumed goes on as if nothing had happened.

use anyhow::{Context, Result, ensure};
use stasis_guests::workload::Model;
use stasis_host::config::GuestConfig;
use stasis_qemu_tests::guests::{SILENCE, Ticks, sound, ticks};
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::{Stasis, guest};
use stasis_qemu_tests::tamper::{self, File, Record};
use stasis_state::envelope::RecordType;
use std::path::Path;

/// Ticks that a guest may have gone on for between what was last seen of it and its checkpoint.
const UNSEEN: u64 = 1000;

pub fn watch(stasis: &mut Stasis, model: &mut Model, count: usize) -> Result<Ticks> {
    stasis.attach("counter")?;
    let seen = ticks(&mut stasis.qemu.console, model, count)?;
    stasis.detach()?;
    Ok(seen)
}

fn last(ticks: &Ticks) -> Result<u64> {
    Ok(ticks.last().context("no ticks")?.0)
}

pub fn follows(before: &Ticks, after: &Ticks) -> Result<()> {
    let (before, after) = (last(before)?, after.first().context("no ticks")?.0);
    ensure!(after > before && after < before + UNSEEN, "tick {after} does not follow {before}");
    Ok(())
}

/// Resumes in a machine of its own.
fn resume(lab: &Lab, disk: &Path, which: u64) -> Result<Stasis> {
    let mut stasis = lab.machine().no_archive().disk(disk).boot()?;
    stasis.resume(which)?;
    Ok(stasis)
}

pub fn a_counter_goes_on_in_another_machine(lab: &Lab) -> Result<()> {
    let (disk, mut model) = (lab.disk()?, Model::new());
    let mut stasis = lab.machine().guest("counter")?.disk(&disk).boot()?;
    let before = watch(&mut stasis, &mut model, 10)?;
    let number = stasis.checkpoint("counter", "first")?;
    stasis.kill()?;

    let mut stasis = resume(lab, &disk, number)?;
    let after = watch(&mut stasis, &mut model, 20)?;
    follows(&before, &after)?;
    stasis.kill()?;

    // By its name, with fewer cores, more memory, and after that was resumed already.
    let mut stasis = lab.machine().no_archive().disk(&disk).cpus(1).memory("2G").boot()?;
    stasis.resume("first")?;
    follows(&before, &watch(&mut stasis, &mut model, 5)?)?;
    stasis.quit()
}

pub fn a_counter_goes_on_after_its_checkpoint(lab: &Lab) -> Result<()> {
    let (disk, mut model) = (lab.disk()?, Model::new());
    let mut stasis = lab.machine().guest("counter")?.disk(&disk).boot()?;
    let mut before = watch(&mut stasis, &mut model, 5)?;
    for number in 0..4 {
        stasis.checkpoint("counter", &format!("number-{number}"))?;
        let after = watch(&mut stasis, &mut model, 5)?;
        follows(&before, &after)?;
        before = after;
    }
    // A paused one is stored like any other, and stays paused.
    stasis.command("pause counter")?;
    stasis.checkpoint("counter", "paused")?;
    stasis.command("unpause counter")?;
    follows(&before, &watch(&mut stasis, &mut model, 5)?)?;
    stasis.quit()
}

pub fn a_guest_is_taken_back_in_its_own_machine(lab: &Lab) -> Result<()> {
    let (disk, mut model) = (lab.disk()?, Model::new());
    let mut stasis = lab.machine().guest("counter")?.disk(&disk).boot()?;
    let before = watch(&mut stasis, &mut model, 3)?;
    let number = stasis.checkpoint("counter", "early")?;
    for _ in 0..2 {
        let later = watch(&mut stasis, &mut model, 30)?;
        // All that it has said is looked at, so that what comes after is from after.
        stasis.command("pause counter")?;
        stasis.attach("counter")?;
        stasis.detach()?;
        stasis.resume(number)?;
        let after = watch(&mut stasis, &mut model, 3)?;
        follows(&before, &after)?;
        ensure!(last(&after)? < last(&later)?, "{after:x?} should be before {later:x?}");
    }
    stasis.quit()
}

pub fn what_a_guest_writes_for_the_first_time_goes_with_it(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let boot = || {
        let config = GuestConfig { vcpus: 2, ..guest("painter", 32) };
        lab.machine().configured(config, Some(lab.guest("painter")?)).disk(&disk).boot()
    };
    let mut stasis = boot()?;
    stasis.attach("painter")?;
    let mut painted = 0;
    loop {
        let line = stasis.qemu.console.next_line(SILENCE)?;
        sound(&line)?;
        if line == "done" {
            break;
        }
        ensure!(line == format!("painted {painted}"), "after {painted} blocks it says \"{line}\"");
        stasis.detach()?;
        // Each write is the first one after a checkpoint, and after a resume: here, or in a machine
        // of its own.
        let number = stasis.checkpoint("painter", "painted")?;
        if painted % 2 == 0 {
            stasis.kill()?;
            stasis = boot()?;
        }
        stasis.resume(number)?;
        stasis.attach("painter")?;
        stasis.qemu.console.send(b"x")?;
        painted += 1;
    }
    ensure!(painted > 8, "it was done after {painted} blocks");
    // The guest switches itself off, which detaches: now or in a moment.
    stasis.qemu.console.send(b"\x1d\r")?;
    stasis.is_alive()?;
    stasis.quit()
}

pub fn a_resumed_hash_is_that_of_a_guest_that_was_never_stored(lab: &Lab) -> Result<()> {
    let (disk, mut model) = (lab.disk()?, Model::new());
    let mut stasis = lab.machine().guest("counter")?.disk(&disk).boot()?;
    let before = watch(&mut stasis, &mut model, 3)?;
    let number = stasis.checkpoint("counter", "early")?;
    stasis.kill()?;
    let mut stasis = resume(lab, &disk, number)?;
    let resumed = watch(&mut stasis, &mut model, 30)?;
    stasis.kill()?;
    follows(&before, &resumed)?;

    let mut stasis = lab.machine().guest("counter")?.boot()?;
    stasis.attach("counter")?;
    let mut never_stored = Ticks::new();
    while never_stored.last().is_none_or(|seen| resumed.last() > Some(seen)) {
        never_stored.extend(ticks(&mut stasis.qemu.console, &mut model, 1)?);
    }
    for tick in &resumed {
        ensure!(never_stored.contains(tick), "{tick:x?} is not among {never_stored:x?}");
    }
    stasis.kill()
}

pub fn many_generations(lab: &Lab) -> Result<()> {
    let (disk, mut model) = (lab.disk()?, Model::new());
    let mut stasis = lab.machine().guest("counter")?.disk(&disk).boot()?;
    let mut before = watch(&mut stasis, &mut model, 2)?;
    for generation in 0..5 {
        let number = stasis.checkpoint("counter", &format!("generation-{generation}"))?;
        stasis.kill()?;
        stasis = resume(lab, &disk, number)?;
        let after = watch(&mut stasis, &mut model, 3)?;
        follows(&before, &after)?;
        before = after;
    }
    stasis.quit()
}

pub fn checkpoint_resume_checkpoint_is_the_same(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let mut stasis = lab.machine().guest("idle")?.disk(&disk).boot()?;
    stasis.attach("idle")?;
    stasis.qemu.console.wait_for("idle\r\n", SILENCE)?;
    stasis.detach()?;
    let first = stasis.checkpoint("idle", "first")?;
    stasis.kill()?;
    let mut stasis = lab.machine().no_archive().disk(&disk).boot()?;
    stasis.resume(first)?;
    let second = stasis.checkpoint("idle", "second")?;
    stasis.quit()?;
    let (first, second) = (file(&disk, first)?, file(&disk, second)?);
    // The guest does nothing but wait: nothing but its clock went on.
    same(&first, &second, &[RecordType::Clock])
}

pub fn checkpoint_resume_checkpoint_in_a_handler_is_the_same(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let mut stasis = lab.machine().guest("handler")?.disk(&disk).boot()?;
    stasis.attach("handler")?;
    for point in ["with worse ones pending", "nested, with a better one pending", "nested twice"] {
        stasis.qemu.console.wait_for(&format!("in handler {point}\r\n"), SILENCE)?;
        if point != "nested twice" {
            stasis.qemu.console.send(b"x")?;
        }
    }
    stasis.detach()?;
    let first = stasis.checkpoint("handler", "first")?;
    stasis.kill()?;
    let mut stasis = lab.machine().no_archive().disk(&disk).boot()?;
    stasis.resume(first)?;
    let second = stasis.checkpoint("handler", "second")?;
    stasis.quit()?;
    let (first, second) = (file(&disk, first)?, file(&disk, second)?);
    // The guest looks at its UART, over and over.
    same(&first, &second, &[RecordType::Clock, RecordType::VcpuCore])
}

pub fn file(disk: &Path, number: u64) -> Result<File> {
    File::parse(&tamper::get(disk, number)?)
}

/// Makes sure that two checkpoints are of the same guest, but for these records, their identities,
/// and the order in which their pages were touched first.
pub fn same(first: &File, second: &File, but: &[RecordType]) -> Result<()> {
    let but = [but, &[RecordType::Checkpoint, RecordType::RamDirectory]].concat();
    let (one, other) = (first.without(&but), second.without(&but));
    ensure!(one.len() == other.len(), "{} records are now {}", one.len(), other.len());
    for (one, other) in one.into_iter().zip(other) {
        let Record { kind, instance, .. } = one;
        let places: Vec<_> = (0..one.body.len())
            .filter(|at| one.body.get(*at) != other.body.get(*at))
            .take(20)
            .collect();
        ensure!(one == other, "record {kind:#x} {instance} has changed, at {places:?}");
    }
    Ok(())
}
