//! Programs of Debian's for a Linux on arm64, with all libraries that they need: taken out of
//! unpacked packages.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::debian::take;
use crate::elf;
use crate::workspace::read;

/// The program that loads all others, by the path that is in each.
const LOADER: &str = "ld-linux-aarch64.so.1";
/// Where packages have libraries. In the last, those that only a package's own libraries look for,
/// by their RUNPATH.
const LIBRARIES: [&str; 4] =
    ["lib/aarch64-linux-gnu", "usr/lib/aarch64-linux-gnu", "lib", "usr/lib/aarch64-linux-gnu/ceph"];

/// Copies the libraries that these programs need into `libraries`, then the programs into `to`. The
/// programs are given by their paths in the unpacked packages.
///
/// # Errors
///
/// A program is not there or no ELF file, or no package has a library that is needed.
pub(crate) fn gather(
    unpacked: &Path,
    programs: &[&str],
    libraries: &Path,
    to: &Path,
) -> Result<()> {
    let paths: Vec<PathBuf> = programs.iter().map(|program| unpacked.join(program)).collect();
    let (mut wanted, mut seen) = (vec![LOADER.to_owned()], Vec::new());
    for program in &paths {
        wanted.extend(elf::needed(&read(program)?)?);
    }
    while let Some(name) = wanted.pop() {
        if seen.contains(&name) {
            continue;
        }
        let path = library(unpacked, &name)?;
        wanted.extend(elf::needed(&read(&path)?)?);
        take(&path, &libraries.join(&name))?;
        seen.push(name);
    }
    for program in paths {
        let name = program.file_name().context("a program has no name")?;
        take(&program, &to.join(name))?;
    }
    Ok(())
}

/// Returns the path of a library in the unpacked packages.
fn library(unpacked: &Path, name: &str) -> Result<PathBuf> {
    let mut paths = LIBRARIES.iter().map(|folder| unpacked.join(folder).join(name));
    paths.find(|path| path.exists()).with_context(|| format!("no package has the library {name}"))
}
