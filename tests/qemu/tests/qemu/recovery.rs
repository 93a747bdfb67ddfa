//! Guests that stop by themselves, and what is done about it; checkpoints that nobody asks for. Their neighbours notice nothing.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use stasis_guests::workload::Model;
use stasis_qemu_tests::guests::{SILENCE, ticks};
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::{Setup, Stasis, guest};
use stasis_qemu_tests::tamper;
use stasis_vm::config::{GuestConfig, Periodic, Policy};

/// A machine with `fragile`, configured by `change`, and a neighbour.
fn machine<'l>(lab: &'l Lab, change: impl FnOnce(&mut GuestConfig)) -> Result<Setup<'l>> {
    let mut config = guest("fragile", 32);
    change(&mut config);
    let image = lab.guest("fragile")?;
    Ok(lab.machine().cpus(3).guest("counter")?.configured(config, Some(image)))
}

/// The next step that `fragile` prints.
fn step(stasis: &mut Stasis) -> Result<u64> {
    loop {
        let line = stasis.qemu.console.next_line(SILENCE)?;
        if let Some(step) = line.strip_prefix("step ") {
            return step.parse().with_context(|| format!("\"{line}\""));
        }
    }
}

/// Has `fragile`, which the terminal is attached to, come to grief, and waits for Stasis to say so.
fn grieve(stasis: &mut Stasis, how: u8, said: &str) -> Result<()> {
    stasis.qemu.console.send(&[how])?;
    stasis.qemu.console.wait_for(said, SILENCE).map(drop).map_err(Into::into)
}

/// Whether the neighbour has noticed nothing.
fn neighbour_is_well(stasis: &mut Stasis) -> Result<()> {
    stasis.attach("counter")?;
    ticks(&mut stasis.qemu.console, &mut Model::new(), 3)?;
    stasis.detach().map(drop)
}

pub fn a_guest_that_crashes_goes_on_from_its_last_checkpoint(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let mut stasis = machine(lab, |config| config.on_crash = Policy::Resume)?.disk(&disk).boot()?;
    stasis.attach("fragile")?;
    let before = step(&mut stasis)?;
    stasis.detach()?;
    // Another guest's checkpoint is not taken for it, though it is the newest.
    let number = stasis.checkpoint("fragile", "safe")?;
    stasis.checkpoint("counter", "other")?;
    stasis.attach("fragile")?;
    let mut last = before;
    while last < before + 60 {
        last = step(&mut stasis)?;
    }
    grieve(&mut stasis, b'x', &format!("for ever; it goes on from checkpoint {number}"))?;
    let after = step(&mut stasis)?;
    ensure!(after >= before && after < last, "step {before}, checkpoint, {last}, crash, {after}");
    stasis.detach()?;
    neighbour_is_well(&mut stasis)?;
    stasis.quit()
}

pub fn a_checkpoint_that_does_not_help_or_is_damaged_is_passed_over(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let resumes = |config: &mut GuestConfig| config.on_crash = Policy::Resume;
    let mut stasis = machine(lab, resumes)?.disk(&disk).boot()?;
    let mut numbers = Vec::new();
    for name in ["older", "newer"] {
        stasis.attach("fragile")?;
        step(&mut stasis)?;
        stasis.detach()?;
        numbers.push(stasis.checkpoint("fragile", name)?);
    }
    stasis.attach("fragile")?;
    for number in numbers.iter().rev() {
        grieve(&mut stasis, b'x', &format!("for ever; it goes on from checkpoint {number}"))?;
        step(&mut stasis)?;
    }
    stasis.detach()?;
    stasis.quit()?;

    let mut damaged = tamper::get(&disk, numbers[1])?;
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let newest = tamper::put(&disk, "damaged", &damaged)?;
    let mut stasis = machine(lab, resumes)?.disk(&disk).boot()?;
    stasis.attach("fragile")?;
    step(&mut stasis)?;
    grieve(&mut stasis, b'x', &format!("is not resumed from checkpoint {newest}: "))?;
    let goes_on = format!("for ever; it goes on from checkpoint {}", numbers[1]);
    stasis.qemu.console.wait_for(&goes_on, SILENCE)?;
    step(&mut stasis)?;
    stasis.detach()?;
    neighbour_is_well(&mut stasis)?;
    stasis.quit()
}

pub fn a_guest_that_crashes_again_and_again_is_left_alone(lab: &Lab) -> Result<()> {
    let mut stasis = machine(lab, |config| config.on_crash = Policy::Resume)?.boot()?;
    stasis.attach("fragile")?;
    step(&mut stasis)?;
    for _ in 0..3 {
        // Without a disk there is no checkpoint to resume.
        grieve(&mut stasis, b'x', "is not resumed: ")?;
        stasis.qemu.console.wait_for("for ever; it starts again", SILENCE)?;
        ensure!(step(&mut stasis)? < 20, "it has not started again");
    }
    grieve(&mut stasis, b'x', "and stays off: it was helped 3 times in 60 s")?;
    let guests = stasis.command("guests")?;
    ensure!(guests.iter().any(|line| line.contains("crashed")), "{guests:#?}");
    neighbour_is_well(&mut stasis)?;
    stasis.quit()
}

