//! A QEMU with `-accel kvm`: [`Accelerated`] is a Linux with a KVM in QEMU, at EL2, with another
//! QEMU in it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use xtask::console::Console;
use xtask::initramfs::OUTER_PROMPT;
use xtask::setup::arm_qemu;

use crate::lab::{Built, Lab};
use crate::outer::{Host, Outer};
use crate::stasis::Conversation;

/// The longest time until the inner QEMU has done what it was told.
const WORK_TIME: Duration = Duration::from_secs(300);
/// MiB of the disk, by which files come and go.
const DISK: u64 = 4096;
/// QEMU's key for the monitor.
const TO_MONITOR: &[u8] = b"\x01c";
/// The prompt of QEMU's monitor.
const MONITOR: &str = "(qemu)";

/// A Linux with a KVM and a QEMU. It ends when this is dropped, and leaves a transcript.
pub struct Accelerated {
    outer: Outer,
    /// MiB of the disk that were used. Each file has a place of its own, of which the Linux has
    /// nothing in memory.
    used: u64,
}

impl Conversation for Accelerated {
    fn console(&mut self) -> &mut Console {
        self.outer.console()
    }
}

impl Accelerated {
    /// Starts a Linux with a QEMU.
    pub fn boot(lab: &Lab, host: Host) -> Result<Self> {
        let arm_qemu::Files { program, libraries } = arm_qemu::ensure(&Built::get()?.workspace)?;
        let mut programs = vec![(format!("bin/{}", name(&program)?), program)];
        for library in libraries {
            programs.push((format!("lib/{}", name(&library)?), library));
        }
        let outer = Outer::boot(lab, host, &programs, |disk| {
            let file = OpenOptions::new().write(true).create(true).truncate(true).open(disk)?;
            Ok(file.set_len(DISK << 20)?)
        })?;
        Ok(Self { outer, used: 0 })
    }

    /// Returns the next place on the disk for this many bytes, in MiB.
    fn place(&mut self, bytes: usize) -> Result<u64> {
        let place = self.used;
        // A MiB between two files: the Linux reads ahead.
        self.used += (bytes as u64 >> 20) + 2;
        ensure!(self.used <= DISK, "the disk has no room for another file");
        Ok(place)
    }

    /// Types a command into the shell, and returns the lines that come before its end. It must end
    /// well.
    pub fn shell(&mut self, command: &str) -> Result<Vec<String>> {
        let (status, lines) = self.outer.shell(command)?;
        ensure!(status == 0, "{command}: {lines:?}");
        Ok(lines)
    }

    /// Brings a file to the Linux, where it is `name`.
    pub fn put(&mut self, bytes: &[u8], name: &str) -> Result<()> {
        let at = self.place(bytes.len())?;
        let disk = OpenOptions::new().write(true).open(self.outer.disk())?;
        disk.write_all_at(bytes, at << 20)?;
        let (count, len) = (bytes.len().div_ceil(1 << 20), bytes.len());
        self.shell("echo 3 > /proc/sys/vm/drop_caches")?;
        self.shell(&format!(
            "dd if=/dev/vda bs=1M skip={at} count={count} 2>/dev/null | head -c {len} > {name}"
        ))?;
        Ok(())
    }

    /// Returns a file of the Linux.
    pub fn get(&mut self, name: &str) -> Result<Vec<u8>> {
        let size = self.shell(&format!("stat -c 'it has %s bytes' {name}"))?;
        let len =
            |line: &String| line.strip_prefix("it has ")?.strip_suffix(" bytes")?.parse().ok();
        let len: usize =
            size.iter().find_map(len).with_context(|| format!("no {name}: {size:?}"))?;
        let at = self.place(len)?;
        self.shell(&format!("dd if={name} of=/dev/vda bs=1M seek={at} 2>/dev/null; sync"))?;
        let mut bytes = vec![0; len];
        let disk = File::open(self.outer.disk())?;
        disk.read_exact_at(&mut bytes, at << 20).context("the file is not on the disk")?;
        Ok(bytes)
    }

    /// Starts QEMU by a command line. From here on the console is its guest's.
    pub fn start(&mut self, command: &str) -> Result<()> {
        Ok(self.console().send_line(&format!("{command}; echo ended with $?"))?)
    }

    /// Stops the guest, and returns the stream that QEMU writes of it. QEMU ends. Whatever the
    /// kernel has to complain about is an error.
    pub fn leave(&mut self) -> Result<Vec<u8>> {
        self.console().send(TO_MONITOR)?;
        self.console().wait_for(MONITOR, WORK_TIME)?;
        for command in ["stop", "migrate file:/tmp/back"] {
            self.console().send_line(command)?;
            self.console().wait_for(MONITOR, WORK_TIME)?;
        }
        // The monitor has its prompt before all is written.
        loop {
            self.console().send_line("info migrate")?;
            let said = self
                .console()
                .wait_for("Migration status: ", WORK_TIME)
                .and_then(|_| self.console().next_line(WORK_TIME))?;
            ensure!(!said.contains("failed"), "QEMU writes no stream: {said}");
            self.console().wait_for(MONITOR, WORK_TIME)?;
            if said.contains("completed") {
                break;
            }
        }
        self.console().send_line("quit")?;
        self.console().wait_for("ended with 0", WORK_TIME)?;
        self.console().wait_for(OUTER_PROMPT, WORK_TIME)?;
        let complaints =
            self.shell("dmesg | grep -E 'WARN|BUG|Oops|kvm.*fail' | sed 's/^/complaint /'")?;
        ensure!(
            !complaints.iter().any(|line| line.starts_with("complaint ")),
            "the Linux around the guest complains: {complaints:?}"
        );
        let bytes = self.get("/tmp/back")?;
        self.shell("rm /tmp/back")?;
        Ok(bytes)
    }
}

fn name(path: &Path) -> Result<&str> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.with_context(|| format!("{} has no name", path.display()))
}
