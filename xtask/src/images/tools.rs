//! An ext4 image with programs of Debian's for arm64 that work a guest's disks, and the libraries
//! that they need: [`ensure`]. A guest mounts it, and runs them by `chroot`. Only tests want it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::ext4;
use crate::report;
use crate::setup::debian::Debian;
use crate::setup::guests::ARCHITECTURE;
use crate::setup::programs;
use crate::workspace::{Workspace, put_in_place, write};

/// Debian's packages of the programs.
const PACKAGES: [&str; 4] = ["fio", "btrfs-progs", "kexec-tools", "iperf3"];
/// The programs, by their paths in the packages. The image has them in `/bin`.
const PROGRAMS: [&str; 5] =
    ["usr/bin/fio", "bin/btrfs", "sbin/mkfs.btrfs", "sbin/kexec", "usr/bin/iperf3"];
/// Folders of the image in which a guest mounts what programs ask for.
const MOUNTED: [&str; 4] = ["dev", "proc", "sys", "tmp"];

/// Returns the image. Makes it if it is not there, or if an older version of this program has made
/// another one.
///
/// # Errors
///
/// This system has no apt or no e2fsprogs, or the mirror can't be reached.
pub fn ensure(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.folder("guests/tools")?;
    let (image, recipe) = (folder.join("tools.img"), folder.join("recipe"));
    let ours = [PACKAGES.join(" "), PROGRAMS.join(" ")].join("\n");
    let is_ours = std::fs::read_to_string(&recipe).is_ok_and(|text| text == ours);
    if !image.exists() || !is_ours {
        make(workspace, &image).context("Debian's programs for arm64 are lacking")?;
        write(&recipe, ours.as_bytes())?;
    }
    Ok(image)
}

fn make(workspace: &Workspace, image: &Path) -> Result<()> {
    let debian = Debian::find(workspace)?;
    report::step(format_args!(
        "fetching {} of Debian {} for {ARCHITECTURE}",
        PACKAGES.join(", "),
        debian.codename
    ));
    let packages = debian.packages(workspace, &debian.codename, ARCHITECTURE)?;
    let (unpacked, root) =
        (workspace.folder("setup/tools")?, workspace.folder("setup/tools-root")?);
    packages.unpack_with_dependencies(&PACKAGES, &unpacked)?;
    let (libraries, bin) = (root.join("lib"), root.join("bin"));
    for folder in MOUNTED.map(|name| root.join(name)).iter().chain([&libraries, &bin]) {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    programs::gather(&unpacked, &PROGRAMS, &libraries, &bin)?;
    let size = ext4::size_for(&[&libraries, &bin])?;
    let part = image.with_extension("part");
    ext4::make(&part, size, Some(&root))?;
    put_in_place(&part, image)?;
    std::fs::remove_dir_all(&unpacked).context("cannot remove the unpacked packages")?;
    std::fs::remove_dir_all(&root).context("cannot remove what is no longer needed")
}
