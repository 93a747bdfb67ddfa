//! [`Meter`]: runs of the guest `bench` on machines that count instructions.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use stasis_host::config::{Configuration, GuestConfig};

use super::accesses::{Accesses, EVENTS, Log};
use super::boot;
use super::{Cost, timed};
use crate::archive;
use crate::console::Console;
use crate::qemu::Machine;
use crate::workspace::{Workspace, read, write};

/// Time after which a machine is ended. It needs a second or two.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// The device of the machine whose interrupts the guest measures if it has the device.
const DEVICE: &str = "/pl031@9010000";
const OF_DEVICE: &str = "device-interrupt";

/// Numbers of cores of the machines on which [`OF_CORES`] are measured, besides the usual one.
const MORE_CORES: [u32; 2] = [3, 4];
/// Operations that must not depend on the number of cores.
const OF_CORES: [&str; 2] = ["sgi-to-other", "sgi-to-awake"];

/// The names and the costs of the operations, in the order in which the guest measures them.
pub type Results = Vec<(String, Cost)>;

/// The results of a run.
#[derive(Debug, PartialEq, Eq)]
pub struct Run {
    /// What the guest has measured.
    pub results: Results,
    /// The accesses to GICH of each operation; none without Stasis.
    pub accesses: Vec<Accesses>,
    /// Instructions from the reset to the guest's `main`.
    pub boot: u64,
    /// Instructions from the reset to the `main` of a guest of 3 GiB; 0 without Stasis.
    pub large_boot: u64,
    /// Stasis's steps of the boot, with the instructions of each.
    pub steps: Vec<(String, u64)>,
}

impl Run {
    /// Returns this run with the cost and the accesses that another run has of `operation`.
    fn with(mut self, operation: &str, other: Self) -> Result<Self> {
        let place = |run: &Self| run.results.iter().position(|(name, _)| name == operation);
        let places = place(&self).zip(place(&other));
        let (ours, theirs) = places.with_context(|| format!("{operation} was not measured"))?;
        self.results[ours].1 = other.results[theirs].1;
        self.accesses[ours] = other.accesses[theirs];
        Ok(self)
    }

    /// Returns this run with what another run, on a machine with `cores` cores, has of [`OF_CORES`]
    /// in addition.
    fn and(mut self, cores: u32, other: &Self) -> Result<Self> {
        for name in OF_CORES {
            let place = other.results.iter().position(|(other, _)| other == name);
            let place = place.with_context(|| format!("{name} was not measured"))?;
            self.results.push((format!("{name}, {cores} cores"), other.results[place].1));
            // Without Stasis, there are none.
            self.accesses.extend(other.accesses.get(place));
        }
        Ok(self)
    }
}

/// The files of the machines that are measured.
pub struct Meter {
    image: PathBuf,
    guest: PathBuf,
    archive: PathBuf,
    /// The archive with the guest that has the device. The other results must come from a guest
    /// without one.
    with_device: PathBuf,
    /// The archive with the guest that has 3 GiB of RAM.
    large: PathBuf,
}

impl Meter {
    /// Packs the guest into archives.
    pub fn new(workspace: &Workspace, image: PathBuf, guest: PathBuf) -> Result<Self> {
        let folder = workspace.folder("stasis")?;
        let packed = |name: &str, memory, devices| {
            let guest_config =
                GuestConfig { vcpus: 2, devices, ..GuestConfig::new("bench", "bench", memory) };
            let configuration = Configuration { guests: vec![guest_config], ..Default::default() };
            let archive = folder.join(name);
            write(&archive, &archive::pack(&configuration, &[("bench", &read(&guest)?)])?)?;
            anyhow::Ok(archive)
        };
        let archive = packed("bench.cpio", 32 << 20, Vec::new())?;
        let with_device = packed("bench-device.cpio", 32 << 20, vec![DEVICE.to_owned()])?;
        let large = packed("bench-large.cpio", 3 << 30, Vec::new())?;
        Ok(Self { image, guest, archive, with_device, large })
    }

    /// Returns the results of two runs, which must be the same.
    pub fn twice(&self, run: impl Fn(&Self) -> Result<Run>) -> Result<Run> {
        same(timed("first run", || run(self))?, timed("second run", || run(self))?)
    }

    /// Runs the guest on plain QEMU.
    pub fn alone(&self) -> Result<Run> {
        let usual = self.run_alone(2)?;
        MORE_CORES.into_iter().try_fold(usual, |run, cores| run.and(cores, &self.run_alone(cores)?))
    }

