//! `handler` at each of its points on a KVM: what it prints there, and what it prints when it comes
//! back at once. These tests run only by their name: `cargo xtask test travel`.

use std::path::Path;

use anyhow::{Context, Result};
use stasis_qemu_tests::differences::{self, Differences};
use stasis_qemu_tests::guests::{same, transcript};
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::nested::{Host, Nested};
use stasis_qemu_tests::round_trip::{Abroad, is_as_it_went};
use stasis_qemu_tests::stasis::Conversation;
use stasis_qemu_tests::tamper;

use crate::handlers::{Stored, answer, stored_at_each_point};

/// What tells the differences between Stasis and a KVM.
const DOCUMENT: &str = include_str!("../../../../docs/conversion.md");

/// Starts a KVM with the checkpoints of all points.
fn kvm(lab: &Lab, disk: &Path, points: &[(usize, u64)]) -> Result<Nested> {
    let brought = points.iter().map(|(_, number)| tamper::get(disk, *number));
    Nested::boot(lab, Host::Backports, &brought.collect::<Result<Vec<_>>>()?)
}

/// Takes `handler` to a KVM and back at each of its points, where it only waits there.
pub fn every_point_of_handler_comes_back_from_a_kvm_as_it_went(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let Stored { lines, points } = stored_at_each_point(lab, &disk)?;
    let mut nested = kvm(lab, &disk, &points)?;
    let mut stored = Vec::new();
    for (n, (_, number)) in points.iter().enumerate() {
        nested.run(n)?;
        let bytes = nested.leave(n).with_context(|| format!("at point {n}"))?;
        is_as_it_went(&tamper::get(&disk, *number)?, &bytes, Abroad::Kvm)
            .with_context(|| format!("at point {n}"))?;
        stored.push(tamper::put(&disk, &format!("back-{n}"), &bytes)?);
    }
    drop(nested);

    let mut stasis = lab.machine().no_archive().disk(&disk).boot()?;
    for ((printed, _), number) in points.iter().zip(stored) {
        stasis.resume(number)?;
        stasis.attach("handler")?;
        stasis.qemu.console.skip();
        stasis.qemu.console.send(b"x")?;
        let found = transcript(&mut stasis.qemu.console, answer)?;
        same(&lines[*printed..], &found).with_context(|| format!("from line {printed} on"))?;
        stasis.detach()?;
    }
    stasis.quit()
}

pub fn every_point_of_handler_prints_on_a_kvm_what_is_told(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let Stored { lines, points } = stored_at_each_point(lab, &disk)?;
    let mut nested = kvm(lab, &disk, &points)?;
    let mut found = Differences::new();
    for (n, (printed, _)) in points.iter().enumerate() {
        nested.run(n)?;
        nested.console().send(b"x")?;
        let theirs = transcript(nested.console(), answer).with_context(|| format!("point {n}"))?;
        nested.ended()?;
        differences::between(&lines, *printed, &theirs, &mut found);
    }
    differences::are_told(&found, &differences::table(DOCUMENT, ["on KVM", "scenes"])?)
}
