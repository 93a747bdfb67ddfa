//! `cargo xtask bench`: what everything costs, in instructions, which are the same on every host.
//!
//! The guest `bench` measures its operations. [`meter`] boots it with and without Stasis;
//! [`accesses`] and [`boot`] read what else these runs tell. [`switch`] counts world switches,
//! [`pages`] what checkpoints do for a page, [`pauses`] what guests notice of them, [`writes`] what
//! they pay for them, [`idle`] what a Linux with nothing to do pays, and [`image`] the bytes of the
//! image. [`linux`] has Linux boot and its processes talk. [`devices`] has guests use their disks
//! and network cards. [`table`] prints everything, [`runs`] keeps it, [`history`] compares it,
//! [`plot`] draws the comparison, and [`lines`] draws all runs. [`profile`] shows where
//! instructions are spent. `docs/bench.md` has the results and what they mean.

mod accesses;
mod boot;
mod devices;
mod history;
mod idle;
pub mod image;
mod lines;
mod linux;
mod meter;
mod pages;
mod pauses;
mod plot;
mod profile;
mod runs;
mod svg;
mod switch;
mod table;
mod writes;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::build::Edition;
use crate::workspace::{Workspace, read};
use crate::{build, output, report, setup};
use accesses::Accesses;
use devices::Devices;
use meter::{Meter, Results};
use pages::{Page, Pages};
use pauses::Build;
use runs::{Run, Runs};
use switch::{Switch, Switches};

/// The text behind the command's help.
pub const DETAILS: &str = "\
Runs a guest that measures its own operations on plain QEMU and under Stasis, each twice, and fails if the two differ: QEMU
counts instructions, so every machine gives the same numbers. Then it weighs the hypervisor's image.
docs/bench.md has the results and what they mean.";

/// Number of times that the guest does each operation.
const ROUNDS: u64 = 64;

/// The cost of an operation over all of its rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Cost {
    min: u64,
    median: u64,
}

impl Cost {
    /// Returns the cost of these rounds; 0 if there are none.
    fn of(rounds: impl Iterator<Item = u64>) -> Self {
        let mut rounds: Vec<u64> = rounds.collect();
        rounds.sort_unstable();
        let at = |index: usize| rounds.get(index).copied().unwrap_or_default();
        Self { min: at(0), median: at(rounds.len() / 2) }
    }
}

/// The cost of an operation, without and with Stasis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Operation {
    name: String,
    alone: Cost,
    stasis: Cost,
    /// Stasis's accesses to GICH in the operation.
    gich: Accesses,
}

/// The cost of the boot: instructions from the reset to the guest's `main`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Boot {
    alone: u64,
    stasis: u64,
    /// With a guest of 3 GiB; 0 in runs from before that was measured.
    #[serde(default)]
    large: u64,
    /// Stasis's steps in their order. The rest is the way from the last step to the guest's `main`.
    steps: Vec<(String, u64)>,
}

/// Everything that is measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Numbers {
    operations: Vec<Operation>,
    switches: Vec<Switch>,
    pages: Vec<Page>,
    boot: Boot,
    /// Bytes of the image's sections in memory.
    sections: BTreeMap<String, u64>,
    /// Bytes of code of each crate.
    crates: BTreeMap<String, u64>,
    /// Bytes of the lean image's sections in memory; none in runs from before there was one.
    #[serde(default)]
    lean: BTreeMap<String, u64>,
}

/// What of virtio devices is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Measure {
    /// Instructions of Stasis for a request.
    Instructions,
    /// Time that Linux takes.
    Time,
}

