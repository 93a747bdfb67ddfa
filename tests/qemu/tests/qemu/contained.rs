//! What a guest does to its own machine is its own affair.
//!
//! One by one, `hostile` makes its attacks beside a real-time guest that has windows on the same
//! core. QEMU counts instructions there, so that whether the windows are kept does not depend on
//! the machine that the test runs on.

use std::time::Duration;

use anyhow::{Result, ensure};
use stasis_guests::workload::Model;
use stasis_host::config::{CoreConfig, DiskConfig, GuestConfig, NetworkConfig, WindowConfig};
use stasis_qemu_tests::guests::{SILENCE, numbers, sound, ticks, transcript};
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::{Setup, Stasis, TURN_US, guest};

use crate::on_demand_devices::{self, GUEST, answers};
use crate::same_machine;

/// Nanoseconds that an instruction takes here.
const INSTRUCTION_NS: u64 = 4;
/// The windows of the real-time guest, in nanoseconds, and the frame that they are in.
const WINDOW_NS: u64 = 2_000_000;
const FRAME_NS: u64 = 10_000_000;
/// What a window may lose to the switch at its beginning, which ends whatever the neighbour is at,
/// in nanoseconds.
const SWITCH_NS: u64 = 10_000 * INSTRUCTION_NS;
/// What a window may lose to the walk over a chain of 256 descriptors, which nothing ends.
const CHAIN_NS: u64 = 25_000 * INSTRUCTION_NS;
/// What a window may lose to a line of the log, which tells of a guest's attack and which nothing
/// ends: some 32,000 instructions, more than it should be.
const LINE_NS: u64 = 40_000 * INSTRUCTION_NS;
/// The longest silence of the hostile guest: an attack takes 800 ms of its time, or as long as it
/// takes once.
const ATTACK_TIME: Duration = Duration::from_secs(400);

fn hostile(cores: &[u32]) -> GuestConfig {
    GuestConfig { vcpus: 2, cores: cores.to_vec(), ..guest("hostile", 32) }
}

pub fn beside_windows(lab: &Lab) -> Result<Setup<'_>> {
    beside_windows_of(lab, 1, &[0])
}

/// Returns a machine of `cpus` cores, with the hostile guest on `cores` and the guest with the
/// windows on core 0.
fn beside_windows_of<'l>(lab: &'l Lab, cpus: u32, cores: &[u32]) -> Result<Setup<'l>> {
    let setup = lab.machine().configured(hostile(cores), Some(lab.guest("hostile")?));
    with_windows(setup, lab, cpus)
}

/// Makes it a machine of `cpus` cores that counts instructions, and adds the guest with the windows
/// on core 0.
pub fn with_windows<'l>(setup: Setup<'l>, lab: &Lab, cpus: u32) -> Result<Setup<'l>> {
    let windows =
        vec![WindowConfig { guest: "ticker".to_owned(), at_us: 3000, length_us: WINDOW_NS / 1000 }];
    let ticker = GuestConfig { cores: vec![0], ..guest("ticker", 4) };
    Ok(setup
        .cpus(cpus)
        .cpu("cortex-a57,cntfrq=1000000000")
        .argument("-icount")
        .argument("shift=2,sleep=off")
        .configured(ticker, Some(lab.guest("ticker")?))
        .core(CoreConfig { number: 0, frame_us: FRAME_NS / 1000, windows }))
}

/// Makes the guest attack, which it must survive, and returns its lines.
fn attack(stasis: &mut Stasis, name: &str) -> Result<Vec<String>> {
    stasis.attach("hostile")?;
    stasis.qemu.console.wait_for("which attack?", SILENCE)?;
    stasis.qemu.console.send(format!("{name}\r").as_bytes())?;
    let mut lines = Vec::new();
    loop {
        let line = stasis.qemu.console.next_line(ATTACK_TIME)?;
        sound(&line)?;
        ensure!(line != "which attack?", "there is no attack \"{name}\"");
        lines.push(line);
        if lines.last().is_some_and(|line| line == "done") {
            break;
        }
    }
    // The guest has switched itself off, which detaches.
    stasis.qemu.console.send(b"\x1d\r")?;
    ensure!(lines.iter().any(|line| line == "survived"), "hostile says {lines:#?}");
    stasis.is_alive()?;
    Ok(lines)
}

/// Checks that the real-time guest has its windows, whole and in time, while its neighbour makes an
/// attack.
fn contained(lab: &Lab, name: &str) -> Result<()> {
    contained_on(beside_windows(lab)?, name, SWITCH_NS).map(drop)
}

