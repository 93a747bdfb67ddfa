//! Linux: what its boot takes, and what two processes take that send each other bytes through
//! pipes, without Stasis and under it.
//!
//! Debian's kernel runs with two CPUs on a machine that [counts](super::meter). Its init does all
//! by itself: what is typed is received at no certain instruction. The kernel's messages have
//! microseconds, and each is a thousand instructions of all cores. Under Stasis, the kernel prints
//! its device tree, with which it then boots on plain QEMU: so it finds the same machine on both.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use stasis_host::config::{Configuration, GuestConfig};

use super::meter::counting;
use crate::console::Console;
use crate::qemu::Machine;
use crate::workspace::{Workspace, read, write};
use crate::{archive, initramfs, report, setup};

/// Size of Linux's memory, in bytes.
const MEMORY: u64 = 256 << 20;
/// Number of Linux's CPUs.
const CPUS: u8 = 2;
/// Bytes that each of the two processes passes on.
const TURNS: u64 = 2000;
/// Time that a machine may take, from its reset to its end.
const TIME_LIMIT: Duration = Duration::from_secs(900);
/// Stasis's cores: with two of them, one of Linux's CPUs has that of the console.
const CORES: [u32; 2] = [2, 3];
const CMDLINE: &str = "console=ttyAMA0";

/// Measures, in their order: the boot to the first process, two processes on one CPU, and on two.
const MEASURES: [&str; 3] = ["boot", "ping-pong, one CPU", "ping-pong, two CPUs"];

/// Program of the first process. It says with `bench: ` what has begun or ended; in the end it
/// prints that, and the device tree.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
dmesg -n 1
mark() { echo "bench: $*" > /dev/kmsg; }
mark boot
mkfifo /tmp/there /tmp/back
play() {
    taskset 1 dd bs=1 count=TURNS < /tmp/there > /tmp/back 2> /dev/null &
    mark begun
    { printf x; taskset $1 dd bs=1 count=TURNS; } > /tmp/there < /tmp/back 2> /dev/null
    wait
    mark ended
}
play 1
play 2
dmesg | grep 'bench: '
echo "tree $(hexdump -v -e '/1 "%02x"' /sys/firmware/fdt)"
poweroff -f
"#;

/// What the [measures](MEASURES) take on a machine, in thousands of instructions.
type Times = [u64; MEASURES.len()];

/// What Linux takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linux {
    alone: Times,
    /// What it takes under Stasis, for each number of cores.
    stasis: Vec<(u32, Times)>,
}

impl Linux {
    /// Returns, for each measure, its name, the thousands of instructions without Stasis, and those
    /// under it, for each number of cores.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, u64, Vec<u64>)> {
        MEASURES.iter().enumerate().map(|(n, name)| {
            (*name, self.alone[n], self.stasis.iter().map(|(_, times)| times[n]).collect())
        })
    }

    /// Returns the numbers of cores in their order.
    pub fn cores(&self) -> impl Iterator<Item = u32> {
        self.stasis.iter().map(|(cores, _)| *cores)
    }
}

/// Boots Linux on machines with this image, and without one.
pub fn measure(workspace: &Workspace, image: &Path) -> Result<Linux> {
    let init = INIT.replace("TURNS", &TURNS.to_string());
    let initramfs = initramfs::make_with_init(workspace, &init)?;
    let kernel = setup::guests::ensure(workspace)?.kernel;
    let folder = workspace.folder("stasis")?;
    let archive = folder.join("bench-linux.cpio");
    let files = [("linux", &*read(&kernel)?), ("initramfs", &*initramfs)];
    write(&archive, &archive::pack(&configuration(), &files)?)?;

    let mut stasis = Vec::new();
    let mut tree = None;
    for cores in CORES {
        report::note(format_args!(
            "Linux on {cores} cores of Stasis, which takes a minute or more"
        ));
        let machine = Machine::stasis(image, Some(&archive));
        let said = under_stasis(counting(machine).cpus(cores).time_limit(TIME_LIMIT))?;
        stasis.push((cores, times(&said)?));
        tree = Some(said.tree);
    }
    let initrd = folder.join("bench-linux.initramfs");
    write(&initrd, &initramfs)?;
    let device_tree = folder.join("bench-linux.dtb");
    write(&device_tree, &tree.context("no machine was measured")?)?;
    report::note("Linux without Stasis");
    let alone = times(&on_plain_qemu(kernel, &initrd, &device_tree)?)?;
    Ok(Linux { alone, stasis })
}

