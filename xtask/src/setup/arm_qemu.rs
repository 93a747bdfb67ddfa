//! QEMU for a Linux on arm64, which runs guests on a KVM there, with all libraries that it needs: Debian's packages, of which nothing is installed here.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::debian::{Debian, take};
use super::guests::ARCHITECTURE;
use super::qemu::{PACKAGE, PROGRAM};
use crate::workspace::{Workspace, read};
use crate::{elf, report};

/// The program that loads all others, by the path that is in each.
const LOADER: &str = "ld-linux-aarch64.so.1";
/// Where packages have libraries.
const LIBRARIES: [&str; 3] = ["lib/aarch64-linux-gnu", "usr/lib/aarch64-linux-gnu", "lib"];

/// QEMU's files.
#[derive(Clone, Debug)]
pub struct Files {
    /// The program [`PROGRAM`].
    pub program: PathBuf,
    /// The libraries, all of which belong into `/lib`.
    pub libraries: Vec<PathBuf>,
}

/// Returns the QEMU of Debian's backports for arm64. Fetches it if it is not there.
pub fn ensure(workspace: &Workspace) -> Result<Files> {
    let folder = workspace.folder("guests/arm-qemu")?;
    let program = folder.join(PROGRAM);
    // The program is put there last.
    if !program.exists() {
        let fetched = fetch(workspace, &folder);
        fetched.context("a QEMU for arm64 is lacking, which only tests want")?;
    }
    let mut libraries = Vec::new();
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        if path != program {
            libraries.push(path);
        }
    }
    libraries.sort();
    Ok(Files { program, libraries })
}

fn fetch(workspace: &Workspace, folder: &Path) -> Result<()> {
    let debian = Debian::find(workspace)?;
    let backports = format!("{}-backports", debian.codename);
    report::step(format_args!("fetching {PACKAGE} of Debian {backports} for {ARCHITECTURE}"));
    let packages = debian.packages_of(workspace, &[&debian.codename, &backports], ARCHITECTURE)?;
    let unpacked = workspace.folder("setup/arm-qemu")?;
    packages.unpack_with_dependencies(PACKAGE, &unpacked)?;
    let program = unpacked.join("usr/bin").join(PROGRAM);
    let (mut wanted, mut seen) = (elf::needed(&read(&program)?)?, vec![LOADER.to_owned()]);
    take(&library(&unpacked, LOADER)?, &folder.join(LOADER))?;
    while let Some(name) = wanted.pop() {
        if seen.contains(&name) {
            continue;
        }
        let path = library(&unpacked, &name)?;
        wanted.extend(elf::needed(&read(&path)?)?);
        take(&path, &folder.join(&name))?;
        seen.push(name);
    }
    take(&program, &folder.join(PROGRAM))?;
    std::fs::remove_dir_all(&unpacked).context("cannot remove the unpacked packages")
}

/// Returns the path of a library in the unpacked packages.
fn library(unpacked: &Path, name: &str) -> Result<PathBuf> {
    let mut paths = LIBRARIES.iter().map(|folder| unpacked.join(folder).join(name));
    paths.find(|path| path.exists()).with_context(|| format!("no package has the library {name}"))
}
