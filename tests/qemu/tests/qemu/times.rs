//! Deadlines near the ends of 64 bits: a guest that sets its timers to "never" is left alone, as on
//! plain QEMU.

use anyhow::Result;
use stasis_qemu_tests::guests::{SILENCE, is_log, same, sound};
use stasis_qemu_tests::lab::{Built, Lab};
use stasis_qemu_tests::tamper::{self, File};
use stasis_state::guest::Clock;
use std::time::Duration;
use xtask::console::Console;
use xtask::qemu::Machine;

/// The counters with which the guest is resumed: far ahead of the machine's, which makes CNTVOFF
/// negative.
const AHEAD: [u64; 2] = [1 << 40, 1 << 62];

/// Returns a round of the guest's lines.
fn round(console: &mut Console) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let line = console.next_line(SILENCE)?;
        sound(&line)?;
        match line.as_str() {
            "next" => return Ok(lines),
            _ if is_log(&line) || line.is_empty() => {}
            _ => lines.push(line),
        }
    }
}

pub fn a_timer_set_to_never_leaves_its_guest_alone(lab: &Lab) -> Result<()> {
    let kernel = Built::get()?.guests.join("never");
    let mut plain = Machine::plain(kernel, None)
        .cpu("cortex-a72")
        .memory("32M")
        .time_limit(Duration::from_secs(120))
        .start()?;
    let expected = round(&mut plain.console)?;
    drop(plain);

    let disk = lab.disk()?;
    // On a core that it shares with another guest its WFI traps.
    let mut stasis = lab.machine().cpus(1).guest("never")?.guest("idle")?.disk(&disk).boot()?;
    stasis.attach("never")?;
    same(&expected, &round(&mut stasis.qemu.console)?)?;
    stasis.detach()?;
    let number = stasis.checkpoint("never", "late")?;
    stasis.quit()?;

    let mut file = File::parse(&tamper::get(&disk, number)?)?;
    for cntvct in AHEAD {
        file.set::<Clock>(0, "cntvct", cntvct)?;
        let ahead = tamper::put(&disk, "ahead", &file.to_bytes())?;
        let mut stasis = lab.machine().cpus(1).guest("idle")?.disk(&disk).boot()?;
        stasis.resume(ahead)?;
        stasis.attach("never")?;
        stasis.qemu.console.send(b"x")?;
        same(&expected, &round(&mut stasis.qemu.console)?)?;
        stasis.detach()?;
        stasis.quit()?;
    }
    Ok(())
}
