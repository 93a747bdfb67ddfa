//! Several guests stored at one instant, and one guest as two.

use anyhow::{Context, Result, ensure};
use stasis_guests::workload::{Model, parse};
use stasis_qemu_tests::guests::ticks;
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::{Stasis, guest};

const THREE: [&str; 3] = ["counter", "second", "third"];

fn three(lab: &Lab) -> Result<Stasis> {
    let mut machine = lab.machine().cpus(4).disk(&lab.disk()?);
    for name in THREE {
        let mut config = guest(name, 16);
        config.image = "counter".to_owned();
        let image = (name == "counter").then(|| lab.guest("counter")).transpose()?;
        machine = machine.configured(config, image);
    }
    machine.boot()
}

/// Returns the first of three ticks of a counter that nobody has seen.
fn tick(stasis: &mut Stasis, name: &str) -> Result<u64> {
    stasis.attach(name)?;
    let ticks = ticks(&mut stasis.qemu.console, &mut Model::new(), 3)?;
    stasis.detach()?;
    Ok(ticks[0].0)
}

/// Returns the last tick that a guest has told.
fn last_tick(stasis: &mut Stasis, name: &str) -> Result<u64> {
    let log = stasis.command(&format!("log {name}"))?;
    let last = log.iter().rev().find_map(|line| parse(line.strip_prefix("| ")?));
    Ok(last.with_context(|| format!("no tick in {log:#?}"))?.0)
}

pub fn three_guests_are_stored_at_one_instant_and_resumed(lab: &Lab) -> Result<()> {
    let mut stasis = three(lab)?;
    for name in THREE {
        tick(&mut stasis, name)?;
        stasis.command(&format!("pause {name}"))?;
    }
    let mut stored = Vec::new();
    for name in THREE {
        stored.push(last_tick(&mut stasis, name)?);
    }
    let lines = stasis.command("checkpoint all evening")?.join("\n");
    for (number, name) in (1..).zip(THREE) {
        let line = format!("checkpoint {number} \"evening/{name}\": ");
        ensure!(lines.contains(&line), "no \"{line}\" in:\n{lines}");
    }
    stasis.refused_for("checkpoint all evening", &["evening", "already"])?;
    for name in THREE {
        stasis.command(&format!("unpause {name}"))?;
    }
    // Far beyond what was stored.
    for (name, stored) in THREE.iter().zip(&stored) {
        while tick(&mut stasis, name)? < stored + 50 {}
    }
    let lines = stasis.command("checkpoint second,third")?.join("\n");
    ensure!(lines.contains("\"set-4/second\"") && lines.contains("\"set-4/third\""), "{lines}");
    let lines = stasis.command("resume evening/")?.join("\n");
    for (name, stored) in THREE.iter().zip(&stored) {
        ensure!(lines.contains(&format!("guest \"{name}\" goes on")), "{name}:\n{lines}");
        // The guest tells every tenth, and may have been in the midst of one.
        let now = tick(&mut stasis, name)?;
        ensure!((*stored..=stored + 20).contains(&now), "{name}: {now} comes after {stored}");
    }
    // Each alone, too.
    stasis.resume("set-4/second")?;
    tick(&mut stasis, "second")?;
    // What has a name like a member's is none.
    stasis.checkpoint("counter", "evening/late")?;
    let lines = stasis.command("delete evening/second")?.join("\n");
    ensure!(lines.contains("\"evening/\" has 2 of 3"), "{lines}");
    stasis.refused_for("resume evening/", &["2 of 3", "evening/counter, evening/third"])?;
    stasis.command("resume evening/third --whole")?;
    stasis.command("delete evening/")?;
    stasis.resume("evening/late")?;
    stasis.refused_for("resume evening/", &["no set"])?;
    ensure!(stasis.command("store")?.join("\n").contains("set-4/third"), "the other set is gone");
    stasis.quit()
}

pub fn a_set_comes_to_a_machine_that_has_none_of_it(lab: &Lab) -> Result<()> {
    let mut stasis = three(lab)?;
    for name in THREE {
        tick(&mut stasis, name)?;
    }
    stasis.command("checkpoint all evening")?;
    stasis.kill()?;
    let disk = lab.path("disk.img");
    let mut stasis = lab.machine().cpus(4).no_archive().disk(&disk).boot()?;
    stasis.command("resume evening/")?;
    for name in THREE {
        tick(&mut stasis, name)?;
    }
    stasis.quit()
}

