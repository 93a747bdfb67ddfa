//! Guests that travel between Stasis and a KVM on longer ways, and in states that most are never in.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stasis_guests::workload::Model;
use stasis_qemu_tests::guests::{same, ticks, transcript, waits};
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::nested::{Host, Nested};
use stasis_qemu_tests::stasis::{Conversation, guest};
use stasis_qemu_tests::tamper;

use crate::handlers::{transcript_to_a_point, undisturbed};
use crate::resume::{follows, watch};
use crate::travel_kvm::{back, linux_there_and_back};

/// The longest silence of the guest with SGIs.
const GAME_TIME: Duration = Duration::from_secs(300);

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

pub fn sgis_in_the_midst_are_all_taken(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let mut config = guest("ipi", 32);
    config.vcpus = 2;
    let setup = lab.machine().cpus(3).disk(&disk).configured(config, Some(lab.guest("ipi")?));
    let mut stasis = setup.boot()?;
    stasis.attach("ipi")?;
    let find = "some SGIs to be taken";
    stasis
        .qemu
        .console
        .find_line(find, GAME_TIME, |line| line.ends_with(" taken").then_some(()))?;
    stasis.detach()?;
    let number = stasis.checkpoint("ipi", "in-the-midst")?;
    stasis.kill()?;

    let mut nested = Nested::boot(lab, Host::Backports, &[tamper::get(&disk, number)?])?;
    nested.run(0)?;
    let sum = nested.console().find_line("the sum of the SGIs", GAME_TIME, |line| {
        line.contains(" SGIs sent, ").then(|| line.to_owned())
    })?;
    ensure!(sum.contains("65536 SGIs sent, 65536 taken, 0 from somebody else"), "{sum}");
    Ok(())
}

/// Takes `handler` to a KVM and back at each of its points, without a step there: a KVM has its own limits on what is active, which docs/stasis-kvm.md tells.
pub fn handlers_go_on_but_for_what_is_told(lab: &Lab) -> Result<()> {
    let expected = undisturbed(lab)?;
    let disk = lab.disk()?;
    let mut stasis = lab.machine().guest("handler")?.disk(&disk).boot()?;
    stasis.attach("handler")?;
    let (mut points, mut seen) = (Vec::new(), 0);
    loop {
        let part = transcript_to_a_point(&mut stasis.qemu.console)?;
        seen += part.len();
        if !part.last().is_some_and(|line| waits(line)) {
            break;
        }
        stasis.detach()?;
        let number = stasis.checkpoint("handler", &format!("point-{}", points.len()))?;
        points.push((seen, number));
        stasis.attach("handler")?;
        stasis.qemu.console.send(b"x")?;
    }
    stasis.kill()?;
    ensure!(points.len() >= 15, "only {} points", points.len());

    let brought: Result<Vec<_>> =
        points.iter().map(|(_, number)| tamper::get(&disk, *number)).collect();
    let mut nested = Nested::boot(lab, Host::Backports, &brought?)?;
    let mut stored = Vec::new();
    for n in 0..points.len() {
        nested.run(n)?;
        let bytes = nested.leave(n).with_context(|| format!("at point {n}"))?;
        stored.push(tamper::put(&disk, &format!("back-{n}"), &bytes)?);
    }
    drop(nested);

    let mut stasis = lab.machine().no_archive().disk(&disk).boot()?;
    for ((seen, _), number) in points.iter().zip(stored) {
        stasis.resume(number)?;
        stasis.attach("handler")?;
        stasis.qemu.console.skip();
        stasis.qemu.console.send(b"x")?;
        let answer = |line: &str| waits(line).then(|| b"x".to_vec());
        let found = transcript(&mut stasis.qemu.console, answer)?;
        same(&expected[*seen..], &found).with_context(|| format!("from line {seen} on"))?;
        stasis.detach()?;
    }
    stasis.quit()
}
