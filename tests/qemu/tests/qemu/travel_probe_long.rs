//! What a guest sees of its machine elsewhere: guest `probe` is stored before it begins, and prints
//! in QEMU and on a KVM what it prints in Stasis, but for what a table tells. These tests run only
//! by their name: `cargo xtask test travel`.

use anyhow::{Context, Result};
use stasis_qemu_tests::differences::{self, Differences};
use stasis_qemu_tests::guests::{SILENCE, transcript};
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::nested::{Host, Nested};
use stasis_qemu_tests::stasis::Conversation;
use stasis_qemu_tests::tamper;

use crate::same_machine::{BEGIN, answer};
use crate::travel_qemu::to_plain;

/// What tells the differences.
const DOCUMENT: &str = include_str!("../../../../docs/conversion.md");

/// Returns what the guest prints from where it was stored.
fn seen(guest: &mut impl Conversation) -> Result<Vec<String>> {
    let console = guest.console();
    console.send(b"x")?;
    let mut lines = transcript(console, answer)?;
    lines.retain(|line| !line.is_empty());
    Ok(lines)
}

/// Returns the lines without those of calls by SMC, an instruction that QEMU's machine does not
/// have.
fn without_smc(lines: &[String]) -> Vec<String> {
    let by_smc = ["~ smc ", "~ SMCCC ~ smc "];
    lines
        .iter()
        .filter(|line| !by_smc.iter().any(|begin| line.starts_with(begin)))
        .cloned()
        .collect()
}

pub fn probe_sees_elsewhere_what_is_told(lab: &Lab) -> Result<()> {
    let disk = lab.disk()?;
    let mut stasis = lab.machine().guest("probe")?.disk(&disk).boot()?;
    stasis.attach("probe")?;
    stasis.qemu.console.wait_for(BEGIN, SILENCE)?;
    stasis.detach()?;
    let number = stasis.checkpoint("probe", BEGIN)?;
    stasis.attach("probe")?;
    let ours = seen(&mut stasis)?;
    stasis.kill()?;

    let mut found = Differences::new();
    let theirs = seen(&mut to_plain(lab, &disk, number, 1, "32M")?).context("in QEMU")?;
    differences::of_lines(&without_smc(&ours), &theirs, "QEMU", &mut found);
    let bytes = tamper::get(&disk, number)?;
    for (host, place) in [(Host::Backports, "KVM 6.12"), (Host::Stable, "KVM 6.1")] {
        let mut nested = Nested::boot(lab, host, std::slice::from_ref(&bytes))?;
        nested.run(0)?;
        let theirs = seen(&mut nested).context(place)?;
        nested.ended()?;
        differences::of_lines(&ours, &theirs, place, &mut found);
    }
    differences::are_told(&found, &differences::table(DOCUMENT, ["elsewhere", "where"])?)
}
