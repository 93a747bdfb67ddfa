//! `cargo xtask bench`: what everything costs, in instructions, on every machine the same.
//!
//! The guest `bench` measures; [`meter`] boots it with and without Stasis, [`image`] weighs the image, [`table`] prints
//! both, and [`history`] keeps them to compare. `docs/bench.md` has the results and what they mean.

mod history;
mod image;
mod meter;
mod table;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, bail};
use lexopt::prelude::*;
use serde::{Deserialize, Serialize};

use crate::workspace::{Workspace, read};
use crate::{build, report, setup};

/// What a person reads about it.
pub const DETAILS: &str = "\
Runs a guest that measures its own operations on plain QEMU and under Stasis, each twice, and fails if the two differ: QEMU
counts instructions, so every machine gives the same numbers. Then it weighs the hypervisor's image.
--save FILE writes the numbers as JSON, --compare FILE prints what has changed since a file was written.
docs/bench.md has the results and what they mean.";

/// What an operation takes, over all of its rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Cost {
    min: u64,
    median: u64,
}

/// An operation, without and with Stasis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Operation {
    name: String,
    alone: Cost,
    stasis: Cost,
}

/// All that is measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Numbers {
    operations: Vec<Operation>,
    /// Bytes of the image's sections in memory.
    sections: BTreeMap<String, u64>,
    /// Bytes of code by crate.
    crates: BTreeMap<String, u64>,
}

/// Runs the command.
pub fn main(workspace: &Workspace, mut parser: lexopt::Parser) -> Result<()> {
    let (mut save, mut compare) = (None::<PathBuf>, None::<PathBuf>);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("save") => save = Some(parser.value()?.into()),
            Long("compare") => compare = Some(parser.value()?.into()),
            other => return Err(other.unexpected().into()),
        }
    }
    // A file that can't be read is told before the work, not after it.
    let old = compare.map(|file| history::load(&file)).transpose()?;

    let numbers = measure(workspace)?;
    print!("{}", table::all(&numbers));
    if let Some(old) = old {
        print!("\n{}", history::changes(&old, &numbers));
    }
    if let Some(file) = save {
        history::save(&file, &numbers)?;
        report::step(format_args!("saved to {}", file.display()));
    }
    Ok(())
}

fn measure(workspace: &Workspace) -> Result<Numbers> {
    setup::qemu::ensure(workspace)?;
    let hypervisor = build::hypervisor(workspace)?;
    let guest = build::guests(workspace)?.join("bench");
    let meter = meter::Meter::new(workspace, hypervisor.image, guest)?;

    report::step("measuring on plain QEMU");
    let alone = meter.twice(meter::Meter::alone)?;
    report::step("measuring under Stasis");
    let stasis = meter.twice(meter::Meter::under_stasis)?;

    let mut operations = Vec::new();
    for ((name, alone), (other, stasis)) in alone.into_iter().zip(stasis) {
        if name != other {
            bail!("the guest measured {name} on plain QEMU, and {other} under Stasis");
        }
        operations.push(Operation { name, alone, stasis });
    }
    let elf = read(&hypervisor.elf)?;
    Ok(Numbers { operations, sections: image::sections(&elf)?, crates: image::crates(&elf)? })
}
