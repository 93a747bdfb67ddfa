//! Two Linux guests and two real-time guests on two cores, stored and resumed together and apart,
//! again and again.
//!
//! `STASIS_SOAK_CYCLES=1000 cargo xtask test soak` does so a thousand times: docs/soak.md.

mod guests;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::Stasis;

use crate::linux::{dmesg_is_silent, shell};
use guests::{Soaked, boot};

/// The number of cycles, unless the environment says otherwise.
const CYCLES: u32 = 8;
/// The guests that are stored and resumed in a cycle, and in the next: all at once, or these one by
/// one. The list begins again where it ends.
const PARTS: [Part; 8] = [
    Part::Together,
    Part::Apart(&["pulse", "arceos"]),
    Part::Apart(&["first"]),
    Part::Apart(&["pulse"]),
    Part::Apart(&["second", "pulse"]),
    Part::Apart(&["arceos"]),
    Part::Apart(&["pulse"]),
    Part::Apart(&["arceos", "pulse"]),
];
/// The guests with Linux.
const LINUXES: [&str; 2] = ["first", "second"];
/// How a guest with deadlines is resumed: it would miss some while it waits for its memory.
const WHOLE: &str = " --whole";
/// The number of cycles from one line of progress to the next.
const CYCLES_PER_LINE: u32 = 10;
/// The number of cycles from one copy to the next, and from one clone to the next.
const CYCLES_PER_COPY: u32 = 100;
/// The cycle behind which the first copy is made.
const FIRST_COPY: u32 = 1;
/// The cycle behind which the first clone is made.
const FIRST_CLONE: u32 = 3;
/// The longest time of a cycle on a slow machine.
const CYCLE_TIME: Duration = Duration::from_secs(180);

/// The guests that a cycle is about.
#[derive(Clone, Copy)]
enum Part {
    Together,
    Apart(&'static [&'static str]),
}

/// Returns how many cycles a test does that can do any number.
pub fn cycles(unless_said: u32) -> u32 {
    let wanted = std::env::var("STASIS_SOAK_CYCLES").ok().and_then(|count| count.parse().ok());
    wanted.unwrap_or(unless_said)
}

/// The time of the machine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Time {
    /// The host's: both cores run at once, and wait when the host has other things to do.
    Wall,
    /// Instructions: nothing is late but by what Stasis and its guests execute. QEMU executes one
    /// core after the other, in short turns.
    Instructions,
}

pub fn every_tick_is_in_its_window(lab: &Lab) -> Result<()> {
    run(lab, Time::Instructions, cycles(CYCLES))
}

pub fn two_cores_at_once_lose_nothing(lab: &Lab) -> Result<()> {
    run(lab, Time::Wall, cycles(CYCLES))
}

/// Stores and resumes the guests in so many cycles.
pub fn run(lab: &Lab, time: Time, count: u32) -> Result<()> {
    let limit = CYCLE_TIME * (count + 4);
    let (mut stasis, mut guests) = boot(lab, time, limit)?;
    let start = Instant::now();
    for (cycle, part) in (0..count).zip(PARTS.iter().cycle()) {
        let result = match part {
            Part::Together => together(&mut stasis, &mut guests),
            Part::Apart(names) => apart(&mut stasis, &mut guests, names),
        };
        result.map_err(|error| error.context(format!("in cycle {cycle}")))?;
        let number = cycle / CYCLES_PER_COPY;
        match cycle % CYCLES_PER_COPY {
            FIRST_COPY => copy(&mut stasis, &mut guests, number)?,
            FIRST_CLONE => clone(&mut stasis, &mut guests, number)
                .with_context(|| format!("with the clone after cycle {cycle}"))?,
            _ => {}
        }
        let done = cycle + 1;
        if done.is_multiple_of(CYCLES_PER_LINE) || done == count {
            let each = start.elapsed() / done;
            let left = (each * (count - done)).as_secs().div_ceil(60);
            let told: Vec<String> = guests.iter_mut().map(|guest| guest.to_string()).collect();
            println!(
                "{done} of {count} cycles, {:.1} s each, {left} min left: {}",
                each.as_secs_f32(),
                told.join("; ")
            );
        }
    }
    for linux in LINUXES {
        stasis.attach(linux)?;
        shell(&mut stasis, "kill $(jobs -p); wait")?;
        dmesg_is_silent(&mut stasis).with_context(|| format!("guest \"{linux}\""))?;
        stasis.detach()?;
    }
    stasis.quit()
}

