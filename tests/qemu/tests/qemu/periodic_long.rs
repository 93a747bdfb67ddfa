//! How much of the time periodic checkpoints leave to a guest whose disk is slow, for who asks for
//! it by name: it takes some ninety seconds.

use anyhow::{Result, ensure};
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::Stasis;

use crate::periodic::{SLOW, last_tick, slow_machine, wait_for_number};

pub fn a_guest_runs_half_of_the_time_however_slow_its_disk_is(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let mut stasis = slow_machine(lab, &disk, SLOW, &["stored"])?.boot()?;
    let first = wait_for_number(&mut stasis, 1)?;
    let now = |stasis: &mut Stasis| -> Result<[u64; 2]> {
        Ok([last_tick(stasis, "stored")?, last_tick(stasis, "free")?])
    };
    let before = now(&mut stasis)?;
    wait_for_number(&mut stasis, first + 4)?;
    let after = now(&mut stasis)?;
    let [stored, free] = [after[0] - before[0], after[1] - before[1]];
    // Half of it, less what is lost because both are looked at one after the other.
    ensure!(stored * 100 >= free * 40, "it had {stored} ticks, and another guest {free}");
    let said = stasis.qemu.console.transcript();
    let said = said.matches("the guest has its checkpoint-run-share of the time").count();
    ensure!(said == 1, "that it can't keep up is said {said} times");
    stasis.quit()
}
