//! Guests that travel between Stasis and a KVM, which is nested in QEMU. `travel_kvm_long` has the
//! longer ways.

use anyhow::Result;
use stasis_guests::workload::Model;
use stasis_qemu_tests::guests::ticks;
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::nested::{Host, Nested};
use stasis_qemu_tests::stasis::{Conversation, Stasis};
use stasis_qemu_tests::tamper;
use xtask::initramfs::Loop;

use crate::linux;
use crate::resume::{follows, watch};

/// Takes a checkpoint that was made elsewhere to a new machine with Stasis.
pub fn back(lab: &Lab, bytes: &[u8]) -> Result<Stasis> {
    let disk = lab.path("disk.img");
    let number = tamper::put(&disk, "travelled", bytes)?;
    let mut stasis = lab.machine().no_archive().disk(&disk).cpus(3).boot()?;
    stasis.resume(number)?;
    Ok(stasis)
}

pub fn a_counter_goes_on_on_a_kvm_and_comes_back(lab: &Lab) -> Result<()> {
    let (disk, mut model) = (lab.disk()?, Model::new());
    let mut stasis = lab.machine().guest("counter")?.disk(&disk).boot()?;
    let before = watch(&mut stasis, &mut model, 5)?;
    let number = stasis.checkpoint("counter", "stasis")?;
    stasis.kill()?;

    let mut nested = Nested::boot(lab, Host::Backports, &[tamper::get(&disk, number)?])?;
    nested.run(0)?;
    let there = ticks(nested.console(), &mut model, 10)?;
    follows(&before, &there)?;
    // The guest's time stands still for a checkpoint, and goes on after it.
    nested.checkpoint()?;
    let after = ticks(nested.console(), &mut model, 10)?;
    follows(&there, &after)?;
    let bytes = nested.leave(0)?;

    let mut stasis = back(lab, &bytes)?;
    follows(&after, &watch(&mut stasis, &mut model, 20)?)?;
    stasis.quit()
}

/// Takes a Linux with two vCPUs to a host, and back.
pub fn linux_there_and_back(lab: &Lab, host: Host) -> Result<()> {
    let (disk, mut hashes) = (lab.disk()?, Loop::new());
    let setup = linux::machine(lab, 2)?.cpus(3).disk(&disk);
    let (number, last) = linux::store_in_its_loop(setup, &mut hashes, 10, "stasis")?;

    let mut nested = Nested::boot(lab, host, &[tamper::get(&disk, number)?])?;
    nested.run(0)?;
    let last = linux::watch(&mut nested, &mut hashes, last, 20)?;
    linux::dmesg_is_silent(&mut nested)?;
    let last = linux::watch(&mut nested, &mut hashes, last, 3)?;
    let bytes = nested.leave(0)?;

    let mut stasis = back(lab, &bytes)?;
    stasis.attach("linux")?;
    linux::watch(&mut stasis, &mut hashes, last, 20)?;
    linux::dmesg_is_silent(&mut stasis)?;
    stasis.detach()?;
    stasis.quit()
}

pub fn linux_goes_on_on_a_kvm_and_comes_back(lab: &Lab) -> Result<()> {
    linux_there_and_back(lab, Host::Stable)
}
