//! The store on a Raspberry Pi 4's SD card: what can be wrong with one, and what can happen to it.

use anyhow::{Result, ensure};
use stasis_guests::workload::Model;
use stasis_qemu_tests::guests::ticks;
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::Setup;
use stasis_qemu_tests::tamper;
use xtask::disk;
use xtask::monitor::Socket;

use crate::disks::{failing_disk, full_store, goes_on, no_checkpoints};
use crate::power::killed;

/// The number of times that the plug is pulled.
const KILLS: u32 = 3;

fn raspi4(lab: &Lab) -> Result<Setup<'_>> {
    lab.machine().raspi4()
}

pub fn no_card(lab: &Lab) -> Result<()> {
    no_checkpoints(raspi4(lab)?, &["no SD card"])
}

pub fn a_card_without_the_partition(lab: &Lab) -> Result<()> {
    let path = lab.path("card.img");
    disk::create_empty(&path, 64 << 20)?;
    no_checkpoints(raspi4(lab)?.disk(&path), &["no partition table"])
}

/// What Stasis says of a card: QEMU's `raspi4b` has high speed, and no DMA.
const CARD: &str = "at 50 MHz, without DMA";
/// What Stasis says if it does not read what it has written.
const UNVERIFIED: &str = "not read again";

/// With more than 2 GiB a card is of high capacity, and is addressed in another way. The larger one
/// is trusted with what is written to it.
pub fn cards_of_either_capacity_take_a_guest_to_another_machine(lab: &Lab) -> Result<()> {
    for size in [256 << 20, 4u64 << 30] {
        let path = lab.disk_of(size)?;
        let mut model = Model::new();
        let verify = size < 2 << 30;
        let setup = raspi4(lab)?.guest("counter")?.verify_writes(verify);
        let mut stasis = setup.disk(&path).boot()?;
        let says = |words| stasis.greeting.iter().any(|line| line.contains(words));
        ensure!(says(CARD) && says(UNVERIFIED) != verify, "it says {:?}", stasis.greeting);
        stasis.attach("counter")?;
        ticks(&mut stasis.qemu.console, &mut model, 3)?;
        stasis.detach()?;
        let number = stasis.checkpoint("counter", "morning")?;
        stasis.quit()?;
        tamper::File::parse(&tamper::get(&path, number)?)?;
        let mut stasis = raspi4(lab)?.no_archive().disk(&path).boot()?;
        stasis.resume(number)?;
        stasis.attach("counter")?;
        ticks(&mut stasis.qemu.console, &mut model, 3)?;
        stasis.detach()?;
        stasis.quit()?;
    }
    Ok(())
}

pub fn a_full_card(lab: &Lab) -> Result<()> {
    full_store(lab, raspi4)
}

/// QEMU's card says nothing when its image fails: that it did not write is only seen by reading.
pub fn a_card_that_drops_a_write_during_a_checkpoint(lab: &Lab) -> Result<()> {
    failing_disk(lab, raspi4, &["CMD25 (WRITE_MULTIPLE_BLOCK)", "something else there", "3 tries"])
}

pub fn a_card_pulled_during_a_checkpoint_works_again_when_it_is_put_back(lab: &Lab) -> Result<()> {
    let path = lab.disk()?;
    let (socket, mut model) = (Socket::new()?, Model::new());
    let mut stasis = raspi4(lab)?.guest("counter")?.disk(&path).monitor(&socket).boot()?;
    let mut monitor = socket.connect()?;
    stasis.attach("counter")?;
    ticks(&mut stasis.qemu.console, &mut model, 3)?;
    stasis.detach()?;
    let older = stasis.checkpoint("counter", "older")?;
    let before = tamper::get(&path, older)?;

    let reason =
        stasis.checkpoint_fails("counter", "pulled", || monitor.type_in("eject -f sd0"))?;
    ensure!(
        reason.contains("CMD") && reason.contains("since then the SD card does not answer"),
        "\"{reason}\" does not say what happened"
    );
    for command in ["store", "resume older", "delete older", "checkpoint counter again"] {
        stasis.refused_for(command, &["no SD card"])?;
    }
    goes_on(&mut stasis)?;

    monitor.type_in(&format!("change sd0 {} raw", path.display()))?;
    let listed = stasis.command("store")?;
    ensure!(listed.iter().any(|line| line.contains("older")), "the store is {listed:?}");
    ensure!(!listed.iter().any(|line| line.contains("pulled")), "the store is {listed:?}");
    stasis.resume(older)?;
    stasis.checkpoint("counter", "newer")?;
    goes_on(&mut stasis)?;
    stasis.quit()?;
    ensure!(tamper::get(&path, older)? == before, "the older checkpoint has changed");
    Ok(())
}

pub fn a_card_that_is_exchanged_between_two_commands_is_the_one_that_is_used(
    lab: &Lab,
) -> Result<()> {
    let first = lab.disk()?;
    let second = lab.path("second.img");
    std::fs::copy(&first, &second)?;
    let socket = Socket::new()?;
    let mut stasis = raspi4(lab)?.guest("idle")?.disk(&first).monitor(&socket).boot()?;
    let mut monitor = socket.connect()?;
    stasis.checkpoint("idle", "first")?;
    monitor.type_in("eject -f sd0")?;
    let before = std::fs::read(&first)?;
    monitor.type_in(&format!("change sd0 {} raw", second.display()))?;
    stasis.checkpoint("idle", "second")?;
    stasis.quit()?;
    ensure!(std::fs::read(&first)? == before, "the card that was taken out was written");
    let names =
        |list: Vec<(u64, String)>| list.into_iter().map(|(_, name)| name).collect::<Vec<_>>();
    ensure!(names(tamper::list(&second)?) == ["second"]);
    Ok(())
}

pub fn qemu_killed_during_a_checkpoint_loses_nothing_older(lab: &Lab) -> Result<()> {
    killed(lab, raspi4, KILLS)
}
