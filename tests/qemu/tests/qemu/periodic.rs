//! Checkpoints that nobody asks for: how often they are made, what they leave to their guest and to
//! the console, and which are kept.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use stasis_guests::workload::parse;
use stasis_host::config::Periodic;
use stasis_host::periodic;
use stasis_qemu_tests::guests::SILENCE;
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::{Setup, Stasis, guest};

use crate::recovery::{grieve, machine, neighbour_is_well, step};

/// The longest time until checkpoints are made. A loaded host may be slow.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// Returns the plan of checkpoints that come as often as can be configured.
pub fn every_second(keep: u8) -> Periodic {
    Periodic { every_us: 1_000_000, keep, run_share: Periodic::DEFAULT_RUN_SHARE }
}

/// Returns the numbers of the checkpoints of a guest that nobody has asked for.
pub fn periodic_ones(stasis: &mut Stasis, guest: &str) -> Result<Vec<u64>> {
    let lines = stasis.command("store")?;
    let name = periodic::name(guest);
    let ours = lines.iter().filter(|line| line.split_whitespace().nth(1) == Some(&*name));
    Ok(ours.filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect())
}

pub fn periodic_checkpoints_are_made_and_the_newest_kept(lab: &Lab) -> Result<()> {
    const KEEP: u8 = 2;
    let disk = lab.disk()?;
    let periodic = Some(every_second(KEEP));
    let mut stasis = machine(lab, |config| config.periodic = periodic)?.disk(&disk).boot()?;
    let end = Instant::now() + PATIENCE;
    loop {
        let numbers = periodic_ones(&mut stasis, "fragile")?;
        ensure!(numbers.len() <= usize::from(KEEP) + 1, "the store has {numbers:?}");
        if numbers.len() >= KEEP.into() && numbers[0] > KEEP.into() {
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
    let at_its_end = periodic_ones(&mut stasis, "fragile")?;
    std::thread::sleep(Duration::from_millis(2500));
    let later = periodic_ones(&mut stasis, "fragile")?;
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
    let periodic = Some(every_second(1));
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

/// Bytes that a slow disk writes in a second: `counter`, with a working set of 8 MiB, takes longer
/// than the time between two.
pub const SLOW: u32 = 3 << 20;
/// Bytes that a very slow disk writes in a second.
const VERY_SLOW: u32 = 1 << 20;

/// Returns a machine with a disk that writes `speed` bytes in a second, and `counter` under these
/// names, and once more as `free`, of which no checkpoints are made.
pub fn slow_machine<'l>(
    lab: &'l Lab,
    disk: &Path,
    speed: u32,
    names: &[&str],
) -> Result<Setup<'l>> {
    let image = lab.guest("counter")?;
    let mut setup = lab.machine().cpus(3).file("counter", image);
    for name in names.iter().chain(&["free"]) {
        let mut config = guest(name, 32);
        config.image = "counter".to_owned();
        config.periodic = (*name != "free").then(|| every_second(1));
        setup = setup.configured(config, None);
    }
    let drive = format!("if=none,id=slow,format=raw,file={}", disk.display());
    Ok(setup
        .argument("-drive")
        .argument(format!("{drive},throttling.bps-write={speed}"))
        .argument("-device")
        .argument("virtio-blk-device,drive=slow"))
}

/// Returns the last tick of a `counter`.
pub fn last_tick(stasis: &mut Stasis, name: &str) -> Result<u64> {
    let lines = stasis.command(&format!("log {name} 3"))?;
    let tick = lines.iter().rev().find_map(|line| parse(line.trim_start_matches("| ")));
    tick.map(|(tick, _)| tick).with_context(|| format!("{name} has said {lines:?}"))
}

/// Waits until the newest checkpoint has this number at least.
pub fn wait_for_number(stasis: &mut Stasis, number: u64) -> Result<u64> {
    let end = Instant::now() + PATIENCE;
    loop {
        let newest = newest(stasis)?;
        if newest >= number {
            return Ok(newest);
        }
        ensure!(Instant::now() < end, "checkpoint {newest} is the newest still");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Returns the highest number in the store.
fn newest(stasis: &mut Stasis) -> Result<u64> {
    let lines = stasis.command("store")?;
    let periodic = lines.iter().filter(|line| line.contains(".auto"));
    let numbers = periodic.filter_map(|line| line.split_whitespace().next()?.parse().ok());
    Ok(numbers.max().unwrap_or(0))
}

pub fn the_console_waits_for_one_periodic_checkpoint_at_the_most(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let mut stasis = slow_machine(lab, &disk, SLOW, &["a", "b", "c"])?.boot()?;
    let mut last = wait_for_number(&mut stasis, 1)?;
    let mut made = Vec::new();
    for _ in 0..8 {
        let now = newest(&mut stasis)?;
        made.push(now - last);
        last = now;
        // The console is quiet, and so one begins.
        std::thread::sleep(Duration::from_secs(1));
    }
    ensure!(made.iter().sum::<u64>() > 1, "no more were made");
    // More than one is made where this host does not let the test send the next command at once.
    let waited = made.iter().filter(|made| **made > 1).count();
    ensure!(waited < 2, "meanwhile were made, before each command was answered: {made:?}");
    stasis.quit()
}

pub fn a_command_comes_before_a_periodic_checkpoint_that_is_made_then(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let mut stasis = slow_machine(lab, &disk, VERY_SLOW, &["stored"])?.boot()?;
    // Long enough for the first one to have begun, and not for its end.
    std::thread::sleep(Duration::from_secs(4));
    let newest = newest(&mut stasis)?;
    ensure!(newest == 0, "a command waited until checkpoint {newest} was made");
    // The next one is made, whatever is typed.
    wait_for_number(&mut stasis, 1)?;
    let said = stasis.qemu.console.transcript();
    ensure!(!said.contains("no periodic checkpoint"), "that it was given up is no failure");
    stasis.quit()
}
