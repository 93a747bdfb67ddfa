//! The guest's machine is QEMU's `virt`: the same guest sees the same there and here.

use std::time::Duration;

use anyhow::{Result, ensure};
use stasis_qemu_tests::guests::{same, transcript};
use stasis_qemu_tests::lab::{Built, Lab};
use xtask::qemu::Machine;

/// The line after which `probe` waits for a byte, and then begins.
pub const BEGIN: &str = "begin";

/// Returns the bytes that `probe` asks for by a line.
pub fn answer(line: &str) -> Option<Vec<u8>> {
    if line == BEGIN {
        return Some(b"x".to_vec());
    }
    let count: usize = line.strip_prefix("send ")?.parse().ok()?;
    Some(b"abcdefgh"[..count].to_vec())
}

pub fn probe_sees_what_it_sees_on_plain_qemu(lab: &Lab) -> Result<()> {
    let kernel = Built::get()?.guests.join("probe");
    let mut plain = Machine::plain(kernel, None)
        .cpu("cortex-a72")
        .memory("32M")
        .time_limit(Duration::from_secs(120))
        .start()?;
    let expected = transcript(&mut plain.console, answer)?;
    let mut stasis = lab.machine().guest("probe")?.boot()?;
    stasis.attach("probe")?;
    let found = transcript(&mut stasis.qemu.console, answer)?;
    same(&expected, &found)?;
    smc_is_like_hvc(&found)?;
    let level = "~ receive level RIS 0x10".to_owned();
    ensure!(found.contains(&level), "a cleared interrupt is deaf to the byte that came before");
    Ok(())
}

/// Checks that an SMC answers what an HVC does. On plain QEMU there is no SMC.
fn smc_is_like_hvc(lines: &[String]) -> Result<()> {
    let by = |conduit: &str| -> Vec<&str> {
        lines.iter().filter_map(|line| line.strip_prefix(conduit)).collect()
    };
    let (hvc, smc) = (by("hvc PSCI"), by("~ smc PSCI"));
    ensure!(!smc.is_empty() && hvc == smc, "by HVC: {hvc:#?}\nby SMC: {smc:#?}");
    ensure!(by("hvc unknown") == by("~ smc unknown") && by("hvc CPU_ON") == by("~ smc CPU_ON"));
    Ok(())
}