/// What the command takes.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Add the numbers to a file of runs
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// What the run is called in the file; the commit's name if it is not said
    #[arg(long = "as", value_name = "NAME", requires = "save")]
    name: Option<String>,
    /// Print what has changed since the last run in a file
    #[arg(long, value_name = "FILE", group = "earlier")]
    compare: Option<PathBuf>,
    /// Since which run; the last if it is not said
    #[arg(long, value_name = "NAME", requires = "earlier")]
    with: Option<String>,
    /// Draw the comparison as SVG
    #[arg(long, value_name = "FILE", requires = "earlier")]
    plot: Option<PathBuf>,
    /// Draw all runs in the file as SVG, and this one if one is measured
    #[arg(long, value_name = "FILE", requires = "earlier")]
    plot_history: Option<PathBuf>,
    /// List the runs in a file, and compare the last one with the one before or with --with, and
    /// measure nothing
    #[arg(long, value_name = "FILE", group = "earlier", conflicts_with = "save")]
    runs: Option<PathBuf>,
    /// Print and draw where one operation spends its instructions, and measure nothing; "switch" is
    /// a world switch, "read-4k", "read-4k-apart", "read-1m", "write-4k", "write-1m" and
    /// "frame-1500" are requests of virtio devices, "checkpoint" is one of a guest that has written
    /// next to nothing since the last one, "page-store", "page-load" and "page-on-demand" are what
    /// a page with content takes, "resume" and "resume-1g" one on demand until the guest is entered
    #[arg(long, value_name = "OPERATION", exclusive = true)]
    profile: Option<String>,
    /// Measure what a page costs in a checkpoint and a resume, and nothing else
    #[arg(long, exclusive = true)]
    pages: bool,
    /// Measure how long guests stand still for checkpoints and clones, and nothing else; draw it in
    /// this file as SVG
    #[arg(long, value_name = "FILE", num_args = 0..=1, conflicts_with_all = ["save", "earlier", "profile"])]
    pauses: Option<Option<PathBuf>>,
    /// Measure the pauses of the earlier build in this checkout, too, where `cargo xtask build` and
    /// `cargo xtask run` were typed, and which knew no clones
    #[arg(long, value_name = "CHECKOUT", requires = "pauses")]
    before: Option<PathBuf>,
    /// Measure what a world switch takes, and nothing else
    #[arg(long, exclusive = true)]
    switches: bool,
    /// Measure what Linux's boot takes, and two processes that play ping-pong, and nothing else
    #[arg(long, exclusive = true)]
    linux: bool,
    /// Measure what a guest's writes take behind a checkpoint, and the time that periodic ones
    /// leave it, and nothing else
    #[arg(long, exclusive = true)]
    writes: bool,
    /// Measure the time that periodic checkpoints leave to an idle Linux, and their bytes, and
    /// nothing else
    #[arg(long, exclusive = true)]
    idle: bool,
    /// Measure what requests of guests' disks and frames of their network cards take, in
    /// instructions, in time beside plain QEMU, or in both, and nothing else
    #[arg(long, value_name = "IN", num_args = 0..=1, exclusive = true)]
    devices: Option<Option<Measure>>,
}

/// Runs the command.
pub fn main(workspace: &Workspace, arguments: Arguments) -> Result<()> {
    if let Some(done) = one_thing(workspace, &arguments) {
        return done;
    }
    let Arguments { save, name, compare, with, plot, plot_history, .. } = arguments;
    // Read the file before the work, so that a file that can't be read is reported early.
    let saved = save.as_deref().map(Runs::load_or_new).transpose()?;
    let old = compare.map(|file| -> Result<_> {
        let runs = Runs::load(&file)?;
        let in_file = || format!("in {}", file.display());
        let numbers = runs.find(with.as_deref()).with_context(in_file)?.numbers.clone();
        Ok((runs, numbers))
    });
    let old = old.transpose()?;

    report::step("measuring everything twice, which takes five minutes or more");
    let numbers = measure(workspace)?;
    report::print(|out| write!(out, "{}", table::boot_and_images(&numbers)))?;
    if let Some((mut runs, old)) = old {
        report::print(|out| write!(out, "\n{}", history::changes(&old, &numbers)))?;
        if let Some(file) = plot {
            draw(&file, &plot::draw(&old, &numbers))?;
        }
        if let Some(file) = plot_history {
            runs.add(Run::here(workspace, name.clone(), numbers.clone())?);
            draw(&file, &lines::draw(runs.all()))?;
        }
    }
    if let (Some(file), Some(mut runs)) = (save, saved) {
        let run = Run::here(workspace, name, numbers)?;
        let name = run.name.clone();
        runs.add(run);
        runs.save(&file)?;
        report::step(format_args!("saved as \"{name}\" to {}", file.display()));
    }
    Ok(())
}

/// Does what the arguments ask for in place of measuring everything; `None` if they ask for nothing
/// else.
fn one_thing(workspace: &Workspace, arguments: &Arguments) -> Option<Result<()>> {
    let Arguments { runs, profile, pages, pauses, switches, linux, writes, idle, .. } = arguments;
    let Arguments { with, plot, plot_history, devices, before, .. } = arguments;
    if let Some(file) = runs {
        return Some(look_back(file, with.as_deref(), plot.as_deref(), plot_history.as_deref()));
    }
    if let Some(operation) = profile {
        return Some(self::profile(workspace, operation));
    }
    if let Some(measure) = devices {
        return Some(self::devices(workspace, *measure));
    }
    let measure: &dyn Fn(&Built) -> Result<String> = match pauses {
        Some(plot) => &|built| built.pauses(workspace, plot.as_deref(), before.as_deref()),
        None if *pages => &|built| Ok(table::pages(&built.pages(workspace)?)),
        None if *switches => &|built| {
            report::step("counting world switches");
            Ok(table::switches(&built.switches(workspace)?.measure()?))
        },
        None if *linux => &|built| built.linux(workspace),
        None if *writes => &|built| built.writes(workspace),
        None if *idle => &|built| built.idle(workspace),
        None => return None,
    };
    let table = prepare(workspace).and_then(|(_, built)| measure(&built));
    Some(table.and_then(|table| report::print(|out| write!(out, "{table}"))))
}

