//! What EL2 does by assembly of its own, which no test on the host can run.

use std::time::Duration;

use anyhow::{Result, ensure};
use stasis_qemu_tests::guests::transcript;
use stasis_qemu_tests::lab::{Built, Lab};
use xtask::qemu::Machine;

pub fn what_is_done_to_many_bytes_at_once_is_what_is_done_to_each(_: &Lab) -> Result<()> {
    let kernel = Built::get()?.guests.join("routines");
    let plain = Machine::plain(kernel, None).cpu("cortex-a72").memory("64M");
    let mut plain = plain.time_limit(Duration::from_secs(120)).start()?;
    let lines = transcript(&mut plain.console, |_| None)?;
    ensure!(lines.iter().any(|line| line == "CRC instruction: true"), "{lines:?}");
    let right = lines.iter().filter(|line| line.ends_with(" are right")).count();
    ensure!(right == 8, "{lines:?}");
    Ok(())
}
