//! The lean image: guests run in their partitions, and nobody gives commands.

use anyhow::{Result, bail, ensure};
use stasis_guests::workload::{Model, parse};
use stasis_host::config::{CoreConfig, GuestConfig, Policy, WindowConfig};
use stasis_qemu_tests::guests::{SILENCE, numbers, sound};
use stasis_qemu_tests::lab::{Built, Lab};
use stasis_qemu_tests::stasis::{BOOT_TIME, Setup, guest};
use xtask::build::{self, Edition};
use xtask::initramfs;
use xtask::setup;
use xtask::workspace::read;

use crate::{contained, linux};

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
    /// A guest in a window has told so often when it ran.
    reports: usize,
}

impl Seen {
    fn is_enough(&self) -> bool {
        self.hashes >= 3 && self.boots >= 2 && self.restarts >= 1 && self.reports >= 1
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
            "ticker" if said.starts_with("ran ") => {
                // The host takes its cores away when it likes, so how long it ran is looked at
                // where QEMU counts.
                let [least, most, away_least, away_most] = numbers(said)[..] else {
                    bail!("{line}")
                };
                ensure!(least <= most && away_least <= away_most, "{line}");
                self.reports += 1;
            }
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

/// What a guest has shown that prints as fast as it can, and resets its machine in the midst of a
/// line.
#[derive(Debug, Default)]
struct Chatter {
    /// The number of its last line that was shown; 0 before the first.
    last: u64,
    lines: u64,
    losses: u64,
    /// Whether it has begun its last line.
    is_over: bool,
    resets: usize,
}

impl Chatter {
    fn take(&mut self, line: &str) -> Result<()> {
        if line.ends_with("guest \"chatter\" has reset its machine; it starts again") {
            ensure!(self.is_over, "its last line was not shown before it starts again");
            (self.last, self.is_over) = (0, false);
            self.resets += 1;
            return Ok(());
        }
        let Some(said) = line.strip_prefix("chatter| ") else { return Ok(()) };
        ensure!(!self.is_over, "\"{line}\" is behind its last line");
        match numbers(said)[..] {
            [] if said == "farewell" => self.is_over = true,
            [number] if said == format!("line {number}") => {
                ensure!(number > self.last, "{line:?} is behind line {}", self.last);
                (self.last, self.lines) = (number, self.lines + 1);
            }
            [bytes] if said == format!("[{bytes} bytes are lost]") => self.losses += 1,
            _ => bail!("\"{line}\" is not whole"),
        }
        Ok(())
    }
}

pub fn a_window_is_kept_beside_a_guest_that_prints_as_fast_as_it_can(lab: &Lab) -> Result<()> {
    let image = build::hypervisor_for(&Built::get()?.workspace, Edition::Lean)?.image;
    let chatter = GuestConfig { cores: vec![0], ..guest("chatter", 4) };
    let mut stasis = contained::with_windows(lab.machine().image(&image), lab, 1)?
        .configured(chatter, Some(lab.guest("chatter")?))
        .start()?;
    let (mut seen, mut said) = (Chatter::default(), String::new());
    while seen.resets == 0 || seen.last == 0 {
        let line = stasis.qemu.console.next_line(SILENCE)?;
        seen.take(&line)?;
        // To start a guest again takes the core in larger pieces.
        if let (Some(report), 0) = (line.strip_prefix("ticker| "), seen.resets) {
            said += report;
            said += "\n";
        }
    }
    ensure!(seen.losses > 0, "it prints no faster than its lines are shown");
    contained::windows_are_whole(&said)?;
    println!("{seen:?}; {said}");
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
