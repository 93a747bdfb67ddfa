//! Memory that guests share, and its doorbells.

use anyhow::{Context, Result, ensure};
use stasis_guest::shared::SharedRegion;
use stasis_guests::ring::{Model, parse};
use stasis_qemu_tests::guests::{SILENCE, sound, transcript};
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::{Setup, Stasis, guest};
use stasis_qemu_tests::tamper;
use stasis_state::device::SharedMemory;
use xtask::initramfs;

use crate::linux;

/// Returns players of `ring`, each on a core of its own.
fn players<'l>(lab: &'l Lab, names: &[&str]) -> Result<Setup<'l>> {
    let mut machine = lab.machine().cpus(names.len() as u32 + 1);
    for (core, name) in (1..).zip(names) {
        let mut config = guest(name, 4);
        config.image = "ring".to_owned();
        config.cores = vec![core];
        let image = (core == 1).then(|| lab.guest("ring")).transpose()?;
        machine = machine.configured(config, image);
    }
    Ok(machine.shared(region(names)))
}

/// Returns a region of the size that `ring` expects, or, for more than two guests, of a block of
/// stage 2 and a part of one.
fn region(names: &[&str]) -> SharedRegion {
    let guests = names.iter().map(|name| (*name).to_owned()).collect();
    let size = if names.len() > 2 { 3 << 20 } else { 1 << 20 };
    SharedRegion { name: "table".to_owned(), size, guests }
}

/// Watches a player tell of its next rounds, which must be right, and none come without a bell: the
/// last of them.
fn rounds(stasis: &mut Stasis, name: &str, count: usize) -> Result<u32> {
    let mut model = Model::default();
    let (mut last, mut seen) = (None, 0);
    stasis.attach(name)?;
    while seen < count {
        let line = stasis.qemu.console.next_line(SILENCE)?;
        sound(&line)?;
        ensure!(!line.contains("without a bell"), "{name} says \"{line}\"");
        let Some((round, hash)) = parse(&line) else { continue };
        ensure!(last.is_none_or(|last| last < round), "{name}: round {round} after {last:?}");
        let expected = model.hash_before(round).context("the rounds go back")?;
        ensure!(hash == expected, "{name}: round {round} has {hash:08x}, not {expected:08x}");
        (last, seen) = (Some(round), seen + 1);
    }
    stasis.detach()?;
    last.context("no round was asked for")
}

/// Returns the next round that a player tells of, behind a line. The bell for it may have gone to
/// the guest that it has replaced.
fn next_round(stasis: &mut Stasis, name: &str, behind: Option<&str>) -> Result<u32> {
    stasis.attach(name)?;
    if let Some(line) = behind {
        stasis.qemu.console.find_line(line, SILENCE, |found| (found == line).then_some(()))?;
    }
    let next = |line: &str| parse(line);
    let (round, hash) = stasis.qemu.console.find_line("a round", SILENCE, next)?;
    stasis.detach()?;
    let expected = Model::default().hash_before(round);
    ensure!(expected == Some(hash), "{name}: round {round} has {hash:08x}, not {expected:08x?}");
    Ok(round)
}

/// Returns the last round that a player has told of.
fn last_round(stasis: &mut Stasis, name: &str) -> Result<u32> {
    let log = stasis.command(&format!("log {name} 100"))?;
    let round = log.iter().rev().find_map(|line| parse(line.strip_prefix("| ")?));
    Ok(round.with_context(|| format!("no round in {log:#?}"))?.0)
}

pub fn three_guests_ring_each_other_and_are_resumed_as_a_set(lab: &Lab) -> Result<()> {
    let names = ["one", "two", "three"];
    let mut stasis = players(lab, &names)?.disk(&lab.disk()?).boot()?;
    for name in names {
        rounds(&mut stasis, name, 2)?;
    }
    // The guests go on while they are written: the instant lies between the two.
    let before = last_round(&mut stasis, "one")?;
    stasis.command("checkpoint all evening")?;
    let stored = last_round(&mut stasis, "one")?;
    while rounds(&mut stasis, "two", 3)? < stored + 2000 {}
    // In their own machine: memory goes back with those that use it, and what each has alone comes
    // while it runs.
    let lines = stasis.command("resume evening/")?;
    let on_demand = lines.iter().filter(|line| line.contains(" pages to load, ")).count();
    ensure!(on_demand == names.len(), "{lines:?}");
    let back = rounds(&mut stasis, "one", 1)?;
    ensure!(back < stored + 1000, "round {back} comes long after {stored}");
    for name in names {
        rounds(&mut stasis, name, 3)?;
    }
    stasis.kill()?;
    // In another.
    let disk = lab.path("disk.img");
    let mut stasis = players(lab, &names)?.disk(&disk).boot()?;
    stasis.command("resume evening/")?;
    for name in names {
        let round = rounds(&mut stasis, name, 3)?;
        ensure!(round > before, "{name}: round {round} comes before {before}");
    }
    // Where nobody shares it, they are refused.
    stasis.kill()?;
    let mut stasis = lab.machine().no_archive().disk(&disk).boot()?;
    stasis.refused_for("resume evening/", &["\"table\"", "\"one\"", "none of those"])?;
    stasis.quit()
}

