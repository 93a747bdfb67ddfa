//! Each saved register of two vCPUs on one core stays what its vCPU wrote, over world switches, a
//! checkpoint and a resume.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stasis_host::config::GuestConfig;
use stasis_qemu_tests::guests::{SILENCE, sound};
use stasis_qemu_tests::lab::{Built, Lab};
use stasis_qemu_tests::stasis::{Stasis, guest};
use xtask::console::Console;
use xtask::qemu::Machine;

/// Rounds that are looked at before a checkpoint, and after the resume.
const ROUNDS: usize = 8;
/// What holds the same on both vCPUs of a Cortex-A72 of QEMU's, whatever is written, and why: these
/// are not proven to be switched.
const UNTOLD: [(&str, &str); 4] = [
    ("actlr_el1", "no bit of it is implemented, and EL2 keeps it"),
    ("afsr0_el1", "QEMU reads it as zero"),
    ("afsr1_el1", "QEMU reads it as zero"),
    ("amair_el1", "QEMU reads it as zero"),
];
/// What QEMU reads as zero, too. Stasis answers it from the record of the vCPU whose OS lock is
/// locked.
const UNTOLD_ON_QEMU: &str = "mdccint_el1";

/// Reads the next `count` rounds of both vCPUs. Returns the registers that hold the same on both,
/// where the guest tells of them.
fn rounds(console: &mut Console, count: usize) -> Result<Vec<String>> {
    let (mut rounds, mut others, mut untold) = (0, None, Vec::new());
    loop {
        let line = console.next_line(SILENCE)?;
        sound(&line)?;
        ensure!(!line.starts_with("changed: "), "{line}");
        untold.extend(line.strip_prefix("untold: ").map(str::to_owned));
        let Some((_, rest)) = line.split_once(": all as they were; ") else { continue };
        let other = rest.split(' ').next().unwrap_or_default();
        let other: usize = other.parse().with_context(|| format!("no rounds in: {line}"))?;
        rounds += 1;
        let both = rounds > count && other >= *others.get_or_insert(other) + count;
        if both {
            return Ok(untold);
        }
    }
}

fn are_the_untold(untold: &[String], more: &[&str]) -> Result<()> {
    let known: Vec<&str> =
        UNTOLD.iter().map(|(name, _)| *name).chain(more.iter().copied()).collect();
    ensure!(
        untold == known,
        "the two vCPUs can't be told apart by {untold:?}; expected were {known:?}"
    );
    Ok(())
}

fn watch(stasis: &mut Stasis) -> Result<Vec<String>> {
    stasis.attach("registers")?;
    let untold = rounds(&mut stasis.qemu.console, ROUNDS)?;
    stasis.detach()?;
    Ok(untold)
}

pub fn each_is_its_vcpus_own_over_switches_checkpoint_and_resume(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let image = lab.guest("registers")?;
    let config = GuestConfig { vcpus: 2, ..guest("registers", 32) };
    // One core, for which the two compete.
    let machine = lab.machine().cpus(1).configured(config, Some(image));
    let mut stasis = machine.disk(&disk).boot()?;
    are_the_untold(&watch(&mut stasis)?, &[])?;
    let number = stasis.checkpoint("registers", "held")?;
    watch(&mut stasis)?;
    stasis.kill()?;

    let mut stasis = lab.machine().no_archive().cpus(1).disk(&disk).boot()?;
    stasis.resume(number)?;
    watch(&mut stasis)?;
    stasis.quit()
}

pub fn plain_qemu_keeps_them_too(_: &Lab) -> Result<()> {
    let mut plain = Machine::plain(Built::get()?.guests.join("registers"), None)
        .cpu("cortex-a72")
        .cpus(2)
        .memory("32M")
        .time_limit(Duration::from_secs(120))
        .start()?;
    are_the_untold(&rounds(&mut plain.console, ROUNDS)?, &[UNTOLD_ON_QEMU])
}
