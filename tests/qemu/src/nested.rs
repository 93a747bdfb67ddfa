//! A KVM to run guests on: [`Nested`] is a Linux in QEMU, at EL2, with `stasis-kvm` in it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use xtask::build;
use xtask::console::Console;
use xtask::initramfs;

use crate::lab::{Built, Lab};
pub use crate::outer::Host;
use crate::outer::Outer;
use crate::stasis::Conversation;

/// The longest time until a guest runs, and until its checkpoint is written.
const WORK_TIME: Duration = Duration::from_secs(300);
/// MiB of the disk between two checkpoints that are brought, and from each to the one that is made
/// of its guest.
const STRIDE: usize = 256;
const OUT: usize = 128;

/// A Linux with a KVM, and a disk. It ends when this is dropped, and leaves a transcript.
pub struct Nested {
    outer: Outer,
    /// Bytes of each checkpoint that was brought.
    lengths: Vec<usize>,
    /// The image of the only checkpoint's guest's disk, if it has one.
    image: Option<Image>,
}

/// The image of a guest's disk. It stands on the host's disk behind the checkpoints.
#[derive(Clone, Debug)]
pub struct Image {
    /// The name of the volume.
    pub volume: String,
    /// What is on it: whole MiB.
    pub bytes: Vec<u8>,
}

impl Conversation for Nested {
    fn console(&mut self) -> &mut Console {
        self.outer.console()
    }
}

impl Nested {
    /// Starts a Linux, with these checkpoints on its disk.
    pub fn boot(lab: &Lab, host: Host, checkpoints: &[Vec<u8>]) -> Result<Self> {
        Self::boot_with(lab, host, checkpoints, None)
    }

    /// Starts a Linux, with these checkpoints on its disk, and the image of the only one's guest.
    pub fn boot_with(
        lab: &Lab,
        host: Host,
        checkpoints: &[Vec<u8>],
        image: Option<Image>,
    ) -> Result<Self> {
        let program = build::kvm(&Built::get()?.workspace)?;
        let programs = [("bin/stasis-kvm".to_owned(), program)];
        let outer =
            Outer::boot(lab, host, &programs, |disk| fill(disk, checkpoints, image.as_ref()))?;
        let lengths = checkpoints.iter().map(Vec::len).collect();
        Ok(Self { outer, lengths, image })
    }

    /// Starts the guest of checkpoint `n`. From here on the console is its.
    pub fn run(&mut self, n: usize) -> Result<()> {
        self.bring(n)?;
        self.start("/tmp/out")
    }

    /// Makes checkpoint `n` the file `/tmp/in`, with the image beside it.
    pub fn bring(&mut self, n: usize) -> Result<()> {
        let (len, at) = (self.lengths[n], n * STRIDE);
        let count = len.div_ceil(1 << 20);
        self.shell(&format!(
            "dd if=/dev/vda bs=1M skip={at} count={count} 2>/dev/null | head -c {len} > /tmp/in"
        ))?;
        if let Some(Image { volume, bytes }) = &self.image {
            let (at, count) = (self.lengths.len() * STRIDE, bytes.len() >> 20);
            let image = format!(
                "dd if=/dev/vda of=/tmp/in.{volume}.img bs=1M skip={at} count={count} 2>/dev/null"
            );
            self.shell(&image)?;
        }
        Ok(())
    }

    /// Starts the guest of `/tmp/in`, whose checkpoints go to `out`.
    pub fn start(&mut self, out: &str) -> Result<()> {
        let run = format!("stasis-kvm run /tmp/in --out {out}; echo ended with $?");
        self.console().send_line(&run)?;
        self.console().wait_for("runs; Ctrl-A H shows the keys", WORK_TIME)?;
        Ok(())
    }

    /// Types a command into the shell. Returns its status, and the lines that it prints.
    pub fn shell(&mut self, command: &str) -> Result<(u32, Vec<String>)> {
        self.outer.shell(command)
    }

    /// Makes a checkpoint of the guest, which goes on.
    pub fn checkpoint(&mut self) -> Result<()> {
        self.console().send(b"\x01s")?;
        self.console().wait_for("[checkpoint: /tmp/out", WORK_TIME).map(drop)?;
        Ok(())
    }

    /// Ends the guest, without a checkpoint.
    pub fn end(&mut self) -> Result<()> {
        self.console().send(b"\x01x")?;
        self.ended()
    }

    /// Waits until the guest has ended: by itself, it has switched its machine off.
    pub fn ended(&mut self) -> Result<()> {
        self.console().wait_for("ended with 0", WORK_TIME)?;
        self.console().wait_for(initramfs::OUTER_PROMPT, WORK_TIME)?;
        Ok(())
    }

    /// Makes a checkpoint of the guest, which ends, and returns it. `n` is the one from which it
    /// came. Whatever the kernel has to complain about is an error.
    pub fn leave(&mut self, n: usize) -> Result<Vec<u8>> {
        let at = n * STRIDE + OUT;
        let image = self.image.as_ref().map_or(String::new(), |Image { volume, .. }| {
            let at = self.lengths.len() * STRIDE;
            format!(
                "dd if=/tmp/out.{volume}.img of=/dev/vda bs=1M seek={at} conv=notrunc 2>/dev/null;"
            )
        });
        self.console().send(b"\x01q")?;
        self.console().wait_for("ended with 0", WORK_TIME)?;
        self.console().send_line(&format!(
            "dmesg | grep -E 'WARN|BUG|Oops|kvm.*fail' | sed 's/^/complaint /'; \
             dd if=/tmp/out of=/dev/vda bs=1M seek={at} conv=notrunc 2>/dev/null; \
             {image} sync; stat -c 'out has %s bytes' /tmp/out; rm /tmp/in /tmp/out"
        ))?;
        let mut complaints = Vec::new();
        let len: usize = self.console().find_line("the checkpoint's size", WORK_TIME, |line| {
            complaints.extend(line.strip_prefix("complaint ").map(str::to_owned));
            line.strip_prefix("out has ")?.strip_suffix(" bytes")?.parse().ok()
        })?;
        ensure!(complaints.is_empty(), "the Linux around the guest complains: {complaints:?}");
        let mut bytes = vec![0; len];
        let disk = File::open(self.outer.disk())?;
        let read = disk.read_exact_at(&mut bytes, (at as u64) << 20);
        read.context("the checkpoint is not on the disk")?;
        Ok(bytes)
    }

    /// Returns what the guest has on its disk, once it has [left](Self::leave).
    pub fn image(&self) -> Result<Vec<u8>> {
        let mut bytes = self.image.as_ref().context("the guest has no disk")?.bytes.clone();
        let at = (self.lengths.len() * STRIDE) as u64;
        File::open(self.outer.disk())?.read_exact_at(&mut bytes, at << 20)?;
        Ok(bytes)
    }
}

/// Makes a disk with these checkpoints on it, and room for what becomes of them.
fn fill(disk: &Path, checkpoints: &[Vec<u8>], image: Option<&Image>) -> Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(disk)?;
    let end = (checkpoints.len() * STRIDE) as u64 * (1 << 20);
    file.set_len(end)?;
    if let Some(Image { bytes, .. }) = image {
        file.write_all_at(bytes, end)?;
    }
    for (n, checkpoint) in checkpoints.iter().enumerate() {
        ensure!(checkpoint.len() <= OUT << 20, "a checkpoint is too large for the disk");
        file.write_all_at(checkpoint, ((n * STRIDE) as u64) << 20)?;
    }
    Ok(())
}
