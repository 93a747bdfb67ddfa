//! Idle: what `checkpoint-every = "1s"` leaves to a Linux that has nothing to do, and how many
//! bytes each checkpoint has that no other one has.
//!
//! Linux has one CPU, on a [counting](super::meter) machine of one core, which it shares with the
//! task that makes its checkpoints. Its init does all by itself: a process without memory to speak
//! of counts for [`SECONDS`] of Linux's own clock, which goes on while the task has the core. Then
//! nothing runs for as long, and Linux switches itself off. The same Linux without checkpoints
//! counts, too: what is missing is what checkpoints take.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use stasis_host::config::{Configuration, GuestConfig, Periodic};
use stasis_host::periodic;

use super::meter::counting;
use crate::console::Console;
use crate::qemu::{Machine, Qemu};
use crate::workspace::{Workspace, read, write};
use crate::{archive, disk, initramfs, report, setup};

/// Size of Linux's memory, in bytes.
const MEMORY: u64 = 256 << 20;
/// Seconds for which the process counts, and for which nothing runs then.
const SECONDS: &str = "10";
/// Checkpoints that are kept: as many as are made while nothing runs, at the most.
const KEPT: u8 = 6;
/// Time that a machine may take, from its reset to its end.
const TIME_LIMIT: Duration = Duration::from_secs(1200);
/// What is in front of the count.
const MARK: &str = "bench: counted ";

/// Program of the first process.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
dmesg -n 1
sleep 5
n=0
read up rest < /proc/uptime
end=$((${up%.*}${up#*.} + SECONDS * 100))
while [ ${up%.*}${up#*.} -lt $end ]; do
    read up rest < /proc/uptime
    n=$((n + 1))
done
echo "bench: counted $n"
sleep SECONDS
poweroff -f
"#;

/// What was measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idle {
    /// How far the process counts without checkpoints.
    pub counted: u64,
    /// How far it counts with one each second.
    pub counted_periodic: u64,
    /// Bytes of each of the last checkpoints that no other one has, in their order: while nothing
    /// ran.
    pub bytes: Vec<u64>,
}

impl Idle {
    /// Returns the share of time that checkpoints leave to the process, in tenths of a percent.
    pub fn share(&self) -> u64 {
        self.counted_periodic * 1000 / self.counted.max(1)
    }

    /// Returns the median of the bytes that a checkpoint has and no other one.
    pub fn median_bytes(&self) -> u64 {
        let mut bytes = self.bytes.clone();
        bytes.sort_unstable();
        bytes.get(bytes.len() / 2).copied().unwrap_or_default()
    }
}

/// Boots Linux on machines with this image, without checkpoints and with them.
pub fn measure(workspace: &Workspace, image: &Path) -> Result<Idle> {
    let initramfs = initramfs::make_with_init(workspace, &INIT.replace("SECONDS", SECONDS))?;
    let kernel = read(&setup::guests::ensure(workspace)?.kernel)?;
    let bench = Bench { workspace, image, kernel, initramfs };
    report::note("Linux without checkpoints, which takes minutes on a machine that counts");
    let (counted, mut machine) = bench.run(None)?;
    machine.kill()?;
    report::note("Linux with one each second");
    let every_second =
        Periodic { every_us: 1_000_000, keep: KEPT, run_share: Periodic::DEFAULT_RUN_SHARE };
    let (counted_periodic, mut machine) = bench.run(Some(every_second))?;
    let bytes = bytes(&machine.console.command("store --json")?)?;
    machine.kill()?;
    Ok(Idle { counted, counted_periodic, bytes })
}

/// What each machine has.
struct Bench<'w> {
    workspace: &'w Workspace,
    image: &'w Path,
    kernel: Vec<u8>,
    initramfs: Vec<u8>,
}

impl Bench<'_> {
    /// Runs Linux to its end. Returns how far it has counted, and the machine.
    fn run(&self, periodic: Option<Periodic>) -> Result<(u64, Qemu)> {
        let config = GuestConfig {
            cores: vec![0],
            vcpus: 1,
            initrd: Some("initramfs".to_owned()),
            cmdline: "console=ttyAMA0".to_owned(),
            periodic,
            ..GuestConfig::new("linux", "linux", MEMORY)
        };
        let configuration = Configuration { guests: vec![config], ..Default::default() };
        let room = tempfile::tempdir()?;
        let image = room.path().join("disk.img");
        disk::create(&image, 1 << 30)?;
        let archive = self.workspace.folder("stasis")?.join("idle.cpio");
        let files = [("linux", &*self.kernel), ("initramfs", &*self.initramfs)];
        write(&archive, &archive::pack(&configuration, &files)?)?;
        let machine = Machine::stasis(self.image, Some(&archive)).memory("2G").disk(&image);
        let mut machine = counting(machine).cpus(1).time_limit(TIME_LIMIT).start()?;
        let console = &mut machine.console;
        // What is typed is received at no certain instruction, so nothing is typed before the guest
        // has finished.
        console.wait_for("[guest \"linux\": is off]", TIME_LIMIT)?;
        Ok((counted(console)?, machine))
    }
}

/// Returns how far the process has counted.
fn counted(console: &mut Console) -> Result<u64> {
    console.send_line("attach linux")?;
    console.wait_for(MARK, TIME_LIMIT)?;
    let line = console.wait_for("\n", TIME_LIMIT)?;
    console.detach()?;
    let digits: String = line.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().with_context(|| format!("Linux has counted \"{line}\""))
}

/// Returns how many bytes each checkpoint in a list has that no other one has. The last one alone
/// has what it shares with those that were deleted, and is left out; the oldest one, too.
fn bytes(lines: &[String]) -> Result<Vec<u64>> {
    let name = periodic::name("linux");
    let rows = lines.iter().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let ours = rows.filter(|row| row["name"] == *name);
    let frees: Vec<u64> = ours.filter_map(|row| row["frees"].as_u64()).collect();
    ensure!(frees.len() >= 3, "there are no three periodic checkpoints: {lines:?}");
    Ok(frees[1..frees.len() - 1].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_those_of_checkpoints_between_others() {
        let row = |name: &str, frees: u64| format!("{{\"name\":\"{name}\",\"frees\":{frees}}}");
        let auto = periodic::name("linux");
        let lines = [
            row("other", 9),
            row(&auto, 5000),
            row(&auto, 300),
            row(&auto, 200),
            row(&auto, 400),
            row(&auto, 7000),
            "{\"free\":1}".to_owned(),
        ];
        let bytes = bytes(&lines).unwrap();
        assert_eq!(bytes, [300, 200, 400]);
        let idle = Idle { counted: 1000, counted_periodic: 957, bytes };
        assert_eq!((idle.share(), idle.median_bytes()), (957, 300));
        assert!(super::bytes(&lines[..3]).is_err());
    }
}