/// Lists the runs in a file, and what the last one has changed since `with`, or since the one
/// before. Draws that, and the history.
fn look_back(
    file: &Path,
    with: Option<&str>,
    plot: Option<&Path>,
    history: Option<&Path>,
) -> Result<()> {
    let runs = Runs::load(file)?;
    report::print(|out| write!(out, "{}", runs.table()))?;
    // One run alone is listed, but has nothing that it could be compared with.
    if with.is_some() || plot.is_some() || runs.all().len() > 1 {
        let in_file = || format!("in {}", file.display());
        let (old, new) = runs.last_two(with).with_context(in_file)?;
        let changes = history::changes(&old.numbers, &new.numbers);
        report::print(|out| write!(out, "\nfrom \"{}\" to \"{}\"\n{changes}", old.name, new.name))?;
        plot.map_or(Ok(()), |plot| draw(plot, &plot::draw(&old.numbers, &new.numbers)))?;
    }
    history.map_or(Ok(()), |history| draw(history, &lines::draw(runs.all())))
}

fn draw(file: &Path, svg: &str) -> Result<()> {
    output::write(file, svg.as_bytes())?;
    report::step(format_args!("drawn in {}", file.display()));
    Ok(())
}

/// Builds everything that a machine needs.
fn prepare(workspace: &Workspace) -> Result<(Meter, Built)> {
    setup::qemu::ensure(workspace)?;
    let hypervisor = build::measured_hypervisor(workspace, Edition::Full)?;
    let guests = build::guests(workspace)?;
    let meter = Meter::new(workspace, hypervisor.image.clone(), guests.join("bench"))?;
    Ok((meter, Built { image: hypervisor.image, elf: hypervisor.elf, guests }))
}

/// The hypervisor's files, and the folder with the guests.
struct Built {
    image: PathBuf,
    elf: PathBuf,
    guests: PathBuf,
}

impl Built {
    fn switches(&self, workspace: &Workspace) -> Result<Switches> {
        Switches::new(workspace, &self.image, &self.elf, &self.guests)
    }

    /// Measures what a page costs in a checkpoint and a resume.
    fn pages(&self, workspace: &Workspace) -> Result<Vec<Page>> {
        report::step("counting checkpoints");
        Pages::new(workspace, &self.image, &read(&self.elf)?, &self.guests)?.measure()
    }

    /// Returns the table of how long guests stand still, those of the earlier build in the checkout
    /// `before`, too, and draws that in a file.
    fn pauses(
        &self,
        workspace: &Workspace,
        plot: Option<&Path>,
        before: Option<&Path>,
    ) -> Result<String> {
        // Refuse a checkout that was not built before the work.
        let before = before.map(Build::earlier).transpose()?;
        report::step("letting guests stand still");
        let measure = |build: &Build| pauses::measure(workspace, build, &self.guests);
        let now = measure(&Build::here(&self.image))?;
        let before = before.as_ref().map(|build| {
            report::step("letting guests of the earlier build stand still");
            measure(build)
        });
        let before = before.transpose()?;
        if let Some(file) = plot {
            draw(file, &pauses::draw(&now, before.as_deref()))?;
        }
        Ok(table::pauses(&now, before.as_deref()))
    }

    /// Returns the table of what Linux takes.
    fn linux(&self, workspace: &Workspace) -> Result<String> {
        report::step("having Linux boot and its processes talk");
        Ok(table::linux(&linux::measure(workspace, &self.image)?))
    }

    /// Returns the table of what a guest's writes take.
    fn writes(&self, workspace: &Workspace) -> Result<String> {
        report::step("letting a guest write");
        Ok(table::writes(&writes::measure(workspace, &self.image, &self.guests)?))
    }

    /// Returns the table of what periodic checkpoints leave to an idle Linux.
    fn idle(&self, workspace: &Workspace) -> Result<String> {
        report::step("having Linux idle");
        Ok(table::idle(&idle::measure(workspace, &self.image)?))
    }
}

/// Measures virtio devices of guests, and prints the tables; both if none is asked for.
fn devices(workspace: &Workspace, only: Option<Measure>) -> Result<()> {
    let (_, built) = prepare(workspace)?;
    if only != Some(Measure::Time) {
        report::step("letting guests use their disks and network cards");
        let elf = read(&built.elf)?;
        let requests = Devices::new(&built.image, &elf, &built.guests)?.measure()?;
        report::print(|out| write!(out, "{}", table::requests(&requests)))?;
    }
    if only != Some(Measure::Instructions) {
        let times = devices::linux::measure(workspace, &built.image)?;
        report::print(|out| write!(out, "{}", table::times(&times)))?;
    }
    Ok(())
}

