//! Guests that share a core: by weights, in windows, beside neighbours that never wait, and while
//! others are stored.
//!
//! QEMU counts instructions here, one in a nanosecond, so that how long something takes does not
//! depend on the machine that the test runs on.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stasis_host::config::{CoreConfig, GuestConfig, WindowConfig};
use stasis_qemu_tests::guests::{SILENCE, numbers};
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::{Setup, Stasis, guest};

/// Instructions of a unit of `spinner`'s work.
const UNIT: u64 = 10_000;
/// The time of a spinner, in milliseconds of its own, at which it is looked at.
const LATER_MS: u64 = 600;

/// What a window may lose to the switch at its beginning, in nanoseconds, which are instructions.
const SWITCH_NS: u64 = 5_000;
/// What a window may lose, in nanoseconds, where the console has the core before: its commands run
/// in pieces that are not interrupted.
const PIECE_NS: u64 = 1_000_000;

/// Returns a machine of one core that counts instructions.
fn counting(lab: &Lab) -> Setup<'_> {
    lab.machine().cpus(1).cpu("cortex-a57,cntfrq=1000000000").counting_instructions(0)
}

fn on_core_0(name: &str, image: &str, weight: u16) -> GuestConfig {
    let image = image.to_owned();
    GuestConfig { image, weight, cores: vec![0], ..guest(name, 4) }
}

/// Adds a window of the guest "ticker", and its image.
fn with_ticker<'l>(
    lab: &'l Lab,
    setup: Setup<'l>,
    at_us: u64,
    length_us: u64,
) -> Result<Setup<'l>> {
    let windows = vec![WindowConfig { guest: "ticker".to_owned(), at_us, length_us }];
    Ok(setup
        .configured(on_core_0("ticker", "ticker", 1), Some(lab.guest("ticker")?))
        .core(CoreConfig { number: 0, frame_us: 10_000, windows }))
}

/// Returns the next line of a guest that begins with `start`; only what the guest says itself
/// counts.
fn line_of(stasis: &mut Stasis, guest: &str, start: &str) -> Result<String> {
    stasis.attach(guest)?;
    let line = loop {
        let line = stasis.qemu.console.next_line(SILENCE)?;
        if line.starts_with(start) {
            break line;
        }
    };
    stasis.detach()?;
    Ok(line)
}

/// Returns how much a spinner has done by [`LATER_MS`], in milliseconds of a core that it had for
/// itself.
fn work(stasis: &mut Stasis, guest: &str) -> Result<u64> {
    let line = line_of(stasis, guest, &format!("at {LATER_MS} ms: "))?;
    let [_, units] = numbers(&line)[..] else { anyhow::bail!("{line}") };
    Ok(units * UNIT / 1_000_000)
}

fn about(what: &str, found: u64, expected: u64, slack: u64) -> Result<()> {
    ensure!(found.abs_diff(expected) <= slack, "{what}: {found}, and not about {expected}");
    Ok(())
}

pub fn shares_are_as_the_weights_and_who_waits_has_none(lab: &Lab) -> Result<()> {
    let spinner = lab.guest("spinner")?;
    let mut stasis = counting(lab)
        .configured(on_core_0("light", "spinner", 100), Some(spinner))
        .configured(on_core_0("heavy", "spinner", 300), None)
        .configured(on_core_0("idle", "idle", 10_000), Some(lab.guest("idle")?))
        .boot()?;
    let (light, heavy) = (work(&mut stasis, "light")?, work(&mut stasis, "heavy")?);
    // At the end of its report, a spinner may wait for the other's three slices.
    about("the light one's milliseconds", light, LATER_MS / 4, 15)?;
    about("the heavy one's milliseconds", heavy, LATER_MS * 3 / 4, 15)?;
    stasis.is_alive()
}

pub fn a_window_is_its_guests_whatever_its_neighbour_does(lab: &Lab) -> Result<()> {
    let setup =
        counting(lab).configured(on_core_0("hog", "spinner", 10_000), Some(lab.guest("spinner")?));
    let mut stasis = with_ticker(lab, setup, 3000, 2000)?.boot()?;
    let ran = line_of(&mut stasis, "ticker", "ran ")?;
    let [least, most, away_least, away_most] = numbers(&ran)[..] else { anyhow::bail!("{ran}") };
    for (what, found, expected) in [
        ("the shortest window", least, 2_000_000),
        ("the longest window", most, 2_000_000),
        ("the shortest time away", away_least, 8_000_000),
        ("the longest time away", away_most, 8_000_000),
    ] {
        about(&format!("{what} in {ran:?}"), found, expected, SWITCH_NS)?;
    }
    let late = line_of(&mut stasis, "ticker", "late ")?;
    let most = *numbers(&late).last().context("no number")?;
    ensure!(most <= 8_000_000 + SWITCH_NS, "a tick waits for a window at most: {late}");
    // The other guest has the rest, and no more.
    about("the hog's milliseconds", work(&mut stasis, "hog")?, LATER_MS * 8 / 10, 15)?;
    println!("{ran}; {late}");
    stasis.is_alive()
}

