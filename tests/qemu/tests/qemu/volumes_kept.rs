//! Disks that a guest keeps while other things fail. Its guest drives its disk by itself, so it is
//! there at once.

use anyhow::{Result, ensure};
use stasis_host::config::Policy;
use stasis_qemu_tests::guests::SILENCE;
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::Stasis;
use stasis_qemu_tests::tamper;
use xtask::qemu::ChannelSocket;

use crate::on_demand_devices::{DISK, GUEST, answers, machine};

/// Makes the guest, which is running, write all of its disk anew.
fn write(stasis: &mut Stasis) -> Result<()> {
    stasis.attach(GUEST)?;
    stasis.qemu.console.send(b"nW")?;
    answers(stasis, 'W', 1)?;
    stasis.detach().map(drop)
}

pub fn a_guest_that_resets_keeps_its_disk_where_its_checkpoint_has_it_off(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let setup = machine(lab)?.change(GUEST, |guest| guest.on_reset = Policy::Resume);
    let mut stasis = setup.disk(&disk).boot()?;
    stasis.attach(GUEST)?;
    stasis.qemu.console.wait_for("requests begin", SILENCE)?;
    stasis.qemu.console.send(b"o")?;
    stasis.qemu.console.wait_for("is off", SILENCE)?;
    let number = stasis.checkpoint(GUEST, "backup")?;
    stasis.command(&format!("start {GUEST}"))?;
    write(&mut stasis)?;
    stasis.attach(GUEST)?;
    stasis.qemu.console.send(b"z")?;
    let passed_over = format!("is not resumed from checkpoint {number}: the guest is off there");
    stasis.qemu.console.wait_for(&passed_over, SILENCE)?;
    stasis.qemu.console.wait_for("it starts again", SILENCE)?;
    stasis.qemu.console.send(b"n")?;
    answers(&mut stasis, 'n', 1)?;
    stasis.detach()?;
    let volumes = stasis.command("volume list")?.join("\n");
    ensure!(!volumes.contains("recovered"), "the disk was brought back:\n{volumes}");
    stasis.quit()
}

pub fn a_checkpoint_that_came_without_its_disk_is_not_resumed_on_another(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let mut stasis = machine(lab)?.disk(&disk).boot()?;
    let number = stasis.checkpoint(GUEST, "whole")?;
    stasis.quit()?;
    let number = tamper::put(&disk, "bare", &tamper::get(&disk, number)?)?;
    let mut stasis = machine(lab)?.disk(&disk).boot()?;
    let words = ["came without disk \"data\"", "--keep-disks"];
    stasis.refused_for(&format!("resume {number}"), &words)?;
    write(&mut stasis)?;
    stasis.command(&format!("resume {number} --keep-disks"))?;
    write(&mut stasis)?;
    stasis.command("resume whole")?;
    stasis.quit()
}

pub fn what_a_guest_that_is_removed_has_written_is_in_the_store(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let mut stasis = machine(lab)?.disk(&disk).boot()?;
    write(&mut stasis)?;
    stasis.command(&format!("pause {GUEST}"))?;
    stasis.command(&format!("remove {GUEST}"))?;
    stasis.kill()?;
    let mut bytes = vec![1; DISK];
    xtask::disk::store(&disk, true)?.volumes_mut().read("data", 0, &mut bytes)?;
    ensure!(bytes.iter().all(|byte| *byte == 0), "the guest has written zeros alone");
    Ok(())
}