fn profile(workspace: &Workspace, operation: &str) -> Result<()> {
    let (meter, built) = prepare(workspace)?;
    let svg = workspace.folder("stasis")?.join(format!("{operation}.svg"));
    report::step(format_args!("tracing {operation}"));
    if operation == switch::NAME {
        built.switches(workspace)?.profile()?.show(1, operation, &svg)?;
    } else if devices::is_one(operation) {
        let elf = read(&built.elf)?;
        let devices = Devices::new(&built.image, &elf, &built.guests)?;
        let (profile, count) = devices.profile(operation)?;
        profile.show(count, operation, &svg)?;
    } else if pages::is_one(operation) {
        let elf = read(&built.elf)?;
        let pages = Pages::new(workspace, &built.image, &elf, &built.guests)?;
        let (profile, count) = pages.profile(operation)?;
        profile.show(count, operation, &svg)?;
    } else {
        profile::main(&meter, &built.elf, &built.guests.join("bench"), operation, &svg)?;
    }
    report::step(format_args!("drawn in {}", workspace.show(&svg)));
    Ok(())
}

/// Measures everything. Prints the tables of what takes minutes as soon as it is measured: a
/// failure of what comes later does not lose it.
fn measure(workspace: &Workspace) -> Result<Numbers> {
    let show = |table: String| report::print(|out| write!(out, "{table}"));
    let (meter, built) = prepare(workspace)?;

    report::step("measuring on plain QEMU");
    let alone = meter.twice(Meter::alone)?;
    report::step("measuring under Stasis");
    let stasis = meter.twice(Meter::under_stasis)?;

    let operations = operations(alone.results, stasis.results, stasis.accesses)?;
    show(table::operations(&operations))?;
    report::step("counting world switches");
    let switches = built.switches(workspace)?.measure()?;
    show(table::switches(&switches))?;
    let pages = built.pages(workspace)?;
    show(table::pages(&pages))?;
    let elf = read(&built.elf)?;
    let lean = read(&build::measured_hypervisor(workspace, Edition::Lean)?.elf)?;
    Ok(Numbers {
        operations,
        switches,
        pages,
        boot: Boot {
            alone: alone.boot,
            stasis: stasis.boot,
            large: stasis.large_boot,
            steps: stasis.steps,
        },
        sections: image::sections(&elf)?,
        crates: image::crates(&elf)?,
        lean: image::sections(&lean)?,
    })
}

/// Returns the result of two runs, which must be the same.
fn twice<T: PartialEq + Debug>(what: &str, run: impl Fn() -> Result<T>) -> Result<T> {
    let (first, second) = (timed("first run", &run)?, timed("second run", &run)?);
    ensure!(first == second, "{what} are not the same twice: {first:?}, then {second:?}");
    Ok(first)
}

/// Runs something that takes minutes, and says how long it took.
fn timed<T>(what: &str, run: impl Fn() -> Result<T>) -> Result<T> {
    let began = Instant::now();
    let found = run()?;
    report::note(format_args!("{what}: {}", report::seconds(began.elapsed())));
    Ok(found)
}

/// Returns the operations with their costs on plain QEMU and under Stasis.
fn operations(alone: Results, stasis: Results, accesses: Vec<Accesses>) -> Result<Vec<Operation>> {
    let (ours, theirs) = (alone.len(), stasis.len());
    ensure!(
        ours == theirs && theirs == accesses.len(),
        "the guest measured {ours} operations on plain QEMU, and {theirs} under Stasis, of which {} have accesses to GICH",
        accesses.len()
    );
    let both = alone.into_iter().zip(stasis).zip(accesses);
    let operations = both.map(|(((name, alone), (other, stasis)), gich)| {
        ensure!(name == other, "the guest measured {name} on plain QEMU, and {other} under Stasis");
        Ok(Operation { name, alone, stasis, gich })
    });
    operations.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_one_of_the_machines_has_measured_is_told() {
        let cost = Cost { min: 3, median: 3 };
        let results = |names: &[&str]| -> Results {
            names.iter().map(|name| ((*name).to_owned(), cost)).collect()
        };
        let gich = |count| vec![Accesses { reads: cost, writes: cost }; count];
        let error = |alone: &[&str], stasis: &[&str], count| {
            operations(results(alone), results(stasis), gich(count)).unwrap_err().to_string()
        };
        let whole = operations(results(&["a", "b"]), results(&["a", "b"]), gich(2)).unwrap();
        assert_eq!(whole.len(), 2);
        assert!(error(&["a", "b"], &["a"], 1).contains("2 operations on plain QEMU, and 1 under"));
        assert!(error(&["a"], &["a"], 2).contains("2 have accesses"));
        assert!(error(&["a", "b"], &["a", "c"], 2).contains("b on plain QEMU, and c under"));
    }
}