/// Checks the same of an attack of which the log tells.
fn contained_and_told(lab: &Lab, name: &str) -> Result<()> {
    contained_on(beside_windows(lab)?, name, LINE_NS).map(drop)
}

/// Checks that the real-time guest of a machine has its windows, in time and but for `lost_ns`
/// whole, while its neighbour makes an attack. Returns what that one says.
fn contained_on(setup: Setup<'_>, name: &str, lost_ns: u64) -> Result<Vec<String>> {
    let mut stasis = setup.boot()?;
    stasis.attach("ticker")?;
    stasis.qemu.console.wait_for("late ", SILENCE)?;
    stasis.detach()?;
    let lines = attack(&mut stasis, name)?;
    stasis.attach("ticker")?;
    let said = stasis.detach()?;
    windows_lack_at_most(&said, lost_ns)?;
    stasis.quit()?;
    Ok(lines)
}

/// Checks that the real-time guest, which has said this, has had its windows, whole and in time.
pub fn windows_are_whole(said: &str) -> Result<()> {
    windows_lack_at_most(said, SWITCH_NS)
}

/// Checks that the real-time guest, which has said this, has had its windows in time and whole, but
/// for so many nanoseconds at their beginnings.
fn windows_lack_at_most(said: &str, lost_ns: u64) -> Result<()> {
    let lines = |start: &'static str| {
        said.lines()
            .map(str::trim)
            .filter(move |line| line.starts_with(start) && line.ends_with("ns"))
    };
    ensure!(lines("ran ").count() >= 2, "the real-time guest did not run meanwhile: {said}");
    for line in lines("ran ") {
        let [least, most, away_least, away_most] = numbers(line)[..] else {
            anyhow::bail!("{line}")
        };
        let whole = |found: u64, expected: u64| found.abs_diff(expected) <= lost_ns;
        ensure!(
            whole(least, WINDOW_NS)
                && whole(most, WINDOW_NS)
                && whole(away_least, FRAME_NS - WINDOW_NS)
                && whole(away_most, FRAME_NS - WINDOW_NS),
            "its windows were cut: {line}"
        );
    }
    for line in lines("late ") {
        let most = numbers(line).last().copied().unwrap_or(u64::MAX);
        ensure!(
            most <= FRAME_NS - WINDOW_NS + lost_ns,
            "a tick waits for a window at most: {line}"
        );
    }
    Ok(())
}

pub fn accesses_of_every_kind_to_devices_and_code_in_them(lab: &Lab) -> Result<()> {
    contained_and_told(lab, "devices")
}

pub fn memory_that_is_not_its_own(lab: &Lab) -> Result<()> {
    contained_and_told(lab, "memory")
}

pub fn malformed_and_misplaced_translation_tables(lab: &Lab) -> Result<()> {
    contained_and_told(lab, "tables")
}

pub fn firmware_calls_full_of_garbage(lab: &Lab) -> Result<()> {
    contained(lab, "calls")
}

pub fn every_system_register_and_instruction(lab: &Lab) -> Result<()> {
    contained_and_told(lab, "registers")
}

pub fn cache_maintenance_by_set_and_way(lab: &Lab) -> Result<()> {
    contained(lab, "caches")
}

pub fn storms_of_interrupts(lab: &Lab) -> Result<()> {
    contained(lab, "interrupts")
}

pub fn a_flood_of_sgis_between_its_vcpus(lab: &Lab) -> Result<()> {
    contained(lab, "sgis")
}

pub fn a_flood_of_exits(lab: &Lab) -> Result<()> {
    contained(lab, "exits")
}

/// The devices give up again and again, and do what is possible in between.
pub fn queues_full_of_garbage_that_changes(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let setup = beside_windows(lab)?.change("hostile", |guest| {
        let volume = "hostile".to_owned();
        guest.disks = vec![DiskConfig { volume, size: 1 << 20, from: None }];
        guest.networks = vec!["lan".to_owned()];
        guest.entropy = true;
    });
    let lan = NetworkConfig { name: "lan".to_owned(), uplink: None };
    let lines = contained_on(setup.network(lan).disk(&disk), "virtio", CHAIN_NS)?;
    for kind in [1, 2, 4] {
        let driven = format!("drive a device of kind {kind}");
        ensure!(lines.contains(&driven), "no \"{driven}\" in {lines:#?}");
    }
    let gave_up: u64 = lines
        .iter()
        .filter(|line| line.starts_with("it gave up"))
        .map(|line| numbers(line)[0])
        .sum();
    println!("the devices gave up {gave_up} times");
    ensure!(gave_up > 0, "nothing impossible was found: {lines:#?}");
    Ok(())
}