/// Stores guests one after the other, each at a moment that is known, and resumes each from there.
fn apart(stasis: &mut Stasis, guests: &mut [Soaked], names: &[&str]) -> Result<()> {
    for guest in guests.iter_mut().filter(|guest| names.contains(&guest.name)) {
        let name = guest.name;
        stasis.command(&format!("pause {name}"))?;
        guest.look(stasis)?;
        let number = stasis.checkpoint(name, "apart")?;
        let whole = if guest.has_deadlines() { WHOLE } else { "" };
        stasis.resume(format!("{number}{whole}"))?;
        stasis.delete_when_loaded(number)?;
    }
    all_go_on(stasis, guests)
}

/// Stores all of them at one instant while they run, lets them go on, and takes them back there.
fn together(stasis: &mut Stasis, guests: &mut [Soaked]) -> Result<()> {
    for guest in guests.iter_mut() {
        guest.look(stasis)?;
    }
    let before: Vec<u64> = guests.iter_mut().map(|guest| guest.sequence().last()).collect();
    // Not the copies, which are off.
    let names: Vec<&str> = guests.iter().map(|guest| guest.name).collect();
    stasis.command(&format!("checkpoint {} together", names.join(",")))?;
    for guest in guests.iter_mut() {
        stasis.command(&format!("pause {}", guest.name))?;
        guest.look(stasis)?;
    }
    stasis.resume(format!("together/{WHOLE}"))?;
    for (guest, before) in guests.iter_mut().zip(before) {
        guest.resumed_behind(before);
    }
    stasis.delete_when_loaded("together/")?;
    all_go_on(stasis, guests)
}

/// Resumes a second `pulse` beside the first, from where the first was, and switches it off again.
fn copy(stasis: &mut Stasis, guests: &mut [Soaked], number: u32) -> Result<()> {
    let Some(pulse) = guests.iter_mut().find(|guest| guest.name == "pulse") else { return Ok(()) };
    stasis.command("pause pulse")?;
    pulse.look(stasis)?;
    let checkpoint = stasis.checkpoint("pulse", "origin")?;
    stasis.command("unpause pulse")?;
    let name = format!("copy-{number}");
    stasis.resume(format!("{checkpoint} as {name}{WHOLE}"))?;
    stasis.delete_when_loaded(checkpoint)?;
    let mut copy = pulse.copy(name.leak());
    all_go_on(stasis, std::slice::from_mut(&mut copy))?;
    stasis.command(&format!("stop {}", copy.name)).map(drop)
}

/// Makes a clone of the second Linux, from where that is. Both go on, and the clone is stored, and
/// resumed from there, while they share memory. Then it is removed.
fn clone(stasis: &mut Stasis, guests: &mut [Soaked], number: u32) -> Result<()> {
    const ORIGINAL: &str = LINUXES[1];
    let Some(original) = guests.iter_mut().find(|guest| guest.name == ORIGINAL) else {
        return Ok(());
    };
    stasis.command(&format!("pause {ORIGINAL}"))?;
    original.look(stasis)?;
    let name: &str = format!("clone-{number}").leak();
    stasis.command(&format!("clone {ORIGINAL} as {name}"))?;
    let mut clone = [original.copy(name)];
    for guest in [ORIGINAL, name] {
        stasis.command(&format!("unpause {guest}"))?;
    }
    all_go_on(stasis, &mut clone)?;
    all_go_on(stasis, guests)?;
    apart(stasis, &mut clone, &[name])?;
    all_go_on(stasis, guests)?;
    stasis.command(&format!("stop {name}"))?;
    stasis.command(&format!("remove {name}"))?;
    all_go_on(stasis, guests)
}

/// Looks at all guests until each has gone on.
fn all_go_on(stasis: &mut Stasis, guests: &mut [Soaked]) -> Result<()> {
    let end = Instant::now() + CYCLE_TIME;
    for guest in guests {
        while !guest.has_gone_on(stasis)? {
            ensure!(Instant::now() < end, "guest \"{}\" stands still", guest.name);
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}
