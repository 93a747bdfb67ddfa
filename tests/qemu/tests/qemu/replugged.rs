//! Network cards of guests whose machines change: they are in the network that they have now.

use anyhow::Result;
use stasis_host::config::{DiskConfig, GuestConfig};
use stasis_qemu_tests::guests::SILENCE;
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::{Setup, Stasis, guest};

use crate::on_demand_devices::answers;

/// Drives its card, and answers each byte that is typed.
const IMAGE: &str = "requests";

/// Returns a machine with two guests in one network, the first of which has these disks.
fn machine(lab: &Lab, disks: Vec<DiskConfig>) -> Result<Setup<'_>> {
    let config = |name: &str, disks: Vec<DiskConfig>| {
        let networks = vec!["lan".to_owned()];
        GuestConfig { image: IMAGE.to_owned(), networks, disks, ..guest(name, 32) }
    };
    let machine = lab.machine().file(IMAGE, lab.guest(IMAGE)?);
    Ok(machine.configured(config("sender", disks), None).configured(config("hearer", vec![]), None))
}

/// Types a byte for a guest, and waits until it has done what that asks for.
fn does(stasis: &mut Stasis, guest: &str, byte: char) -> Result<()> {
    stasis.attach(guest)?;
    stasis.qemu.console.send(&[byte as u8])?;
    answers(stasis, byte, 1)?;
    stasis.detach().map(drop)
}

pub fn a_guest_that_is_restarted_with_another_slot_for_its_card_is_heard(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let mut stasis = machine(lab, vec![])?.disk(&disk).boot()?;
    let number = stasis.checkpoint("sender", "without-a-disk")?;
    stasis.kill()?;
    let data = DiskConfig { volume: "data".to_owned(), size: 1 << 20, from: None };
    let mut stasis = machine(lab, vec![data])?.disk(&disk).boot()?;
    stasis.resume(number)?;
    stasis.command("restart sender")?;
    stasis.attach("sender")?;
    stasis.qemu.console.wait_for("requests begin", SILENCE)?;
    stasis.detach()?;
    does(&mut stasis, "hearer", 'l')?;
    // The sender sends to the guest that it has heard.
    does(&mut stasis, "sender", 's')?;
    stasis.quit()
}
