//! Two vCPUs that interrupt each other see what they see on plain QEMU.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stasis_qemu_tests::guests::{same, transcript};
use stasis_qemu_tests::lab::{Built, Lab};
use stasis_qemu_tests::stasis::guest;
use xtask::qemu::Machine;

/// What is right where plain QEMU is wrong, or differs: see the guest.
const OURS: [&str; 5] = [
    "~ absent CPUs: targets 0x3",
    "~ untargeted: pending",
    "~ untargeted: then taken 64",
    "~ by word:  CPU 0 ISPENDR0 0x0 SPENDSGIR1 0x0 CPU 1 ISPENDR0 0x20 SPENDSGIR1 0x100",
    "~ both targets: by the other 1023",
];
/// What is right where plain QEMU is wrong about an SPI that is moved while it is active.
const MOVED: [&str; 2] =
    ["~ moved: active and pending, taken 1023 1023", "~ moved: ended, taken SPI: active, 1023"];

pub fn two_cpus_see_what_they_see_on_plain_qemu(lab: &Lab) -> Result<()> {
    let kernel = Built::get()?.guests.join("ipi");
    let mut plain = Machine::plain(kernel, None)
        .cpu("cortex-a72")
        .cpus(2)
        .memory("32M")
        .time_limit(Duration::from_secs(180))
        .start()?;
    let expected = transcript(&mut plain.console, |_| None)?;
    drop(plain);

    let mut config = guest("ipi", 32);
    config.vcpus = 2;
    // A core for each vCPU, and one for the console: on a core that is shared, each wait costs
    // exits.
    let mut stasis = lab.machine().cpus(3).configured(config, Some(lab.guest("ipi")?)).boot()?;
    stasis.attach("ipi")?;
    let found = transcript(&mut stasis.qemu.console, |_| None)?;
    same(&expected, &found)?;

    for line in OURS {
        ensure!(found.iter().any(|found| found == line), "no line is \"{line}\"");
    }
    for line in MOVED {
        for (spi, times) in [("64", 2), ("80", 2)] {
            let line = line.replace("SPI", spi);
            let count = found.iter().filter(|found| **found == line).count();
            ensure!(count >= times, "\"{line}\" is there {count} times");
        }
    }
    let sum = "asleep: 65536 SGIs sent, 65536 taken, 0 from somebody else";
    found.iter().find(|line| *line == sum).context("not all SGIs were taken").map(drop)
}