fn configuration() -> Configuration {
    let guest = GuestConfig {
        vcpus: CPUS,
        initrd: Some("initramfs".to_owned()),
        cmdline: CMDLINE.to_owned(),
        ..GuestConfig::new("linux", "linux", MEMORY)
    };
    Configuration { guests: vec![guest], ..Default::default() }
}

/// What Linux has said in the end.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    /// Microseconds of each mark, in their order.
    marks: Vec<u64>,
    /// The device tree.
    tree: Vec<u8>,
}

fn under_stasis(machine: Machine) -> Result<Said> {
    let mut machine = machine.start()?;
    let console = &mut machine.console;
    // What is typed is received at no certain instruction, so nothing is typed before the guest has
    // finished.
    console.wait_for("[guest \"linux\": is off]", TIME_LIMIT)?;
    console.send_line("attach linux")?;
    let said = said(console)?;
    machine.kill()?;
    Ok(said)
}

fn on_plain_qemu(kernel: PathBuf, initrd: &Path, device_tree: &Path) -> Result<Said> {
    let machine = Machine::plain(kernel, Some(initrd)).cmdline(CMDLINE);
    let machine = counting(machine).cpus(CPUS.into()).memory((MEMORY >> 20).to_string() + "M");
    let mut machine = machine.time_limit(TIME_LIMIT).arg("-dtb").arg(device_tree).start()?;
    said(&mut machine.console)
}

/// Reads to the device tree, which Linux says last.
fn said(console: &mut Console) -> Result<Said> {
    let mut marks = Vec::new();
    loop {
        let line = console.next_line(TIME_LIMIT)?;
        if let Some(tree) = line.strip_prefix("tree ") {
            let tree = bytes(tree.trim()).context("Linux has printed no device tree")?;
            return Ok(Said { marks, tree });
        }
        if line.contains("bench: ") {
            marks.push(microseconds(&line).with_context(|| format!("Linux says \"{line}\""))?);
        }
        ensure!(!line.contains("Kernel panic"), "Linux says \"{line}\"");
    }
}

/// Returns the microseconds in a line such as `[    1.000250] bench: begun`.
fn microseconds(line: &str) -> Option<u64> {
    let (_, time) = line.split_once(']')?.0.split_once('[')?;
    let (seconds, rest) = time.trim().split_once('.')?;
    Some(seconds.parse::<u64>().ok()? * 1_000_000 + rest.parse::<u64>().ok()?)
}

/// Returns the bytes of which two digits each are in `digits`.
fn bytes(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// Returns what lies between the marks.
fn times(said: &Said) -> Result<Times> {
    let [boot, from, to, again_from, again_to] = said.marks[..] else {
        bail!("Linux has said {} things", said.marks.len());
    };
    let took = |from, to: u64| to.checked_sub(from).context("Linux's time runs backwards");
    Ok([boot, took(from, to)?, took(again_from, again_to)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_between_the_marks_is_what_was_measured() {
        let said = |marks: &[u64]| Said { marks: marks.to_vec(), tree: Vec::new() };
        assert_eq!(times(&said(&[900, 1000, 1250, 1300, 1700])).unwrap(), [900, 250, 400]);
        assert!(times(&said(&[900, 1000, 1250])).is_err(), "it broke off");
        assert!(times(&said(&[900, 1000, 999, 1300, 1700])).is_err(), "it is no time");
    }

    #[test]
    fn a_line_of_the_kernel_has_microseconds() {
        assert_eq!(microseconds("[    1.000250] bench: begun"), Some(1_000_250));
        for line in ["bench: begun", "[ 1] bench: begun", "[x.1] bench: begun"] {
            assert_eq!(microseconds(line), None);
        }
    }
}
