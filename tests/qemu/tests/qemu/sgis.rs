//! The guest `ipi` amid its 65,536 SGIs: how far it is, and that none of them was lost.

use std::time::Duration;

use anyhow::{Result, ensure};
use stasis_qemu_tests::guests::sound;
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::{Setup, guest};
use xtask::console::Console;

/// The longest silence. The guest itself gives up earlier, and says how far it came.
const SILENCE: Duration = Duration::from_secs(600);
/// The guest gives a sign of life after so many SGIs.
const SIGN: u64 = 1024;
/// What the guest says in the end.
const ALL: &str = "asleep: 65536 SGIs sent, 65536 taken, 0 from somebody else";

/// Returns a machine with the guest, which has two vCPUs, and a core for each.
pub fn machine(lab: &Lab) -> Result<Setup<'_>> {
    let mut config = guest("ipi", 32);
    config.vcpus = 2;
    Ok(lab.machine().cpus(3).configured(config, Some(lab.guest("ipi")?)))
}

/// Waits for so many signs of life, and returns the number of SGIs that were taken until the last
/// one. `last` is the number at the last sign before.
pub fn some(console: &mut Console, mut last: u64, signs: usize) -> Result<u64> {
    for _ in 0..signs {
        let taken = console.find_line("a sign of life", SILENCE, |line| {
            sound(line).and_then(|()| number(line)).transpose()
        })??;
        let goes_on = taken > last && taken.is_multiple_of(SIGN);
        ensure!(goes_on, "{taken} were taken, and {last} before");
        last = taken;
    }
    Ok(last)
}

/// Returns the number in a sign of life; `None` if it is another line.
fn number(line: &str) -> Result<Option<u64>> {
    // In the midst there is no end.
    ensure!(!line.starts_with("asleep: "), "it has come to its end: {line}");
    Ok(line.strip_suffix(" taken").and_then(|number| number.parse().ok()))
}

/// Waits until all SGIs were sent, and checks that all were taken. Each sign of life gives it more
/// time.
pub fn all_are_taken(console: &mut Console) -> Result<()> {
    loop {
        let line = console.next_line(SILENCE)?;
        sound(&line)?;
        if line.starts_with("asleep: ") {
            ensure!(line == ALL, "{line}");
            return Ok(());
        }
    }
}
