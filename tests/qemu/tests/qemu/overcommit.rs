//! A guest that takes memory as it writes, and that has taken so much that a checkpoint of it does
//! not fit beside it.

use std::ops::Range;

use anyhow::{Result, ensure};
use stasis_host::config::{GuestConfig, Policy};
use stasis_qemu_tests::guests::SILENCE;
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::{Stasis, guest};

use crate::clones::wait_until;
use crate::recovery::grieve;

const GUEST: &str = "fragile";
/// MiB that the guest writes with each byte that is typed for that.
const MORE: usize = 4;

/// Boots a machine with the guest, which has as much memory as the machine: it can't take all.
fn boot(lab: &Lab) -> Result<Stasis> {
    let disk = lab.disk()?;
    let mut config = GuestConfig { overcommit: true, ..guest(GUEST, 48) };
    config.on_crash = Policy::Resume;
    let machine = lab.machine().memory("48M").configured(config, Some(lab.guest(GUEST)?));
    machine.disk(&disk).boot()
}

/// Makes the guest, which the terminal is attached to, write more, until it has written this many
/// MiB.
fn hoard(stasis: &mut Stasis, mib: Range<usize>) -> Result<()> {
    for written in mib.step_by(MORE) {
        let said = format!("hoard of {} MiB", written + MORE);
        stasis.qemu.console.send(b"m")?;
        stasis.qemu.console.wait_for(&said, SILENCE)?;
    }
    Ok(())
}

/// Checks that the guest, which the terminal is attached to, has all that it had written, which is
/// this many MiB, and detaches the terminal.
fn has_all(stasis: &mut Stasis, mib: usize) -> Result<()> {
    stasis.qemu.console.send(b"c")?;
    stasis.qemu.console.wait_for(&format!("hoard of {mib} MiB is whole"), SILENCE)?;
    stasis.detach().map(drop)
}

pub fn a_guest_that_has_taken_most_of_the_memory_goes_on_from_its_newest_checkpoint(
    lab: &Lab,
) -> Result<()> {
    let mut stasis = boot(lab)?;
    stasis.attach(GUEST)?;
    hoard(&mut stasis, 0..4)?;
    stasis.detach()?;
    stasis.checkpoint(GUEST, "older")?;
    stasis.attach(GUEST)?;
    hoard(&mut stasis, 4..16)?;
    stasis.detach()?;
    let newer = stasis.checkpoint(GUEST, "newer")?;
    println!("{:?}", stasis.command("guests")?);
    stasis.attach(GUEST)?;
    grieve(&mut stasis, b'x', &format!("for ever; it goes on from checkpoint {newer}"))?;
    has_all(&mut stasis, 16)?;
    // By command, too: all of it is checked before, and is loaded when the guest has gone.
    let lines = stasis.command("resume newer --whole")?;
    ensure!(lines.iter().any(|line| line.starts_with("... checked: ")), "{lines:?}");
    stasis.attach(GUEST)?;
    has_all(&mut stasis, 16)?;
    // What does not fit beside the guest is refused before anything is taken.
    stasis
        .refused_for("resume newer as other --whole", &["it needs ", " KiB of memory at once"])?;
    // Now the guest takes all that there is.
    stasis.attach(GUEST)?;
    stasis.qemu.console.send(b"mmmmmmm")?;
    stasis.detach()?;
    wait_until(&mut stasis, GUEST, "waiting")?;
    stasis.resume(newer)?;
    stasis.attach(GUEST)?;
    has_all(&mut stasis, 16)?;
    stasis.quit()
}