pub fn a_guest_that_is_to_stop_on_a_reset_stops(lab: &Lab) -> Result<()> {
    let mut stasis = machine(lab, |config| config.on_reset = Policy::Stop)?.boot()?;
    stasis.attach("fragile")?;
    step(&mut stasis)?;
    grieve(&mut stasis, b'r', "has reset its machine")?;
    let guests = stasis.command("guests")?;
    let line = guests.iter().find(|line| line.contains("fragile"));
    ensure!(line.is_some_and(|line| line.contains("off")), "{guests:#?}");
    neighbour_is_well(&mut stasis)?;
    stasis.quit()
}

pub fn a_guest_that_switches_its_machine_off_by_smc_ends_alone(lab: &Lab) -> Result<()> {
    let mut stasis = machine(lab, |config| config.on_crash = Policy::Restart)?.boot()?;
    stasis.attach("fragile")?;
    step(&mut stasis)?;
    grieve(&mut stasis, b'o', "is off")?;
    let guests = stasis.command("guests")?;
    let is_off = guests.iter().any(|line| line.contains("fragile") && line.contains("off"));
    ensure!(is_off, "{guests:#?}");
    neighbour_is_well(&mut stasis)?;
    stasis.quit()
}

pub fn a_watchdog_that_is_not_fed_ends_its_guest(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let watched = |config: &mut GuestConfig| {
        config.watchdog_us = Some(0);
        config.on_crash = Policy::Restart;
    };
    let mut stasis = machine(lab, watched)?.disk(&disk).boot()?;
    stasis.attach("fragile")?;
    // One that is fed is quiet for longer than its time, and so in another life.
    grieve(&mut stasis, b'f', "feeding")?;
    let fed = step(&mut stasis)?;
    while step(&mut stasis)? < fed + 40 {}
    stasis.detach()?;
    stasis.checkpoint("fragile", "fed")?;
    stasis.kill()?;

    let asleep = |config: &mut GuestConfig| {
        watched(config);
        config.autostart = false;
    };
    let mut stasis = machine(lab, asleep)?.disk(&disk).boot()?;
    stasis.resume("fed")?;
    stasis.attach("fragile")?;
    let fed = step(&mut stasis)?;
    ensure!(fed > 40, "it has started again: step {fed}");
    while step(&mut stasis)? < fed + 40 {}
    grieve(&mut stasis, b'w', "has not fed its watchdog; it starts again")?;
    ensure!(step(&mut stasis)? < 20, "it has not started again");
    stasis.detach()?;
    neighbour_is_well(&mut stasis)?;
    stasis.quit()
}

pub fn a_watchdog_that_was_not_configured_is_not_there(lab: &Lab) -> Result<()> {
    let mut stasis = machine(lab, |_| ())?.boot()?;
    stasis.attach("fragile")?;
    step(&mut stasis)?;
    grieve(&mut stasis, b'f', "EXCEPTION")?;
    stasis.detach()?;
    neighbour_is_well(&mut stasis)?;
    stasis.quit()
}

/// The numbers of the checkpoints that nobody has asked for.
fn periodic_ones(stasis: &mut Stasis) -> Result<Vec<u64>> {
    let lines = stasis.command("store")?;
    let ours = lines.iter().filter(|line| line.contains("fragile.auto"));
    Ok(ours.filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect())
}

pub fn periodic_checkpoints_are_made_and_the_newest_kept(lab: &Lab) -> Result<()> {
    const KEEP: usize = 2;
    let disk = lab.disk()?;
    let periodic = Some(Periodic { every_us: 1_000_000, keep: KEEP as u8 });
    let mut stasis = machine(lab, |config| config.periodic = periodic)?.disk(&disk).boot()?;
    let end = Instant::now() + Duration::from_secs(240);
    loop {
        let numbers = periodic_ones(&mut stasis)?;
        ensure!(numbers.len() <= KEEP + 1, "the store has {numbers:?}");
        if numbers.len() >= KEEP && numbers[0] > KEEP as u64 {
            break;
        }
        if Instant::now() > end {
            bail!("the store has {numbers:?}");
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    stasis.attach("fragile")?;
    let last = step(&mut stasis)?;
    // Nothing is stored of a guest that has come to its end.
    grieve(&mut stasis, b'x', "for ever")?;
    stasis.detach()?;
    let at_its_end = periodic_ones(&mut stasis)?;
    std::thread::sleep(Duration::from_millis(2500));
    let later = periodic_ones(&mut stasis)?;
    ensure!(later == at_its_end, "the store had {at_its_end:?}, and has {later:?}");
    stasis.kill()?;

    let mut stasis = machine(lab, |config| config.autostart = false)?.disk(&disk).boot()?;
    stasis.resume("fragile.auto")?;
    stasis.attach("fragile")?;
    let resumed = step(&mut stasis)?;
    ensure!(resumed > 1, "it has started again");
    ensure!(resumed <= last + 1000, "{last} before, {resumed} after");
    stasis.detach()?;
    stasis.quit()
}

pub fn a_periodic_checkpoint_that_fails_is_said_once(lab: &Lab) -> Result<()> {
    let periodic = Some(Periodic { every_us: 1_000_000, keep: 1 });
    let mut stasis = machine(lab, |config| config.periodic = periodic)?.boot()?;
    stasis.attach("fragile")?;
    stasis.qemu.console.wait_for("no periodic checkpoint: ", SILENCE)?;
    // Two more are due meanwhile.
    let from = step(&mut stasis)?;
    while step(&mut stasis)? < from + 60 {}
    stasis.detach()?;
    neighbour_is_well(&mut stasis)?;
    let said = stasis.qemu.console.transcript();
    let said = said.matches("no periodic checkpoint").count();
    ensure!(said == 1, "it is said {said} times");
    stasis.quit()
}
