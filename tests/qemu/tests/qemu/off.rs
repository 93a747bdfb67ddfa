//! A guest that is off, or has reset its machine, is so when it is resumed.

use anyhow::{Result, ensure};
use stasis_host::config::Policy;
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::Stasis;

use crate::recovery::{grieve, machine, neighbour_is_well, step};

/// Returns what the console calls the state of `fragile`.
fn state(stasis: &mut Stasis) -> Result<String> {
    let guests = stasis.command("guests --json")?;
    let line = guests.into_iter().find(|line| line.contains("\"fragile\"")).unwrap_or_default();
    let state = line.split("\"state\":\"").nth(1).and_then(|rest| rest.split('"').next());
    Ok(state.unwrap_or_default().to_owned())
}

/// Resumes a checkpoint or a set, in which `fragile` is off.
fn resume_off(stasis: &mut Stasis, which: &str) -> Result<()> {
    let lines = stasis.command(&format!("resume {which}"))?;
    let said = "guest \"fragile\" is off, as it was when it was stored: ";
    ensure!(lines.iter().any(|line| line.starts_with(said)), "{which}: {lines:#?}");
    let state = state(stasis)?;
    ensure!(state == "off", "{which}: it is {state}");
    Ok(())
}

/// Starts `fragile`, and makes sure that it begins anew.
fn start(stasis: &mut Stasis) -> Result<()> {
    stasis.command("start fragile")?;
    stasis.attach("fragile")?;
    let first = step(stasis)?;
    ensure!(first < 20, "it has not started again: step {first}");
    stasis.detach().map(drop)
}

pub fn a_guest_that_is_off_stays_off_when_it_is_resumed(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let mut stasis = machine(lab, |config| {
        config.on_reset = Policy::Stop;
        config.on_crash = Policy::Resume;
    })?
    .disk(&disk)
    .boot()?;
    stasis.attach("fragile")?;
    step(&mut stasis)?;
    stasis.detach()?;
    let running = stasis.checkpoint("fragile", "running")?;
    for (how, said, name) in [(b'o', "is off", "off"), (b'r', "has reset its machine", "reset")] {
        stasis.attach("fragile")?;
        step(&mut stasis)?;
        grieve(&mut stasis, how, said)?;
        stasis.checkpoint("fragile", name)?;
        stasis.command(&format!("checkpoint all set-{name}"))?;
        // In the place of one that is off, of one that runs, and with one that goes on.
        resume_off(&mut stasis, name)?;
        start(&mut stasis)?;
        resume_off(&mut stasis, name)?;
        start(&mut stasis)?;
        resume_off(&mut stasis, &format!("set-{name}/"))?;
        neighbour_is_well(&mut stasis)?;
        start(&mut stasis)?;
    }
    // None of these is one to go on from.
    stasis.attach("fragile")?;
    step(&mut stasis)?;
    grieve(&mut stasis, b'x', &format!("for ever; it goes on from checkpoint {running}"))?;
    step(&mut stasis)?;
    stasis.detach()?;
    stasis.quit()?;

    let mut stasis = lab.machine().no_archive().disk(&disk).boot()?;
    resume_off(&mut stasis, "off")?;
    stasis.refused_for("start fragile", &["boot archive"])?;
    stasis.resume("running")?;
    stasis.attach("fragile")?;
    step(&mut stasis)?;
    stasis.detach()?;
    stasis.quit()
}