/// The guest's disk is written, read and discarded by 1 MiB and as a whole. Its requests are done
/// on the core of the windows.
pub fn large_requests_of_a_disk(lab: &Lab) -> Result<()> {
    const ROUNDS: usize = 10;
    let disk = lab.disk()?;
    let setup = on_demand_devices::machine(lab)?.change(GUEST, |guest| guest.cores = vec![0]);
    let mut stasis = with_windows(setup, lab, 1)?.disk(&disk).boot()?;
    stasis.attach("ticker")?;
    stasis.qemu.console.wait_for("late ", SILENCE)?;
    stasis.detach()?;
    stasis.attach(GUEST)?;
    for _ in 0..ROUNDS {
        for phase in "WRBbd".chars() {
            stasis.qemu.console.send(&[phase as u8])?;
            answers(&mut stasis, phase, 1)?;
        }
    }
    stasis.detach()?;
    stasis.attach("ticker")?;
    let said = stasis.detach()?;
    println!("{said}");
    windows_are_whole(&said)?;
    stasis.quit()
}

/// Here another core takes turns with that of the windows, and so cuts what the guest has of them.
/// Its ticks tell how late they begin.
pub fn vcpus_on_two_cores_that_make_each_other_stand_still(lab: &Lab) -> Result<()> {
    const TURNS_NS: u64 = 10 * TURN_US * 1000;
    let mut stasis = beside_windows_of(lab, 2, &[0, 1])?.in_short_turns().boot()?;
    stasis.attach("ticker")?;
    stasis.qemu.console.wait_for("late ", SILENCE)?;
    stasis.detach()?;
    attack(&mut stasis, "holds")?;
    stasis.attach("ticker")?;
    let said = stasis.detach()?;
    let late: Vec<&str> =
        said.lines().map(str::trim).filter(|line| line.starts_with("late ")).collect();
    ensure!(late.len() >= 2, "the real-time guest did not run meanwhile: {said}");
    for line in late.iter().filter(|line| line.ends_with("ns")) {
        let most = numbers(line).last().copied().unwrap_or(u64::MAX);
        ensure!(most <= FRAME_NS - WINDOW_NS + TURNS_NS, "a window was late: {late:#?}");
    }
    println!("{late:#?}");
    stasis.quit()
}

pub fn all_attacks_leave_a_neighbour_as_it_was(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let mut model = Model::new();
    let mut stasis = lab
        .machine()
        .guest("counter")?
        .configured(hostile(&[1, 0]), Some(lab.guest("hostile")?))
        .disk(&disk)
        .boot()?;
    attack(&mut stasis, "")?;
    stasis.attach("counter")?;
    let before = ticks(&mut stasis.qemu.console, &mut model, 5)?;
    stasis.detach()?;
    let number = stasis.checkpoint("counter", "after")?;
    stasis.kill()?;
    let mut stasis = lab.machine().no_archive().disk(&disk).boot()?;
    stasis.resume(number)?;
    stasis.attach("counter")?;
    let after = ticks(&mut stasis.qemu.console, &mut model, 5)?;
    ensure!(before.last() < after.first(), "{after:x?} does not follow {before:x?}");
    stasis.detach()?;
    stasis.quit()
}

pub fn a_guest_that_ends_harms_nobody(lab: &Lab) -> Result<()> {
    let mut stasis = lab.machine().guest("probe")?.guest("counter")?.boot()?;
    stasis.attach("probe")?;
    stasis.qemu.console.wait_for(same_machine::BEGIN, SILENCE)?;
    stasis.qemu.console.send(b"x")?;
    stasis.qemu.console.wait_for("send 1", SILENCE)?;
    // More than its FIFO has room for, while it is at something else.
    stasis.qemu.console.send(&[b'x'; 100])?;
    transcript(&mut stasis.qemu.console, |line| (line == "send 3").then(|| b"abc".to_vec()))?;
    stasis.qemu.console.send(b"\x1d\r")?;
    stasis.is_alive()?;
    stasis.attach("counter")?;
    ticks(&mut stasis.qemu.console, &mut Model::new(), 3)?;
    stasis.detach()?;
    stasis.quit()
}