    fn run_alone(&self, cores: u32) -> Result<Run> {
        let machine = counting(Machine::plain(&self.guest, None)).cpus(cores);
        let mut machine = machine.memory("64M").start()?;
        let (boot, results) = results(&mut machine.console)?;
        Ok(Run { results, accesses: Vec::new(), boot, large_boot: 0, steps: Vec::new() })
    }

    /// Returns the machine under Stasis on which `operation` can be traced.
    pub fn traced(&self, operation: &str) -> Machine {
        let archive = if operation == OF_DEVICE { &self.with_device } else { &self.archive };
        counting(Machine::stasis(&self.image, Some(archive)))
    }

    /// Runs the guest under Stasis, without the device and with it, on more cores, and with more
    /// memory. Only the cost of the device's interrupt is of the second run, and the boot of the
    /// large guest of the last one.
    pub fn under_stasis(&self) -> Result<Run> {
        let run = |archive, cores| self.run(archive, cores, "1G");
        let usual = run(&self.archive, 2)?.with(OF_DEVICE, run(&self.with_device, 2)?)?;
        let more = |all: Run, cores| all.and(cores, &run(&self.archive, cores)?);
        let all = MORE_CORES.into_iter().try_fold(usual, more)?;
        Ok(Run { large_boot: self.run(&self.large, 2, "4G")?.boot, ..all })
    }

    fn run(&self, archive: &Path, cores: u32, memory: &str) -> Result<Run> {
        let room = tempfile::tempdir()?;
        let log = room.path().join("log");
        let machine = counting(Machine::stasis(&self.image, Some(archive)));
        let mut machine = machine.cpus(cores).memory(memory);
        for event in EVENTS {
            machine = machine.arg("-trace").arg(event);
        }
        let mut machine = machine.arg("-D").arg(&log).start()?;
        let console = &mut machine.console;
        // What is typed is received at no certain instruction, so nothing is typed before the guest
        // has finished.
        console.wait_for("[guest \"bench\": is off]", TIME_LIMIT)?;
        let steps = boot::steps(&console.transcript());
        console.send_line("attach bench")?;
        let (begun, results) = results(console)?;
        machine.kill()?;
        let log = Log::parse(&String::from_utf8_lossy(&read(&log)?));
        let accesses = log.by_operation(results.len())?;
        Ok(Run { results, accesses, boot: log.guest_begins + begun, large_boot: 0, steps })
    }
}

/// Returns the results of two runs. Fails if they are not the same.
fn same(first: Run, second: Run) -> Result<Run> {
    let (ours, theirs) = (first.results.len(), second.results.len());
    ensure!(ours == theirs, "the guest has measured {ours} operations, and then {theirs}");
    for ((name, first), (_, second)) in first.results.iter().zip(&second.results) {
        ensure!(first == second, "{name} is not the same twice: {first:?}, then {second:?}");
    }
    ensure!(first == second, "two runs are not the same: {first:?}, then {second:?}");
    ensure!(!first.results.is_empty(), "the guest has measured nothing");
    Ok(first)
}

/// Returns a machine whose counter has a tick for each instruction, and on which nothing depends on
/// chance.
pub fn counting(machine: Machine) -> Machine {
    machine
        .cpu("cortex-a57,cntfrq=1000000000")
        .cpus(2)
        .time_limit(TIME_LIMIT)
        .arg("-icount")
        .arg("shift=0,sleep=off")
        .arg("-machine")
        .arg("dtb-randomness=off")
        .arg("-rtc")
        .arg("base=2026-01-01,clock=vm")
}

/// Returns the guest's count at its beginning, and what it has measured.
fn results(console: &mut Console) -> Result<(u64, Results)> {
    let (mut begun, mut results) = (0, Results::new());
    loop {
        let line = console.next_line(TIME_LIMIT)?;
        let wrong = || format!("the guest says \"{line}\"");
        if ["FAULT", "PANIC", "EXCEPTION"].iter().any(|word| line.contains(word)) {
            bail!(wrong());
        }
        if line == "done" {
            return Ok((begun, results));
        }
        if let Some(count) = line.strip_prefix("begun ") {
            begun = count.parse().with_context(wrong)?;
        } else if line.starts_with("bench ") {
            results.push(parse(&line).with_context(wrong)?);
        }
    }
}