pub fn a_set_that_does_not_fit_is_not_there_in_part(lab: &Lab) -> Result<()> {
    // Two of the three would fit.
    let disk = lab.disk_of(8 << 20)?;
    let mut machine = lab.machine().cpus(4).disk(&disk);
    for name in ["handler", "idle", "counter"] {
        let memory = if name == "counter" { 64 } else { 4 };
        machine = machine.configured(guest(name, memory), Some(lab.guest(name)?));
    }
    let mut stasis = machine.boot()?;
    tick(&mut stasis, "counter")?;
    stasis.command("checkpoint handler,idle first")?;
    let before = stasis.command("store")?;
    let mut cycle = 0;
    let reason = loop {
        cycle += 1;
        ensure!(cycle < 200, "the disk never fills");
        match stasis.qemu.console.command(&format!("checkpoint idle,handler,counter n{cycle}")) {
            Ok(_) => {}
            Err(xtask::console::ConsoleError::Refused { reason, .. }) => break reason,
            Err(other) => return Err(other.into()),
        }
    };
    let whose = |name| reason.starts_with(&format!("guest \"{name}\": "));
    let named = ["idle", "handler", "counter"].into_iter().any(whose);
    ensure!(named && reason.contains("the store is full"), "it was refused with \"{reason}\"");
    // No number was said of what is not there.
    let announced = format!("\"n{cycle}/");
    ensure!(!stasis.qemu.console.transcript().contains(&announced), "{announced} was announced");
    let after = stasis.command("store")?;
    let of_last = |line: &&String| line.contains(&format!(" n{cycle}/"));
    ensure!(after.iter().find(of_last).is_none(), "a part of it is there: {after:#?}");
    ensure!(after.len() == before.len() + 3 * (cycle - 1), "{before:#?} and then {after:#?}");
    stasis.quit()
}

pub fn a_second_copy_runs_beside_the_first(lab: &Lab) -> Result<()> {
    let mut stasis = lab.machine().guest("counter")?.cpus(4).disk(&lab.disk()?).boot()?;
    tick(&mut stasis, "counter")?;
    let number = stasis.checkpoint("counter", "origin")?;
    stasis.command(&format!("resume {number} as twin"))?;
    stasis.refused_for("resume origin as twin", &["twin", "already"])?;
    stasis.refused_for("resume origin as counter", &["counter", "already"])?;
    stasis.refused_for("resume origin as 7", &["7"])?;
    stasis.refused_for("resume origin as a/b", &["'/'"])?;
    let guests = stasis.command("guests")?.join("\n");
    ensure!(guests.contains("counter") && guests.contains("twin"), "{guests}");
    for name in ["counter", "twin", "counter", "twin"] {
        tick(&mut stasis, name)?;
    }
    // Each has memory and time of its own.
    stasis.command("pause counter")?;
    let first = tick(&mut stasis, "twin")?;
    ensure!(tick(&mut stasis, "twin")? > first, "the copy stands still with the first");
    // The copy is a guest like any other: it is stored and resumed by its new name.
    stasis.checkpoint("twin", "again")?;
    stasis.resume("again")?;
    tick(&mut stasis, "twin")?;
    stasis.command("unpause counter")?;
    tick(&mut stasis, "counter")?;
    stasis.quit()
}

pub fn copies_that_are_removed_leave_their_place_to_others(lab: &Lab) -> Result<()> {
    // More cycles than there are VMIDs, and more memory in all than the machine has.
    const CYCLES: usize = 300;
    let machine = lab.machine().guest("counter")?.guest("idle")?.memory("256M");
    let mut stasis = machine.disk(&lab.disk()?).boot()?;
    tick(&mut stasis, "counter")?;
    stasis.checkpoint("counter", "busy")?;
    stasis.checkpoint("idle", "still")?;
    stasis.refused_for("remove counter", &["counter", "running"])?;
    for cycle in 0..CYCLES {
        stasis.command("resume still as twin")?;
        let guests = stasis.command("guests --json")?;
        let twin = "{\"number\":2,\"name\":\"twin\",\"state\":\"running\"";
        ensure!(guests.len() == 3 && guests[2].starts_with(twin), "cycle {cycle}: {guests:#?}");
        stasis.command(if cycle % 2 == 0 { "pause twin" } else { "stop twin" })?;
        stasis.command("remove 2")?;
    }
    stasis.refused_for("remove twin", &["no guest", "twin"])?;
    // Another guest has the number, and finds nothing of the one before it.
    for _ in 0..3 {
        stasis.command("resume busy as twin")?;
        tick(&mut stasis, "twin")?;
        stasis.command("stop twin")?;
        stasis.command("remove twin")?;
    }
    // One that is configured can be started anew; its number is the lowest that is free.
    stasis.command("resume busy as twin")?;
    stasis.command("stop idle")?;
    stasis.command("remove idle")?;
    stasis.command("start idle")?;
    let guests = stasis.command("guests")?.join("\n");
    ensure!(guests.contains("1  idle     running"), "{guests}");
    for name in ["counter", "twin"] {
        tick(&mut stasis, name)?;
    }
    stasis.quit()
}
