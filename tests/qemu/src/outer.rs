//! A Linux with a KVM: [`Outer`], in QEMU, at EL2. [`nested`](crate::nested) and
//! [`accelerated`](crate::accelerated) run guests in it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use xtask::console::Console;
use xtask::initramfs;
use xtask::qemu::{Machine, Qemu};
use xtask::setup::guests::{self, Kernel};
use xtask::workspace::write;

use crate::lab::{Built, Lab};
use crate::stasis::Conversation;

/// The longest time until the Linux has its shell.
const BOOT_TIME: Duration = Duration::from_secs(300);
/// The longest time that a command takes.
const WORK_TIME: Duration = Duration::from_secs(300);
/// The longest time that the machine runs.
const LIFE_TIME: Duration = Duration::from_secs(1800);

/// A kind of host: its kernel, and its CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// The kernel that the guests have, 6.1 in Debian 12, on a Cortex-A72: KVM alone is in EL2
    /// (nVHE).
    Stable,
    /// The kernel of Debian's backports, 6.12 for Debian 12, on a Cortex-A72.
    Backports,
    /// The kernel of Debian's backports on a CPU with FEAT_VHE: all of Linux is in EL2.
    Vhe,
    /// The kernel that the guests have on a CPU with FEAT_VHE.
    StableVhe,
}

impl Host {
    fn kernel(self) -> Result<Kernel> {
        let workspace = &Built::get()?.workspace;
        match self {
            Self::Stable | Self::StableVhe => guests::kernel(workspace),
            Self::Backports | Self::Vhe => guests::backports_kernel(workspace),
        }
    }

    fn cpu(self) -> &'static str {
        match self {
            Self::Stable | Self::Backports => "cortex-a72",
            // QEMU's `max` counts at 1 GHz unless it is told the frequency of the others.
            Self::Vhe | Self::StableVhe => "max,sve=off,pauth=off,cntfrq=62500000",
        }
    }
}

/// A Linux with a KVM, and a disk. It ends when this is dropped, and leaves a transcript.
pub struct Outer {
    qemu: Qemu,
    disk: PathBuf,
    transcript: PathBuf,
}

impl Conversation for Outer {
    fn console(&mut self) -> &mut Console {
        &mut self.qemu.console
    }
}

impl Outer {
    /// Starts a Linux with these programs, and waits for its shell. `fill` makes its disk.
    pub fn boot(
        lab: &Lab,
        host: Host,
        programs: &[(String, PathBuf)],
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Self> {
        let workspace = &Built::get()?.workspace;
        let transcript = lab.next_transcript();
        write(&transcript, b"")?;
        let (disk, initrd) =
            (transcript.with_extension("disk"), transcript.with_extension("initramfs"));
        let kernel = host.kernel()?;
        write(&initrd, &initramfs::make_for_kvm(workspace, &kernel.disk_drivers, programs)?)?;
        fill(&disk)?;
        let machine = Machine::stasis(kernel.image, Some(&initrd))
            .cpu(host.cpu())
            .cmdline("console=ttyAMA0 quiet")
            .memory("2G")
            .disk(&disk)
            .time_limit(LIFE_TIME);
        let mut outer = Self { qemu: machine.start()?, disk, transcript };
        outer.console().wait_for(initramfs::OUTER_PROMPT, BOOT_TIME)?;
        Ok(outer)
    }

    /// Types a command into the shell. Returns its status, and the lines that it prints.
    pub fn shell(&mut self, command: &str) -> Result<(u32, Vec<String>)> {
        // The shell shows what was typed in several lines; so what it prints begins with a number
        // that was not typed.
        let typed = format!("echo begin of $((6 * 7)); {command}; echo ended with $?");
        self.console().send_line(&typed)?;
        let begins = |line: &str| (line == "begin of 42").then_some(());
        self.console().find_line("the start of a command", WORK_TIME, begins)?;
        let mut lines = Vec::new();
        let status = self.console().find_line("the end of a command", WORK_TIME, |line| {
            let status = line.strip_prefix("ended with ").and_then(|status| status.parse().ok());
            lines.extend(status.is_none().then(|| line.to_owned()));
            status
        })?;
        self.console().wait_for(initramfs::OUTER_PROMPT, WORK_TIME)?;
        lines.retain(|line| !line.trim().is_empty());
        Ok((status, lines))
    }

    /// Returns the image of its disk, which the machine writes.
    pub fn disk(&self) -> &Path {
        &self.disk
    }
}

impl Drop for Outer {
    fn drop(&mut self) {
        // Without its transcript, a failure says less.
        let _ = std::fs::write(&self.transcript, self.qemu.console.transcript());
        remove(&self.disk);
        remove(&self.transcript.with_extension("initramfs"));
    }
}

/// Removes a file that takes much room.
fn remove(path: &Path) {
    let _ = std::fs::remove_file(path);
}
