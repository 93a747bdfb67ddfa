//! `cargo xtask bench`: what everything costs, in instructions, on every machine the same.
//!
//! The guest `bench` measures; [`meter`] boots it with and without Stasis, [`accesses`] and [`boot`] read what these runs tell
//! besides, [`switch`] counts world switches, [`image`] weighs the image, [`table`] prints it all, [`history`] keeps it to compare, [`plot`] draws the comparison, and [`profile`] shows where the instructions go. `docs/bench.md` has the results and what they mean.

mod accesses;
mod boot;
mod history;
mod image;
mod meter;
mod plot;
mod profile;
mod switch;
mod table;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use lexopt::prelude::*;
use serde::{Deserialize, Serialize};

use crate::workspace::{Workspace, read, write};
use crate::{build, report, setup};
use accesses::Accesses;
use meter::Meter;
use switch::{Pair, Switch};

/// What a person reads about it.
pub const DETAILS: &str = "\
Runs a guest that measures its own operations on plain QEMU and under Stasis, each twice, and fails if the two differ: QEMU
counts instructions, so every machine gives the same numbers. Then it weighs the hypervisor's image.
--profile OPERATION prints the functions that one operation spends its instructions in, and draws them as a flame graph;
\"switch\" is a world switch.
--save FILE writes the numbers as JSON, --compare FILE prints what has changed since a file was written, and --plot FILE
draws that as SVG.
docs/bench.md has the results and what they mean.";

/// What an operation takes, over all of its rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Cost {
    min: u64,
    median: u64,
}

impl Cost {
    /// Of what each round took; of no round, nothing.
    fn of(rounds: impl Iterator<Item = u64>) -> Self {
        let mut rounds: Vec<u64> = rounds.collect();
        rounds.sort_unstable();
        let at = |index: usize| rounds.get(index).copied().unwrap_or_default();
        Self { min: at(0), median: at(rounds.len() / 2) }
    }
}

/// An operation, without and with Stasis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Operation {
    name: String,
    alone: Cost,
    stasis: Cost,
    /// Stasis's accesses to GICH. Files that are older have none.
    gich: Option<Accesses>,
}

/// The boot: instructions from the reset to the guest's `main`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Boot {
    alone: u64,
    stasis: u64,
    /// Stasis's steps on the way, in their order; what is left is up to the guest's `main`.
    steps: Vec<(String, u64)>,
}

/// All that is measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Numbers {
    operations: Vec<Operation>,
    #[serde(default)]
    switches: Vec<Switch>,
    #[serde(default)]
    boot: Boot,
    /// Bytes of the image's sections in memory.
    sections: BTreeMap<String, u64>,
    /// Bytes of code by crate.
    crates: BTreeMap<String, u64>,
}

/// Runs the command.
pub fn main(workspace: &Workspace, mut parser: lexopt::Parser) -> Result<()> {
    let (mut save, mut compare) = (None::<PathBuf>, None::<PathBuf>);
    let mut plot = None::<PathBuf>;
    let mut profiled = None::<String>;
    while let Some(argument) = parser.next()? {
        match argument {
            Long("save") => save = Some(parser.value()?.into()),
            Long("profile") => profiled = Some(parser.value()?.string()?),
            Long("plot") => plot = Some(parser.value()?.into()),
            Long("compare") => compare = Some(parser.value()?.into()),
            other => return Err(other.unexpected().into()),
        }
    }
    if let Some(operation) = profiled {
        return profile(workspace, &operation);
    }
    ensure!(
        plot.is_none() || compare.is_some(),
        "--plot draws what has changed, and needs --compare FILE"
    );
    // A file that can't be read is told before the work, not after it.
    let old = compare.map(|file| history::load(&file)).transpose()?;

    let numbers = measure(workspace)?;
    print!("{}", table::all(&numbers));
    if let Some(old) = old {
        print!("\n{}", history::changes(&old, &numbers));
        if let Some(file) = plot {
            write(&file, plot::draw(&old, &numbers).as_bytes())?;
            report::step(format_args!("drawn in {}", file.display()));
        }
    }
    if let Some(file) = save {
        history::save(&file, &numbers)?;
        report::step(format_args!("saved to {}", file.display()));
    }
    Ok(())
}

/// Builds all that a machine needs.
fn prepare(workspace: &Workspace) -> Result<(Meter, Built)> {
    setup::qemu::ensure(workspace)?;
    let hypervisor = build::hypervisor(workspace)?;
    let guests = build::guests(workspace)?;
    let meter = Meter::new(workspace, hypervisor.image.clone(), guests.join("bench"))?;
    Ok((meter, Built { image: hypervisor.image, elf: hypervisor.elf, guests }))
}

/// The hypervisor's files, and the folder of the guests.
struct Built {
    image: PathBuf,
    elf: PathBuf,
    guests: PathBuf,
}

impl Built {
    fn pair(&self, workspace: &Workspace) -> Result<Pair> {
        Pair::new(workspace, &self.image, &self.elf, &self.guests)
    }
}

fn profile(workspace: &Workspace, operation: &str) -> Result<()> {
    let (meter, built) = prepare(workspace)?;
    let svg = workspace.folder("stasis")?.join(format!("{operation}.svg"));
    report::step(format_args!("tracing {operation}"));
    if operation == switch::NAME {
        built.pair(workspace)?.profile()?.show(1, operation, &svg)?;
    } else {
        profile::main(&meter, &built.elf, &built.guests.join("bench"), operation, &svg)?;
    }
    report::step(format_args!("drawn in {}", workspace.show(&svg)));
    Ok(())
}

fn measure(workspace: &Workspace) -> Result<Numbers> {
    let (meter, built) = prepare(workspace)?;

    report::step("measuring on plain QEMU");
    let alone = meter.twice(Meter::alone)?;
    report::step("measuring under Stasis");
    let stasis = meter.twice(Meter::under_stasis)?;

    let mut operations = Vec::new();
    let both = alone.results.into_iter().zip(stasis.results).zip(stasis.accesses);
    for (((name, alone), (other, stasis)), gich) in both {
        if name != other {
            bail!("the guest measured {name} on plain QEMU, and {other} under Stasis");
        }
        operations.push(Operation { name, alone, stasis, gich: Some(gich) });
    }
    report::step("counting world switches");
    let pair = built.pair(workspace)?;
    let elf = read(&built.elf)?;
    Ok(Numbers {
        operations,
        switches: pair.measure()?,
        boot: Boot { alone: alone.boot, stasis: stasis.boot, steps: stasis.steps },
        sections: image::sections(&elf)?,
        crates: image::crates(&elf)?,
    })
}
