//! The Linux guest's packages: Debian's arm64 cloud kernel and a static busybox, unmodified.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::debian::{Debian, take};
use crate::report;
use crate::workspace::Workspace;

pub(super) const ARCHITECTURE: &str = "arm64";
/// It depends on the package with the newest kernel, whose name has the version in it.
const KERNEL: &str = "linux-image-cloud-arm64";
const BUSYBOX: &str = "busybox-static";

/// Where the guest's files lie.
#[derive(Clone, Debug)]
pub struct Files {
    /// The kernel: an arm64 `Image`.
    pub kernel: PathBuf,
    /// Busybox for arm64, static.
    pub busybox: PathBuf,
}

/// Fetches the packages unless they are there already.
pub fn ensure(workspace: &Workspace) -> Result<Files> {
    let folder = workspace.folder("guests")?;
    let files = Files { kernel: folder.join("vmlinuz"), busybox: folder.join("busybox") };
    if files.kernel.exists() && files.busybox.exists() {
        return Ok(files);
    }
    fetch(workspace, &files).with_context(|| {
        format!(
            "the Linux guest's packages are lacking. By hand: put an arm64 kernel Image at {} and a static arm64 busybox at {}",
            workspace.show(&files.kernel),
            workspace.show(&files.busybox),
        )
    })?;
    Ok(files)
}

fn fetch(workspace: &Workspace, files: &Files) -> Result<()> {
    let debian = Debian::find(workspace)?;
    report::step(format_args!(
        "fetching the Linux guest: {KERNEL} and {BUSYBOX} of Debian {} for {ARCHITECTURE}",
        debian.codename
    ));
    let packages = debian.packages(workspace, &debian.codename, ARCHITECTURE)?;
    let kernel = packages.kernel(KERNEL)?;
    let unpacked = workspace.folder("setup/packages")?;
    packages.unpack(&kernel, &unpacked)?;
    packages.unpack(BUSYBOX, &unpacked)?;

    let version = kernel.strip_prefix("linux-image-").unwrap_or(&kernel);
    take(&unpacked.join(format!("boot/vmlinuz-{version}")), &files.kernel)?;
    let places = ["bin/busybox", "usr/bin/busybox"].map(|place| unpacked.join(place));
    match places.iter().find(|place| place.exists()) {
        Some(busybox) => take(busybox, &files.busybox)?,
        None => bail!("{BUSYBOX} has no busybox in it"),
    }
    report::note(format_args!("{kernel} lies in {}", workspace.show(&files.kernel)));
    std::fs::remove_dir_all(&unpacked).context("cannot remove the unpacked packages")
}
