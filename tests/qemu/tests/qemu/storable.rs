//! What a guest can bring about can be stored, and goes on.

use anyhow::{Result, ensure};
use stasis_host::config::GuestConfig;
use stasis_qemu_tests::guests::SILENCE;
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::{Stasis, guest};

/// Checkpoints of each kind that are made.
const CHECKPOINTS: usize = 40;

fn scribbles_on(stasis: &mut Stasis) -> Result<()> {
    stasis.attach("scribbler")?;
    // The line that is being printed, and one more.
    for _ in 0..2 {
        stasis.qemu.console.wait_for(" stores", SILENCE)?;
    }
    stasis.detach().map(drop)
}

pub fn a_guest_that_stores_at_random_to_its_gic(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let scribbler = GuestConfig { vcpus: 2, cores: vec![0, 1], ..guest("scribbler", 4) };
    let mut stasis = lab
        .machine()
        .configured(scribbler, Some(lab.guest("scribbler")?))
        .configured(guest("idle", 4), Some(lab.guest("idle")?))
        .disk(&disk)
        .boot()?;
    scribbles_on(&mut stasis)?;
    for cycle in 0..CHECKPOINTS {
        stasis.command(&format!("checkpoint scribbler n{cycle}"))?;
        stasis.command(&format!("checkpoint all s{cycle}"))?;
    }
    for cycle in (0..CHECKPOINTS).step_by(8) {
        stasis.command(&format!("resume n{cycle}"))?;
        scribbles_on(&mut stasis)?;
    }
    let listed = stasis.command("store")?;
    let of_all = |line: &&String| line.contains("/scribbler");
    let found = listed.iter().filter(of_all).count();
    ensure!(found == CHECKPOINTS, "{found} of {CHECKPOINTS} are there: {listed:#?}");
    stasis.quit()
}
