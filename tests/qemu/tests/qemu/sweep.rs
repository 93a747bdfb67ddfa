//! What a guest writes to its system registers, no other guest finds: all encodings, from EL1 and
//! EL0.

use anyhow::{Context, Result, ensure};
use stasis_guests::encodings::{COUNT, NOT_WRITTEN};
use stasis_host::config::GuestConfig;
use stasis_qemu_tests::guests::{SILENCE, numbers};
use stasis_qemu_tests::lab::Lab;
use stasis_qemu_tests::stasis::{Stasis, guest};

/// Sweeps: three values, from two exception levels.
const SWEEPS: usize = 6;

fn on_core_0(name: &str) -> GuestConfig {
    GuestConfig { cores: vec![0], ..guest(name, 4) }
}

/// Returns the number in the next line that begins so; none may tell of a fault.
fn number_of(stasis: &mut Stasis, guest: &str, start: &str) -> Result<u64> {
    loop {
        let line = stasis.qemu.console.next_line(SILENCE)?;
        ensure!(!line.contains("FAULT") && !line.contains("EXCEPTION"), "{guest}: {line}");
        if line.starts_with(start) {
            return numbers(&line).last().copied().with_context(|| line.clone());
        }
    }
}

/// Checks that both neighbours have gone on for more than a round, and have found nothing.
fn neighbours_are_well(stasis: &mut Stasis) -> Result<()> {
    for guest in ["reader", "watcher"] {
        stasis.attach(guest)?;
        let first = number_of(stasis, guest, "round ")?;
        while number_of(stasis, guest, "round ")? <= first {}
        stasis.detach()?;
    }
    Ok(())
}

fn swept(lab: &Lab, cpu: &str) -> Result<()> {
    let mut machine = lab.machine().cpus(1).cpu(cpu);
    for name in ["sweeper", "reader", "watcher"] {
        machine = machine.configured(on_core_0(name), Some(lab.guest(name)?));
    }
    let mut stasis = machine.boot()?;
    neighbours_are_well(&mut stasis)?;
    stasis.attach("sweeper")?;
    stasis.qemu.console.wait_for("type to begin", SILENCE)?;
    stasis.qemu.console.send(b"x")?;
    let mut taken = Vec::new();
    loop {
        let line = stasis.qemu.console.next_line(SILENCE)?;
        if line.ends_with(" took it") {
            taken.push(line);
        } else if line == "swept" {
            break;
        }
    }
    stasis.qemu.console.send(b"\x1d\r")?;
    neighbours_are_well(&mut stasis)?;
    ensure!(taken.len() == SWEEPS, "{taken:#?}");
    println!("{cpu}: of {} encodings: {taken:#?}", COUNT - NOT_WRITTEN.len());
    stasis.quit()
}

/// The two others have all that it has: so only with `STASIS_EVERY_CPU`, not to take their time
/// once more.
pub fn a_neighbour_finds_nothing_on_a_cortex_a57(lab: &Lab) -> Result<()> {
    if std::env::var_os("STASIS_EVERY_CPU").is_none() {
        println!("left out: set STASIS_EVERY_CPU=1");
        return Ok(());
    }
    swept(lab, "cortex-a57")
}

pub fn a_neighbour_finds_nothing_on_a_cortex_a72(lab: &Lab) -> Result<()> {
    swept(lab, "cortex-a72")
}

pub fn a_neighbour_finds_nothing_on_a_cpu_of_all_features(lab: &Lab) -> Result<()> {
    swept(lab, "max")
}