pub fn weights_and_windows_are_changed_while_guests_run(lab: &Lab) -> Result<()> {
    let mut stasis = counting(lab)
        .configured(on_core_0("one", "spinner", 100), Some(lab.guest("spinner")?))
        .configured(on_core_0("two", "spinner", 100), None)
        .boot()?;
    // From one look to the next, in thousandths of the core.
    let shares = |stasis: &mut Stasis| -> Result<[u64; 2]> {
        let table = stasis.command("top 1 --json")?;
        let rows = table.iter().map(|row| serde_json::from_str::<serde_json::Value>(row));
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        Ok(["one", "two"].map(|guest| {
            let row = rows.iter().find(|row| row["guest"] == guest);
            row.and_then(|row| row["share"].as_f64()).map_or(0, |share| (share * 1000.0) as u64)
        }))
    };
    let look = |stasis: &mut Stasis, expected: [u64; 2]| -> Result<()> {
        let found = shares(stasis)?;
        println!("{found:?}");
        std::iter::zip(found, expected)
            .try_for_each(|(found, expected)| about("thousandths", found, expected, 15))
    };
    look(&mut stasis, [500, 500])?;
    stasis.command("weight one 300")?;
    look(&mut stasis, [750, 250])?;
    stasis.command("windows 0 10ms two:1ms:6ms")?;
    look(&mut stasis, [400, 600])?;
    let windows = stasis.command("windows --json")?.join("");
    ensure!(
        windows
            == r#"{"core":0,"frame_us":10000,"guest":"two","at_us":1000,"length_us":6000,"missed":0,"late_us":null}"#,
        "{windows}"
    );
    for (refused, word) in [
        ("windows 0 10ms two:5ms:6ms", "after the frame's end"),
        ("windows 0 10ms nobody:5ms:1ms", "nobody"),
        ("windows 0 10ms two:0ms:10ms", "console"),
        ("windows 7 none", "no core 7"),
        ("clone two as three", "window"),
        ("weight one,nobody 3", "nobody"),
    ] {
        stasis.refused_for(refused, &[word])?;
    }
    stasis.command("windows 0 none")?;
    look(&mut stasis, [750, 250])?;
    stasis.command("weight all 100")?;
    look(&mut stasis, [500, 500])?;
    stasis.is_alive()
}

pub fn a_window_is_kept_while_a_neighbour_is_stored_and_resumed(lab: &Lab) -> Result<()> {
    const MOST_ROUNDS: usize = 10;
    let disk = lab.disk()?;
    let mut hog = on_core_0("hog", "spinner", 100);
    hog.memory = 64 << 20;
    // Most of its memory is zeros, and some is not: each takes its time.
    hog.initrd = Some("ballast".to_owned());
    let setup = counting(lab)
        .disk(&disk)
        .file("ballast", vec![0xb5; 8 << 20])
        .configured(hog, Some(lab.guest("spinner")?))
        .configured(on_core_0("other", "spinner", 100), None);
    let mut stasis =
        with_ticker(lab, setup, 3000, 2000)?.time_limit(Duration::from_secs(900)).boot()?;
    let first = line_of(&mut stasis, "ticker", "ran ")?;
    // Until it has looked at twenty windows in this time alone: the first line may have begun
    // before.
    let mut lines = Vec::new();
    for _ in 0..MOST_ROUNDS {
        for _ in 0..10 {
            let number = stasis.checkpoint("hog", "aside")?;
            stasis.resume(number)?;
            stasis.delete_when_loaded(number)?;
        }
        stasis.attach("ticker")?;
        let said = stasis.detach()?;
        lines.extend(
            said.lines().map(str::trim).filter(|line| line.starts_with("ran ")).map(str::to_owned),
        );
        if lines.len() >= 2 {
            break;
        }
    }
    ensure!(lines.len() >= 2, "it did not run while its neighbour was stored: {lines:?}");
    let last = line_of(&mut stasis, "ticker", "ran ")?;
    for line in lines.iter().chain([&first, &last]) {
        let [least, most, away_least, away_most] = numbers(line)[..] else {
            anyhow::bail!("{line}")
        };
        about(line, least, 2_000_000, PIECE_NS)?;
        about(line, most, 2_000_000, PIECE_NS)?;
        about(line, away_least, 8_000_000, PIECE_NS)?;
        about(line, away_most, 8_000_000, PIECE_NS)?;
    }
    // And the guest that was stored goes on, and so does the one that was not.
    ensure!(work(&mut stasis, "other")? > 0);
    line_of(&mut stasis, "hog", "at ").map(drop)
}

pub fn debug_registers_are_each_guests_own(lab: &Lab) -> Result<()> {
    const ROUNDS: u64 = 4;
    let mut stasis = counting(lab)
        .configured(on_core_0("one", "watcher", 100), Some(lab.guest("watcher")?))
        .configured(on_core_0("two", "watcher", 100), None)
        // Which never touches them.
        .configured(on_core_0("other", "spinner", 100), Some(lab.guest("spinner")?))
        .boot()?;
    for guest in ["one", "two"] {
        stasis.attach(guest)?;
        loop {
            let line = stasis.qemu.console.next_line(SILENCE)?;
            ensure!(!line.contains("FAULT"), "{guest}: {line}");
            if line.starts_with("round ") && numbers(&line)[0] >= ROUNDS {
                break;
            }
        }
        stasis.detach()?;
    }
    Ok(())
}