/// Returns the name and the cost in a line `bench <name> min <ticks> median <ticks>`.
fn parse(line: &str) -> Option<(String, Cost)> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let ["bench", name, "min", min, "median", median] = words[..] else { return None };
    Some((name.to_owned(), Cost { min: min.parse().ok()?, median: median.parse().ok()? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_whole_or_not_at_all() {
        let cost = Cost { min: 287, median: 300 };
        assert_eq!(parse("bench hypercall min 287 median 300"), Some(("hypercall".into(), cost)));
        for line in
            ["bench hypercall min 287", "bench x min 1 median 2 3", "bench x min -1 median 2"]
        {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    /// A run that has measured these, on a machine of its own.
    fn run(costs: &[(&str, u64)]) -> Run {
        let cost = |min| Cost { min, median: min };
        let results = costs.iter().map(|(name, min)| ((*name).to_owned(), cost(*min))).collect();
        Run { results, accesses: Vec::new(), boot: 8288, large_boot: 0, steps: Vec::new() }
    }

    #[test]
    fn two_runs_that_differ_are_told_by_what_differs() {
        let good = || run(&[("empty", 2), ("hypercall", 88)]);
        assert_eq!(same(good(), good()).unwrap(), good());
        for (other, said) in [
            (run(&[("empty", 2), ("hypercall", 89)]), "hypercall is not the same twice"),
            (run(&[("empty", 2)]), "2 operations, and then 1"),
            (Run { boot: 8289, ..good() }, "two runs are not the same"),
        ] {
            let error = same(good(), other).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        assert!(same(run(&[]), run(&[])).is_err());
    }

    #[test]
    fn an_operation_is_taken_from_the_run_that_had_its_device() {
        let with_accesses = |run: Run, reads| {
            let cost = Cost { min: reads, median: reads };
            let accesses = vec![Accesses { reads: cost, writes: cost }; run.results.len()];
            Run { accesses, ..run }
        };
        let without = || with_accesses(run(&[("empty", 2), ("device-interrupt", 700)]), 0);
        let other = with_accesses(run(&[("device-interrupt", 1600), ("empty", 3)]), 1);
        let both = without().with(OF_DEVICE, other).unwrap();
        assert_eq!(both.results, run(&[("empty", 2), ("device-interrupt", 1600)]).results);
        assert_eq!(both.accesses.iter().map(|of| of.reads.min).collect::<Vec<_>>(), [0, 1]);
        let error = without().with(OF_DEVICE, run(&[("empty", 2)])).unwrap_err().to_string();
        assert_eq!(error, "device-interrupt was not measured");
    }

    #[test]
    fn what_was_measured_on_more_cores_stands_beside_the_rest() {
        let more = run(&[("empty", 2), ("sgi-to-other", 700), ("sgi-to-awake", 600)]);
        let both = run(&[("empty", 2)]).and(3, &more).unwrap();
        let names: Vec<_> = both.results.iter().map(|(name, cost)| (&**name, cost.min)).collect();
        let added = [("sgi-to-other, 3 cores", 700), ("sgi-to-awake, 3 cores", 600)];
        assert_eq!(names, [&[("empty", 2)][..], &added[..]].concat());
        let error = run(&[]).and(4, &run(&[("sgi-to-other", 1)])).unwrap_err().to_string();
        assert_eq!(error, "sgi-to-awake was not measured");
    }

    /// What comes of a guest that says this and nothing more.
    fn said(text: &str) -> Result<(u64, Results)> {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair()?;
        std::io::Write::write_all(&mut theirs, text.as_bytes())?;
        drop(theirs);
        results(&mut Console::new(ours.try_clone()?, ours, false))
    }

    #[test]
    fn a_guest_that_faults_or_breaks_off_has_measured_nothing() {
        let good = "begun 7\r\nbench empty min 2 median 2\r\ndone\r\n";
        assert_eq!(said(good).unwrap(), (7, run(&[("empty", 2)]).results));
        for (text, why) in [
            ("begun 7\r\nbench empty min 2 median 2\r\n", "ended while we waited"),
            ("FAULT interrupt 3\r\ndone\r\n", "the guest says \"FAULT interrupt 3\""),
            ("bench empty min 2\r\ndone\r\n", "the guest says \"bench empty min 2\""),
            ("begun x\r\ndone\r\n", "the guest says \"begun x\""),
        ] {
            let error = format!("{:#}", said(text).unwrap_err());
            assert!(error.contains(why), "{error}");
        }
    }
}
