//! An unmodified Linux with four vCPUs: on four cores, checkpointed and resumed under load, again
//! and again; and on two.
//!
//! `STASIS_SOAK_CYCLES=100 cargo xtask test smp` does so a hundred times.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::Stasis;
use xtask::initramfs::{self, Loop};

use crate::linux::{BOOT_TIME, dmesg_is_silent, look_at_dmesg, machine, shell};
use crate::soak::cycles;

const VCPUS: usize = 4;
/// The number of cycles, unless the environment says otherwise.
const CYCLES: u32 = 5;
/// The longest time of a cycle on a slow machine.
const CYCLE_TIME: Duration = Duration::from_secs(30);

/// What `/proc/interrupts` counts on each CPU.
#[derive(Debug)]
struct Interrupts {
    timer: [u64; VCPUS],
    ipis: [u64; VCPUS],
}

impl Interrupts {
    fn read(stasis: &mut Stasis) -> Result<Self> {
        let lines = shell(stasis, "cat /proc/interrupts")?;
        let head = lines.iter().find(|line| line.contains("CPU0")).context("there is no table")?;
        let cpus = head.split_whitespace().count();
        ensure!(cpus == VCPUS, "/proc/interrupts is about {cpus} CPUs: {head}");
        let mut found = Self { timer: [0; VCPUS], ipis: [0; VCPUS] };
        for line in &lines {
            let Some((name, rest)) = line.trim().split_once(':') else { continue };
            let of = match name {
                name if name.starts_with("IPI") => &mut found.ipis,
                _ if rest.contains("arch_timer") => &mut found.timer,
                "Err" => {
                    ensure!(rest.trim() == "0", "Linux counts bad interrupts: {line}");
                    continue;
                }
                _ => continue,
            };
            for (sum, count) in of.iter_mut().zip(rest.split_whitespace()) {
                *sum += count.parse::<u64>().with_context(|| format!("no count in: {line}"))?;
            }
        }
        Ok(found)
    }

    /// Returns whether all four counts have grown since.
    fn grown_since(&self, before: &Self) -> bool {
        let grown = |now: &[u64; VCPUS], before: &[u64; VCPUS]| {
            now.iter().zip(before).all(|(now, before)| now > before)
        };
        grown(&self.timer, &before.timer) && grown(&self.ipis, &before.ipis)
    }
}

/// What the guest has said, byte for byte, whenever it was looked at.
#[derive(Default)]
struct Said(String);

impl Said {
    /// Looks at the guest for a while.
    fn watch(&mut self, stasis: &mut Stasis, time: Duration) -> Result<()> {
        stasis.attach("linux")?;
        std::thread::sleep(time);
        self.leave(stasis)
    }

    /// Detaches from the guest.
    fn leave(&mut self, stasis: &mut Stasis) -> Result<()> {
        let text = stasis.detach()?;
        let (guest, _) = text.rsplit_once("\r\n[detached").context("we were not attached")?;
        self.0.push_str(guest);
        Ok(())
    }

    /// Returns the last step of the loop. Its steps are all there, each once, and right.
    fn last_step(&self) -> Result<u64> {
        let mut hashes = Loop::new();
        let mut last = 0;
        for line in self.0.split("\r\n") {
            let Some((step, hash)) = initramfs::parse(line) else { continue };
            ensure!(step == last + 1, "step {step} follows {last}");
            let expected = hashes.hash_at(step).context("the steps go backwards")?;
            ensure!(hash == expected, "the hash of step {step} is {hash}, not {expected}");
            last = step;
        }
        Ok(last)
    }
}

pub fn linux_is_stored_and_resumed_under_load_many_times(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let mut stasis = machine(lab, VCPUS as u8)?
        .cpus(VCPUS as u32)
        .disk(&disk)
        .time_limit(BOOT_TIME * 3 + CYCLE_TIME * cycles(CYCLES))
        .boot()?;
    stasis.attach("linux")?;
    stasis.qemu.console.wait_for(initramfs::PROMPT, BOOT_TIME)?;
    look_at_dmesg(&mut stasis)?;
    let online = shell(&mut stasis, "nproc")?;
    ensure!(online.iter().any(|line| line.trim() == "4"), "nproc says {online:?}");
    let before = Interrupts::read(&mut stasis)?;
    ensure!(
        before.timer.iter().chain(&before.ipis).all(|count| *count > 0),
        "a CPU has no ticks or no IPIs: {before:?}"
    );
    shell(&mut stasis, "for n in 1 2; do while :; do :; done & done")?;
    stasis.qemu.console.send_line("loop &")?;

    let mut said = Said::default();
    said.leave(&mut stasis)?;
    for cycle in 0..cycles(CYCLES) {
        let done = said.last_step()?;
        let end = Instant::now() + CYCLE_TIME;
        while said.last_step()? == done {
            ensure!(Instant::now() < end, "cycle {cycle}: no step comes after {done}");
            // Another time into the guest's tick, whatever the host's pace.
            said.watch(&mut stasis, Duration::from_millis(200 + u64::from(cycle * 37 % 200)))?;
        }
        // All that was said before the checkpoint is looked at: what comes is from after the
        // resumption.
        stasis.command("pause linux")?;
        said.watch(&mut stasis, Duration::ZERO)?;
        let number = stasis.checkpoint("linux", &format!("cycle-{cycle}"))?;
        stasis.resume(number)?;
        stasis.delete_when_loaded(number)?;
        said.last_step().with_context(|| format!("in cycle {cycle}"))?;
    }
    said.watch(&mut stasis, Duration::from_secs(3))?;
    let steps = said.last_step()?;
    ensure!(steps >= u64::from(cycles(CYCLES)), "only {steps} steps of the loop");

    stasis.attach("linux")?;
    shell(&mut stasis, "kill $(jobs -p); wait")?;
    let after = Interrupts::read(&mut stasis)?;
    ensure!(after.grown_since(&before), "a CPU stood still: {before:?}, then {after:?}");
    dmesg_is_silent(&mut stasis)?;
    stasis.detach()?;
    println!("{} cycles, {steps} steps, {after:?}", cycles(CYCLES));
    stasis.quit()
}

pub fn linux_has_four_vcpus_on_two_cores(lab: &Lab) -> Result<()> {
    let mut stasis =
        machine(lab, VCPUS as u8)?.cpus(2).time_limit(BOOT_TIME * 2 + CYCLE_TIME * 4).boot()?;
    stasis.attach("linux")?;
    stasis.qemu.console.wait_for(initramfs::PROMPT, BOOT_TIME)?;
    let before = Interrupts::read(&mut stasis)?;
    // More to do than cores, so that the vCPUs take turns that are ended.
    shell(
        &mut stasis,
        "for n in 1 2 3; do while :; do :; done & done; sleep 3; kill $(jobs -p); wait",
    )?;
    let after = Interrupts::read(&mut stasis)?;
    ensure!(after.grown_since(&before), "a CPU stood still: {before:?}, then {after:?}");
    stasis.detach()?;
    stasis.quit()
}
