//! Pauses: how long a guest stands still for a checkpoint or a clone, by the size of its memory,
//! and how many bytes the checkpoint writes.
//!
//! The guest `pages` has memory that was never written but for some pages; Linux has booted to its
//! shell, and idles. Stasis says how many microseconds a guest has stood still, and on a
//! [counting](super::meter) machine a microsecond is a thousand instructions. What is typed is
//! received at no certain instruction, so two runs differ by some thousands.
//!
//! An [earlier build](Build::earlier) is measured in the same way, whose guests stood still for all
//! of a checkpoint.

mod build;
mod plot;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use stasis_host::config::{Configuration, GuestConfig};

use super::meter::counting;
use crate::console::Console;
use crate::qemu::Machine;
use crate::workspace::{Workspace, read, write};
use crate::{archive, initramfs, report, setup};
pub use build::Build;
pub use plot::draw;

/// Sizes of the memory of the guest `pages`, in bytes.
const SIZES: [u64; 5] = [64 << 20, 128 << 20, 256 << 20, 512 << 20, 1 << 30];
/// Size of Linux's memory, in bytes.
const LINUX_SIZE: u64 = 256 << 20;
/// Time that a command, or a guest's next line, may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Time that Linux may take to boot on a machine that counts.
const BOOT_TIME: Duration = Duration::from_secs(600);
/// The command with which five seconds of the machine's time go by.
const FIVE_SECONDS: &str = "top 5";

/// What a guest's checkpoints and its clone cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pauses {
    /// The guest's name.
    pub guest: String,
    /// Bytes of its memory.
    pub memory: u64,
    /// The first checkpoint.
    pub first: Stored,
    /// The second one, after five seconds.
    pub later: Stored,
    /// The clone; `None` of a build that makes none.
    pub clone: Option<Cloned>,
}

/// A clone, as Stasis tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cloned {
    /// Thousands of instructions that the guest has stood still.
    pub pause: u64,
    /// Thousands of instructions from the command to the clone that runs.
    pub took: u64,
}

/// A checkpoint, as Stasis tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Thousands of instructions that the guest has stood still.
    pub pause: u64,
    /// Bytes that were written.
    pub written: u64,
}

/// Measures all guests on machines with this build, the guest `pages` in this folder, and Debian's
/// Linux.
pub fn measure(workspace: &Workspace, build: &Build, guests: &Path) -> Result<Vec<Pauses>> {
    let pages = read(&guests.join("pages"))?;
    let mut found = Vec::new();
    for memory in SIZES {
        report::note(format_args!("pages with {} MiB", memory >> 20));
        let config = config("pages", memory);
        let bench = Bench { workspace, build, config };
        found.push(bench.run(&[("pages", &pages)], "pages first", PATIENCE)?);
    }
    report::note("Linux boots, which takes minutes on a machine that counts");
    let mut config = config("linux", LINUX_SIZE);
    config.initrd = Some("initramfs".to_owned());
    config.cmdline = "console=ttyAMA0".to_owned();
    let kernel = read(&setup::guests::ensure(workspace)?.kernel)?;
    let bench = Bench { workspace, build, config };
    let files = [("linux", &*kernel), ("initramfs", &*initramfs::make(workspace)?)];
    found.push(bench.run(&files, initramfs::PROMPT, BOOT_TIME)?);
    Ok(found)
}

fn config(name: &str, memory: u64) -> GuestConfig {
    GuestConfig { cores: vec![0], vcpus: 1, ..GuestConfig::new(name, name, memory) }
}

/// A guest to measure.
struct Bench<'w> {
    workspace: &'w Workspace,
    build: &'w Build,
    config: GuestConfig,
}

