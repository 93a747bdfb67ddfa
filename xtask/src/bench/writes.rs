//! Writes: what a guest's first write to a page takes after a checkpoint, and how much of its time is left to a guest with `checkpoint-every = "1s"`.
//!
//! The guest `writer` tells what its writes take, on a [counting](super::meter) machine of one core, which the guest shares with the task that makes its
//! checkpoints.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use stasis_host::config::{Configuration, GuestConfig, Periodic};

use super::meter::counting;
use crate::console::Console;
use crate::qemu::{Machine, Qemu};
use crate::workspace::{Workspace, read, write};
use crate::{archive, disk};

/// Size of the guest's memory, in bytes.
const MEMORY: u64 = 256 << 20;
/// Time that a command, or the guest's next line, may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writes {
    /// Instructions of the first write to a page that the last checkpoint has.
    pub after: u64,
    /// Instructions of the first write to a page that the checkpoint under way does not have yet.
    pub meanwhile: u64,
    /// Pages that the guest fills in two seconds without checkpoints.
    pub filled: u64,
    /// Pages that it fills with one each second.
    pub filled_periodic: u64,
}

impl Writes {
    /// Returns the share of time that checkpoints leave to the guest that fills memory, in percent.
    pub fn share(&self) -> u64 {
        self.filled_periodic * 100 / self.filled.max(1)
    }
}

/// Measures on machines with this image, and the guest `writer` in this folder.
pub fn measure(workspace: &Workspace, image: &Path, guests: &Path) -> Result<Writes> {
    let guest = read(&guests.join("writer"))?;
    let bench = Bench { workspace, image, guest };
    let (mut machine, _room) = bench.boot(None)?;
    let console = &mut machine.console;
    let filled = told(console, "f", "writer filled ")?;
    // All pages count as written before the checkpoint.
    told(console, "o", ", median ")?;
    console.command_within("checkpoint writer first", PATIENCE, |_| ())?;
    let after = told(console, "o", ", median ")?;
    console.command("attach writer")?;
    console.send(b"l")?;
    console.detach()?;
    console.command_within("checkpoint writer second", PATIENCE, |_| ())?;
    let meanwhile = told(console, "x", ", median ")?;
    machine.kill()?;
    let periodic =
        Periodic { every_us: 1_000_000, keep: 1, run_share: Periodic::DEFAULT_RUN_SHARE };
    let (mut machine, _room) = bench.boot(Some(periodic))?;
    let filled_periodic = told(&mut machine.console, "f", "writer filled ")?;
    machine.kill()?;
    Ok(Writes { after, meanwhile, filled, filled_periodic })
}

/// What each machine has.
struct Bench<'w> {
    workspace: &'w Workspace,
    image: &'w Path,
    guest: Vec<u8>,
}

impl Bench<'_> {
    /// Boots the guest, and waits until it has written its pages once. Returns the folder of the disk, too.
    fn boot(&self, periodic: Option<Periodic>) -> Result<(Qemu, tempfile::TempDir)> {
        let config = GuestConfig {
            cores: vec![0],
            periodic,
            ..GuestConfig::new("writer", "writer", MEMORY)
        };
        let configuration = Configuration { guests: vec![config], ..Default::default() };
        let room = tempfile::tempdir()?;
        let image = room.path().join("disk.img");
        disk::create(&image, 1 << 30)?;
        let archive = self.workspace.folder("stasis")?.join("writes.cpio");
        write(&archive, &archive::pack(&configuration, &[("writer", &self.guest)])?)?;
        let machine = Machine::stasis(self.image, Some(&archive)).memory("2G").disk(&image);
        let mut machine = counting(machine).cpus(1).time_limit(PATIENCE * 4).start()?;
        let console = &mut machine.console;
        console.wait_for("stasis> ", PATIENCE)?;
        console.command("attach writer")?;
        console.wait_for("writer first ", PATIENCE)?;
        console.detach()?;
        Ok((machine, room))
    }
}

/// Types a byte to the guest, and returns the number behind `mark` in what it says then.
fn told(console: &mut Console, byte: &str, mark: &str) -> Result<u64> {
    console.command("attach writer")?;
    console.send(byte.as_bytes())?;
    console.wait_for(mark, PATIENCE)?;
    let line = console.wait_for("\n", PATIENCE)?;
    console.detach()?;
    let number: String = line.chars().take_while(char::is_ascii_digit).collect();
    number.parse().with_context(|| format!("\"{mark}\" is followed by \"{line}\""))
}
