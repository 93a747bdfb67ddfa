//! What takes minutes with clones, or counts.

use anyhow::{Context, Result, ensure};
use stasis_host::config::GuestConfig;
use stasis_qemu_tests::guests::numbers;
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::guest;
use xtask::build::Quick;

use crate::clones::{GUEST, linux_with_clones};
use crate::on_demand::these_go_on;

/// The original and fifteen clones have 4 GiB together.
pub fn sixteen_linux_fit_in_1_gib(lab: &Lab) -> Result<()> {
    linux_with_clones(lab, 15)?.quit()
}

/// Counted by the machine's own clock, whose microsecond is a thousand instructions. A quick image
/// may take more.
pub fn a_clone_of_256_mib_takes_at_most_300_000_instructions(lab: &Lab) -> Result<()> {
    let config = GuestConfig { vcpus: 1, ..guest(GUEST, 256) };
    let machine = lab.machine().configured(config, Some(lab.guest(GUEST)?)).cpus(1);
    let mut stasis = machine.cpu("cortex-a57,cntfrq=1000000000").counting_instructions(0).boot()?;
    these_go_on(&mut stasis, GUEST, 1)?;
    let limit = Quick::from_environment().limit(300_000);
    // Time in which a guest has the core, because the console's turn is over, is nobody's cost.
    stasis.command(&format!("pause {GUEST}"))?;
    // Memory that nobody has touched yet is cleared before the first clone, if it was not by then.
    stasis.command(&format!("clone {GUEST} as first"))?;
    for name in ["twin", "third"] {
        let lines = stasis.command(&format!("clone {GUEST} as {name}"))?;
        let line = lines.iter().find(|line| line.contains("stood still")).context("no line")?;
        println!("{line}");
        let [micros, pause] = numbers(line)[..] else {
            anyhow::bail!("\"{line}\" has two numbers")
        };
        ensure!(micros < limit / 1000 && pause <= micros, "{line}, of {limit} instructions");
    }
    for name in [GUEST, "first", "twin", "third"] {
        stasis.command(&format!("unpause {name}"))?;
        these_go_on(&mut stasis, name, 1)?;
    }
    stasis.quit()
}
