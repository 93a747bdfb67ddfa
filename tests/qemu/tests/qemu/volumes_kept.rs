//! Disks that a guest keeps while other things fail. Its guest drives its disk by itself, so it is
//! there at once.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use stasis_channel::pipe::WINDOW;
use stasis_client::{Client, Message};
use stasis_host::config::Policy;
use stasis_qemu_tests::guests::SILENCE;
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::Stasis;
use stasis_qemu_tests::tamper;
use xtask::qemu::ChannelSocket;

use crate::channel::client;
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

/// Waits until the machine has room for more of a stream.
fn wait_for_room(client: &mut Client, stream: u16) -> Result<()> {
    while client.room(stream) == 0 {
        client.next(Some(Instant::now() + SILENCE))?.context("there is no room")?;
    }
    Ok(())
}

pub fn a_guest_has_its_disk_while_a_client_sends_a_checkpoint(lab: &Lab) -> Result<()> {
    let (disk, socket) = (lab.disk()?, ChannelSocket::new()?);
    let stasis = machine(lab)?.disk(&disk).channel(&socket).boot()?;
    let mut client = client(&socket, false)?;
    let guest = client.open(&format!("attach {GUEST}"))?;
    let put = client.open("put slow 1000000")?;
    wait_for_room(&mut client, put)?;
    let mut sent = [7; 2 * WINDOW].as_slice();
    while !sent.is_empty() {
        let count = client.write(put, sent)?;
        sent = &sent[count..];
        // There is room again when the machine has taken what was sent before.
        wait_for_room(&mut client, put)?;
    }
    wait_for_room(&mut client, guest)?;
    client.write(guest, b"R")?;
    let mut said = Vec::new();
    while !String::from_utf8_lossy(&said).contains("requests R done") {
        match client.next(Some(Instant::now() + SILENCE))? {
            Some(Message::Data { id, bytes }) if id == guest => said.extend(bytes),
            Some(Message::Done { why, .. }) => bail!("it has ended: {why}"),
            Some(_) => {}
            None => bail!("the guest waits for its disk"),
        }
    }
    drop(client);
    stasis.quit()
}
