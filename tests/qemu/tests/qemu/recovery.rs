//! Guests that stop by themselves, and what is done about it. Their neighbours notice nothing.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use stasis_guests::workload::Model;
use stasis_host::config::{GuestConfig, Policy};
use stasis_qemu_tests::guests::{SILENCE, ticks};
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::{Setup, Stasis, guest};
use stasis_qemu_tests::tamper;

use crate::periodic::{PATIENCE, every_second, periodic_ones};

/// Returns a machine with `fragile`, configured by `change`, and a neighbour.
pub fn machine<'l>(lab: &'l Lab, change: impl FnOnce(&mut GuestConfig)) -> Result<Setup<'l>> {
    let mut config = guest("fragile", 32);
    change(&mut config);
    let image = lab.guest("fragile")?;
    Ok(lab.machine().cpus(3).guest("counter")?.configured(config, Some(image)))
}

/// Returns the next step that `fragile` prints.
pub fn step(stasis: &mut Stasis) -> Result<u64> {
    loop {
        let line = stasis.qemu.console.next_line(SILENCE)?;
        if let Some(step) = line.strip_prefix("step ") {
            return step.parse().with_context(|| format!("\"{line}\""));
        }
    }
}

/// Makes `fragile`, which the terminal is attached to, come to grief, and waits for Stasis to say
/// so.
pub fn grieve(stasis: &mut Stasis, how: u8, said: &str) -> Result<()> {
    stasis.qemu.console.send(&[how])?;
    stasis.qemu.console.wait_for(said, SILENCE).map(drop).map_err(Into::into)
}

/// Checks that the neighbour has noticed nothing.
pub fn neighbour_is_well(stasis: &mut Stasis) -> Result<()> {
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

/// Returns the number of the checkpoint that `fragile`, which the terminal is attached to, goes on
/// from when it crashes.
fn crash(stasis: &mut Stasis) -> Result<u64> {
    grieve(stasis, b'x', "for ever; it goes on from checkpoint ")?;
    let line = stasis.qemu.console.next_line(SILENCE)?;
    let digits = line.chars().take_while(char::is_ascii_digit).collect::<String>();
    step(stasis)?;
    digits.parse().with_context(|| format!("\"{line}\""))
}

/// Waits until `fragile`, which the terminal is not attached to, has periodic checkpoints that
/// `enough` finds to be so. Returns their numbers.
fn wait_for_periodic(stasis: &mut Stasis, enough: impl Fn(&[u64]) -> bool) -> Result<Vec<u64>> {
    let end = Instant::now() + PATIENCE;
    loop {
        let numbers = periodic_ones(stasis, "fragile")?;
        if enough(&numbers) {
            return Ok(numbers);
        }
        ensure!(Instant::now() < end, "the store has {numbers:?}");
        std::thread::sleep(Duration::from_millis(300));
    }
}

pub fn periodic_checkpoints_of_an_ill_guest_neither_replace_nor_push_out_older_ones(
    lab: &Lab,
) -> Result<()> {
    const KEEP: u8 = 2;
    let disk = lab.disk()?;
    let mut stasis = machine(lab, |config| {
        config.on_crash = Policy::Resume;
        config.periodic = Some(every_second(KEEP));
        // Longer than the test takes, so that the guest is never well.
        config.well_after_us = 3_600_000_000;
    })?
    .disk(&disk)
    .boot()?;
    let before = wait_for_periodic(&mut stasis, |numbers| numbers.len() >= KEEP.into())?;
    stasis.attach("fragile")?;
    let first = crash(&mut stasis)?;
    stasis.detach()?;
    // More than are kept.
    let ill = |numbers: &[u64]| numbers.iter().filter(|number| **number > first).count();
    wait_for_periodic(&mut stasis, |numbers| {
        numbers.iter().any(|number| *number > first + u64::from(KEEP))
    })?;
    stasis.attach("fragile")?;
    let second = crash(&mut stasis)?;
    ensure!(second < first, "it went on from {first}, which did not help, and then from {second}");
    stasis.detach()?;
    let after = periodic_ones(&mut stasis, "fragile")?;
    ensure!(after.contains(&before[0]), "the store had {before:?}, and has {after:?}");
    ensure!(
        ill(&after) <= KEEP.into(),
        "{after:?} are many, from after the trouble began at {first}"
    );
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
    // Before its first step, the guest sets up its UART, and drops what was typed.
    step(&mut stasis)?;
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