impl Bench<'_> {
    /// Boots the guest with these files until it prints `ready`, and measures it.
    fn run(&self, files: &[(&str, &[u8])], ready: &str, boot_time: Duration) -> Result<Pauses> {
        let GuestConfig { name: guest, memory, .. } = self.config.clone();
        let configuration =
            Configuration { guests: vec![self.config.clone()], ..Default::default() };
        let room = tempfile::tempdir()?;
        let disk = room.path().join("disk.img");
        self.build.make_disk(&disk)?;
        let archive = self.workspace.folder("stasis")?.join("pauses.cpio");
        write(&archive, &archive::pack(&configuration, files)?)?;
        let machine = Machine::stasis(&self.build.image, Some(&archive)).memory("3G").disk(&disk);
        // One core executes all, so that nobody waits for another one's long turn.
        let mut machine = counting(machine).cpus(1).time_limit(boot_time * 2).start()?;
        let console = &mut machine.console;
        console.wait_for("stasis> ", PATIENCE)?;
        console.command(&format!("attach {guest}"))?;
        console.wait_for(ready, boot_time)?;
        console.detach()?;
        let first = stored(console, &format!("checkpoint {guest} first"))?;
        console.command_within(FIVE_SECONDS, PATIENCE, |_| ())?;
        let later = stored(console, &format!("checkpoint {guest} later"))?;
        let clone = self.build.clones.then(|| cloned(console, &guest)).transpose()?;
        machine.kill()?;
        Ok(Pauses { guest, memory, first, later, clone })
    }
}

/// Makes a checkpoint by this command, and returns what Stasis tells of it.
fn stored(console: &mut Console, command: &str) -> Result<Stored> {
    let answer = console.command_within(command, PATIENCE, |_| ())?;
    let found = answer.iter().find_map(|line| parse(line));
    found.with_context(|| format!("a checkpoint that says {answer:?}"))
}

/// Makes a clone of the guest, and returns what Stasis tells of it.
fn cloned(console: &mut Console, guest: &str) -> Result<Cloned> {
    let answer = console.command_within(&format!("clone {guest} as twin"), PATIENCE, |_| ())?;
    let found = answer.iter().find_map(|line| {
        let (took, pause) = line.strip_suffix(" us")?.split_once(" us; that stood still ")?;
        Some(Cloned { took: took.rsplit_once(' ')?.1.parse().ok()?, pause: pause.parse().ok()? })
    });
    found.with_context(|| format!("a clone that says {answer:?}"))
}

/// Returns what a line tells that ends `…, N bytes, N of them shared, N ms; guest stood still N
/// us`. Without that end the guest stood still all the time.
fn parse(line: &str) -> Option<Stored> {
    let (line, pause) = match line.split_once("; guest stood still ") {
        Some((line, pause)) => (line, Some(pause.strip_suffix(" us")?.parse().ok()?)),
        None => (line, None),
    };
    let number = |ending: &str| {
        let before = line.split(", ").find_map(|part| part.strip_suffix(ending))?;
        before.parse::<u64>().ok()
    };
    let all = 1000 * number(" ms")?;
    let shared = number(" of them shared").unwrap_or(0);
    let written = number(" bytes")?.checked_sub(shared)?;
    Some(Stored { pause: pause.unwrap_or(all), written })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_what_no_other_checkpoint_has() {
        let line = "checkpoint 2 \"linux\": 12301 pages stored, 53235 zero, 45027800 bytes, 44736512 of them shared, 17 ms; guest stood still 5510 us";
        let later = Stored { pause: 5510, written: 291_288 };
        assert_eq!(parse(line), Some(later));
        let whole =
            "checkpoint 1 \"a\": 1 pages stored, 0 zero, 4096 bytes, 3 ms; guest stood still 7 us";
        assert_eq!(parse(whole), Some(Stored { pause: 7, written: 4096 }));
    }

    #[test]
    fn a_guest_of_an_earlier_build_stood_still_all_the_time() {
        let line = "checkpoint 1 \"a\": 1 pages stored, 0 zero, 4096 bytes, 3 ms";
        assert_eq!(parse(line), Some(Stored { pause: 3000, written: 4096 }));
    }

    #[test]
    fn a_line_about_something_else_tells_nothing() {
        let cut = "checkpoint 1 \"a\": 1 pages stored, 0 zero, 4096 bytes";
        for other in ["", cut, "pages first", "a, 4096 bytes, 3 ms; guest stood still 7 s"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
