//! What a guest does to its own machine is its own affair.

use anyhow::{Result, ensure};
use stasis_guests::workload::Model;
use stasis_qemu_tests::guests::{SILENCE, ticks, transcript};
use stasis_qemu_tests::lab::Lab;

pub fn a_hostile_guest_harms_nobody(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let mut model = Model::new();
    let mut stasis = lab.machine().guest("counter")?.guest("hostile")?.disk(&disk).boot()?;
    stasis.attach("hostile")?;
    let lines = transcript(&mut stasis.qemu.console, |_| None)?;
    ensure!(lines.iter().any(|line| line == "survived"), "hostile says {lines:#?}");
    // It has switched itself off, which detaches.
    stasis.qemu.console.send(b"\x1d\r")?;
    stasis.is_alive()?;
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
