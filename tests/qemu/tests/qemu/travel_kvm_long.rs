//! Guests that travel between Stasis and a KVM on longer ways, and in states that most are never
//! in.

use std::time::Duration;

use anyhow::Result;
use stasis_guests::workload::Model;
use stasis_qemu_tests::guests::ticks;
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::nested::{Host, Nested};
use stasis_qemu_tests::stasis::Conversation;
use stasis_qemu_tests::tamper;

use crate::resume::{follows, watch};
use crate::sgis;
use crate::travel_kvm::{back, linux_there_and_back};

/// The longest time until something is said.
const PATIENCE: Duration = Duration::from_secs(300);

pub fn a_counter_goes_from_kvm_to_kvm(lab: &Lab) -> Result<()> {
    let (disk, mut model) = (lab.disk()?, Model::new());
    let mut stasis = lab.machine().guest("counter")?.disk(&disk).boot()?;
    let mut before = watch(&mut stasis, &mut model, 5)?;
    let number = stasis.checkpoint("counter", "stasis")?;
    stasis.kill()?;
    let mut bytes = tamper::get(&disk, number)?;
    for _ in 0..2 {
        let mut nested = Nested::boot(lab, Host::Backports, &[bytes])?;
        nested.run(0)?;
        let there = ticks(nested.console(), &mut model, 20)?;
        follows(&before, &there)?;
        (before, bytes) = (there, nested.leave(0)?);
    }
    let mut stasis = back(lab, &bytes)?;
    follows(&before, &watch(&mut stasis, &mut model, 20)?)?;
    stasis.quit()
}

pub fn linux_goes_on_with_vhe(lab: &Lab) -> Result<()> {
    linux_there_and_back(lab, Host::Vhe)
}

pub fn linux_goes_on_with_vhe_on_an_older_kernel(lab: &Lab) -> Result<()> {
    linux_there_and_back(lab, Host::StableVhe)
}

pub fn sgis_in_the_midst_are_all_taken(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let mut stasis = sgis::machine(lab)?.disk(&disk).boot()?;
    stasis.attach("ipi")?;
    sgis::some(&mut stasis.qemu.console, 0, 1)?;
    stasis.detach()?;
    let number = stasis.checkpoint("ipi", "in-the-midst")?;
    stasis.kill()?;

    let mut nested = Nested::boot(lab, Host::Backports, &[tamper::get(&disk, number)?])?;
    nested.run(0)?;
    sgis::all_are_taken(nested.console())
}

/// Makes the file `/tmp/slow`, which can be opened at once the first time, and later only after a
/// minute.
const SLOW: &str = "mkfifo /tmp/slow; { (cat /tmp/slow; sleep 60; cat /tmp/slow) > /dev/null & }";

/// Lets a checkpoint be written to a file that takes long, and then can't be one. `counter` would
/// complain of a tick that is late.
pub fn no_time_passes_for_a_guest_while_its_checkpoint_is_written(lab: &Lab) -> Result<()> {
    let (disk, mut model) = (lab.disk()?, Model::new());
    let mut stasis = lab.machine().guest("counter")?.disk(&disk).boot()?;
    let before = watch(&mut stasis, &mut model, 3)?;
    let number = stasis.checkpoint("counter", "stasis")?;
    stasis.kill()?;

    let mut nested = Nested::boot(lab, Host::Backports, &[tamper::get(&disk, number)?])?;
    nested.bring(0)?;
    nested.shell(SLOW)?;
    nested.start("/tmp/slow")?;
    nested.console().send(b"\x01s")?;
    nested.console().wait_for("[no checkpoint: ", PATIENCE)?;
    nested.console().wait_for("the guest goes on]", PATIENCE)?;
    follows(&before, &ticks(nested.console(), &mut model, 10)?)?;
    nested.end()
}
