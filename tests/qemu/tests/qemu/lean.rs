//! The lean image: guests run in their partitions, and nobody gives commands.

use anyhow::{Result, ensure};
use stasis_guests::workload::{Model, parse};
use stasis_host::config::{CoreConfig, GuestConfig, Policy, WindowConfig};
use stasis_qemu_tests::guests::sound;
use stasis_qemu_tests::lab::{Built, Lab};
use stasis_qemu_tests::stasis::{BOOT_TIME, Setup, guest};
use xtask::build::{self, Edition};
use xtask::initramfs;
use xtask::setup;
use xtask::workspace::read;

use crate::linux;

/// Says that Linux has come to its init, and resets the machine.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox echo guest: up on $(/bin/busybox nproc) CPUs
/bin/busybox reboot -f
";

/// Returns a machine that starts the lean image.
fn machine(lab: &Lab) -> Result<Setup<'_>> {
    let image = build::hypervisor_for(&Built::get()?.workspace, Edition::Lean)?.image;
    Ok(lab.machine().image(&image))
}

/// What a machine with the lean image has shown so far.
#[derive(Debug, Default)]
struct Seen {
    hashes: usize,
    /// Linux has come to its init so often.
    boots: usize,
    /// Stasis has said so often that it starts Linux again.
    restarts: usize,
    windows: usize,
}

impl Seen {
    fn is_enough(&self) -> bool {
        self.hashes >= 3 && self.boots >= 2 && self.restarts >= 1 && self.windows >= 1
    }

    fn take(&mut self, line: &str, model: &mut Model) -> Result<()> {
        if line.ends_with("guest \"linux\" has reset its machine; it starts again") {
            self.restarts += 1;
            return Ok(());
        }
        let Some((guest, said)) = line.split_once("| ") else { return Ok(()) };
        sound(line)?;
        match guest {
            "counter" => {
                let Some((tick, hash)) = parse(said) else { return Ok(()) };
                ensure!(model.hash_at(tick) == hash, "\"{line}\" has a wrong hash");
                self.hashes += 1;
            }
            "linux" if said == "guest: up on 2 CPUs" => self.boots += 1,
            "ticker" if said.starts_with("ran ") => self.windows += 1,
            _ => {}
        }
        Ok(())
    }
}

pub fn guests_run_and_start_again_beside_a_window(lab: &Lab) -> Result<()> {
    let workspace = &Built::get()?.workspace;
    let of_core_0 = |name: &str, memory| GuestConfig { cores: vec![0], ..guest(name, memory) };
    let mut linux = GuestConfig { vcpus: 2, cores: vec![1, 2], ..guest("linux", 256) };
    linux.initrd = Some("initramfs".to_owned());
    linux.cmdline = "console=ttyAMA0 quiet".to_owned();
    let kernel = read(&setup::guests::ensure(workspace)?.kernel)?;
    let window = WindowConfig { guest: "ticker".to_owned(), at_us: 0, length_us: 2000 };
    let mut stasis = machine(lab)?
        .cpus(3)
        .file("initramfs", initramfs::make_with_init(workspace, INIT)?)
        .configured(linux, Some(kernel))
        .configured(of_core_0("counter", 32), Some(lab.guest("counter")?))
        .configured(of_core_0("ticker", 4), Some(lab.guest("ticker")?))
        .core(CoreConfig { number: 0, frame_us: 10_000, windows: vec![window] })
        .start()?;
    let (mut seen, mut model) = (Seen::default(), Model::new());
    while !seen.is_enough() {
        let line = stasis.qemu.console.next_line(linux::BOOT_TIME)?;
        seen.take(&line, &mut model)?;
    }
    stasis.kill()
}

pub fn what_it_can_not_serve_is_refused_by_its_key(lab: &Lab) -> Result<()> {
    let mut stasis = machine(lab)?
        .guest("idle")?
        .change("idle", |guest| guest.on_crash = Policy::Resume)
        .start()?;
    let expected = "guest \"idle\": on-crash = \"resume\": this image is lean, it has no store";
    stasis.qemu.console.wait_for(expected, BOOT_TIME)?;
    stasis.kill()
}
