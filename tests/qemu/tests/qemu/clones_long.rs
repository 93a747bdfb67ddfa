//! What takes minutes with clones, or counts.

use anyhow::{Context, Result, ensure};
use stasis_host::config::GuestConfig;
use stasis_qemu_tests::guests::numbers;
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::guest;

use crate::clones::{GUEST, linux_with_clones};
use crate::on_demand::this_goes_on;

/// The original and fifteen clones have 4 GiB together.
pub fn sixteen_linux_fit_in_1_gib(lab: &Lab) -> Result<()> {
    linux_with_clones(lab, 15)?.quit()
}

/// Counted by the machine's own clock, whose microsecond is a thousand instructions.
pub fn a_clone_of_256_mib_takes_at_most_300_000_instructions(lab: &Lab) -> Result<()> {
    let config = GuestConfig { vcpus: 1, ..guest(GUEST, 256) };
    let machine = lab.machine().configured(config, Some(lab.guest(GUEST)?)).cpus(1);
    let mut stasis = machine.cpu("cortex-a57,cntfrq=1000000000").counting_instructions(0).boot()?;
    this_goes_on(&mut stasis, GUEST)?;
    // Time in which a guest has the core, because the console's turn is over, is nobody's cost.
    stasis.command(&format!("pause {GUEST}"))?;
    for name in ["twin", "third"] {
        let lines = stasis.command(&format!("clone {GUEST} as {name}"))?;
        let line = lines.iter().find(|line| line.contains("stood still")).context("no line")?;
        println!("{line}");
        let [micros, pause] = numbers(line)[..] else {
            anyhow::bail!("\"{line}\" has two numbers")
        };
        ensure!(micros < 300 && pause <= micros, "{line}");
    }
    for name in [GUEST, "twin", "third"] {
        stasis.command(&format!("unpause {name}"))?;
        this_goes_on(&mut stasis, name)?;
    }
    stasis.quit()
}
