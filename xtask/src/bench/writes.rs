//! Writes: what a guest's first write to a page takes after a checkpoint, and how much of its time
//! is left to a guest with `checkpoint-every = "1s"`.
//!
//! The guest `writer` tells what its writes take, on a [counting](super::meter) machine of one
//! core, which the guest shares with the task that makes its checkpoints.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
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
    /// The first writes to pages that the last checkpoint has.
    pub after: Slow,
    /// The first writes to pages that the checkpoint under way does not have yet.
    pub meanwhile: Slow,
    /// Pages that the guest fills in two seconds without checkpoints.
    pub filled: u64,
    /// Pages that it fills with one each second.
    pub filled_periodic: u64,
}

/// Writes that have left to Stasis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slow {
    /// How many they were.
    pub count: u64,
    /// Median of the instructions of one.
    pub median: u64,
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
    slow(console, "o", "writer once ")?;
    console.command_within("checkpoint writer first", PATIENCE, |_| ())?;
    let after = slow(console, "o", "writer once ")?;
    console.command("attach writer")?;
    console.send(b"l")?;
    console.detach()?;
    console.command_within("checkpoint writer second", PATIENCE, |_| ())?;
    let meanwhile = slow(console, "x", "writer again ")?;
    machine.kill()?;
    ensure!(meanwhile.count > 0, "the checkpoint had each page before the guest came to it");
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
    /// Boots the guest, and waits until it has written its pages once. Returns the folder of the
    /// disk, too.
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
    let line = line(console, byte, mark)?;
    number(&line).with_context(|| format!("\"{mark}\" is followed by \"{line}\""))
}

/// Types a byte to the guest, and returns what it says behind `mark` of its slow writes.
fn slow(console: &mut Console, byte: &str, mark: &str) -> Result<Slow> {
    let line = line(console, byte, mark)?;
    parse(&line).with_context(|| format!("\"{mark}\" is followed by \"{line}\""))
}

/// Types a byte to the guest, and returns the rest of the line in which it says `mark` then.
fn line(console: &mut Console, byte: &str, mark: &str) -> Result<String> {
    console.command("attach writer")?;
    console.send(byte.as_bytes())?;
    console.wait_for(mark, PATIENCE)?;
    let line = console.wait_for("\n", PATIENCE)?;
    console.detach()?;
    Ok(line)
}

/// Returns what `N slow, median N` says.
fn parse(line: &str) -> Option<Slow> {
    let (count, median) = line.split_once(" slow, median ")?;
    Some(Slow { count: number(count)?, median: number(median)? })
}

/// Returns the number with which a text begins.
fn number(text: &str) -> Option<u64> {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_tells_how_many_writes_were_slow_and_their_median() {
        assert_eq!(parse("2048 slow, median 210\r"), Some(Slow { count: 2048, median: 210 }));
        for other in ["", "2048 slow", "slow, median 210", "12 slow, median "] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
