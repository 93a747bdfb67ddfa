//! QEMU for a Linux on arm64, which runs guests on a KVM there, with all libraries that it needs:
//! Debian's packages, of which nothing is installed here.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::debian::Debian;
use super::guests::ARCHITECTURE;
use super::programs;
use super::qemu::{PACKAGE, PROGRAM};
use crate::report;
use crate::workspace::Workspace;

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
    packages.unpack_with_dependencies(&[PACKAGE], &unpacked)?;
    programs::gather(&unpacked, &[&format!("usr/bin/{PROGRAM}")], folder, folder)?;
    std::fs::remove_dir_all(&unpacked).context("cannot remove the unpacked packages")
}