pub fn a_guest_resumed_alone_finds_the_memory_as_the_others_have_it(lab: &Lab) -> Result<()> {
    let mut stasis = players(lab, &["one", "two"])?.disk(&lab.disk()?).boot()?;
    rounds(&mut stasis, "one", 2)?;
    // The guest must be stored while it waits: in the midst of its turn it would go on with that
    // one, long after the other has gone on.
    stasis.command("pause two")?;
    let number = stasis.checkpoint("one", "alone")?;
    stasis.command("unpause two")?;
    let stored = last_round(&mut stasis, "one")?;
    while rounds(&mut stasis, "two", 3)? < stored + 2000 {}
    let before = last_round(&mut stasis, "two")?;
    let lines = stasis.command(&format!("resume {number}"))?.join("\n");
    ensure!(lines.contains("shared memory \"table\" stays as guest \"two\" has it"), "{lines}");
    let round = next_round(&mut stasis, "one", None)?;
    ensure!(round > before, "round {round} comes before {before}");

    // When the others are off, the memory is that of the checkpoint.
    stasis.command("stop two")?;
    let lines = stasis.command(&format!("resume {number}"))?.join("\n");
    ensure!(!lines.contains("stays as"), "{lines}");
    stasis.command("start two")?;
    let round = next_round(&mut stasis, "two", Some("guest 1 of 2"))?;
    ensure!(round < before, "round {round} comes after {before}");

    stasis.refused_for(&format!("resume {number} as twin"), &["\"table\"", "\"twin\""])?;
    stasis.quit()
}

pub fn damaged_memory_that_guests_share_is_known_before_anything_is_changed(
    lab: &Lab,
) -> Result<()> {
    let disk = lab.disk()?;
    let mut stasis = players(lab, &["one", "two"])?.disk(&disk).boot()?;
    rounds(&mut stasis, "one", 2)?;
    let number = stasis.checkpoint("one", "alone")?;
    stasis.quit()?;
    let mut bytes = tamper::get(&disk, number)?;
    let state = tamper::state(&bytes)?;
    let mut regions = state.devices.shared.iter().flat_map(SharedMemory::ranges);
    let region = regions.next().context("the guest shares nothing")?.start;
    let at = tamper::page_at(&bytes, region)?;
    bytes[at + 100] ^= 4;
    let bad = tamper::put(&disk, "bad", &bytes)?;
    let mut stasis = players(lab, &["one", "two"])?.disk(&disk).boot()?;
    rounds(&mut stasis, "one", 2)?;
    let place = format!("its memory at {region:#x} was not loaded");
    stasis.refused_for(&format!("resume {bad}"), &[&place, "CRC"])?;
    rounds(&mut stasis, "one", 2)?;
    rounds(&mut stasis, "two", 2)?;
    stasis.quit()
}

pub fn what_nobody_should_do_with_a_doorbell_harms_nobody(lab: &Lab) -> Result<()> {
    let mut stasis = players(lab, &["one", "two"])?.boot()?;
    rounds(&mut stasis, "two", 1)?;
    stasis.attach("one")?;
    stasis.qemu.console.send(b"h")?;
    let lines = transcript(&mut stasis.qemu.console, |_| None)?;
    stasis.detach()?;
    for expected in [
        "behind the memory: a fault",
        "into the gap, written: a fault",
        "where a second region would be: a fault",
        "a second doorbell: a fault",
        "the doorbell askew: a fault",
        "nobody, rung: no fault",
        "far too many, rung: no fault",
        "registers that there are not: no fault",
        "registers that are read only: no fault",
        "it is guest 0 of 2 still",
        "the memory, executed: a fault",
    ] {
        ensure!(lines.iter().any(|line| line == expected), "no \"{expected}\" in {lines:#?}");
    }
    rounds(&mut stasis, "one", 2)?;
    rounds(&mut stasis, "two", 2)?;
    stasis.quit()
}

pub fn linux_asks_a_guest_through_shared_memory(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let mut config = guest("rt", 4);
    config.image = "ring".to_owned();
    let machine = || -> Result<Setup> {
        let machine = linux::machine(lab, 1)?.configured(config.clone(), Some(lab.guest("ring")?));
        Ok(machine.cpus(3).disk(&disk).shared(region(&["linux", "rt"])))
    };
    let mut stasis = machine()?.boot()?;
    stasis.attach("linux")?;
    stasis.qemu.console.wait_for(initramfs::PROMPT, linux::BOOT_TIME)?;
    linux::look_at_dmesg(&mut stasis)?;
    let node = "/proc/device-tree/shared-memory@10000000";
    let found = linux::shell(&mut stasis, &format!("cat {node}/label; echo; ls {node}"))?;
    ensure!(found.iter().any(|line| line.contains("table")), "the node says {found:?}");
    ask(&mut stasis, 41)?;
    stasis.detach()?;
    stasis.command("checkpoint all both")?;
    stasis.kill()?;
    let mut stasis = machine()?.boot()?;
    stasis.command("resume both/")?;
    stasis.attach("linux")?;
    // The answer of before is still there, and the next one comes.
    let before = linux::shell(&mut stasis, "devmem 0x10000084")?;
    ensure!(before.iter().any(|line| line.contains("0x0000002A")), "{before:?}");
    ask(&mut stasis, 1000)?;
    stasis.detach()?;
    stasis.quit()
}

/// Makes Linux ask `rt`, and wait for its ring.
fn ask(stasis: &mut Stasis, number: u32) -> Result<()> {
    let steps = [
        format!("devmem 0x10000080 32 {number}"),
        "devmem 0x09110008 32 1".to_owned(),
        "while [ $(devmem 0x0911000c) = 0x00000000 ]; do :; done".to_owned(),
        "devmem 0x0911000c; devmem 0x10000084; devmem 0x0911000c 32 2; devmem 0x0911000c"
            .to_owned(),
    ];
    let lines = linux::shell(stasis, &steps.join("; "))?.join(" ");
    let expected = format!("0x00000002 0x{:08X} 0x00000000", number + 1);
    ensure!(lines.contains(&expected), "Linux finds \"{lines}\", not \"{expected}\"");
    Ok(())
}
