//! The Linux guest's packages: Debian's arm64 cloud kernel, with its drivers for virtio disks, and a static busybox, unmodified.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::debian::{Debian, take};
use crate::report;
use crate::workspace::Workspace;

pub(super) const ARCHITECTURE: &str = "arm64";
/// It depends on the package with the newest kernel, whose name has the version in it.
const KERNEL: &str = "linux-image-cloud-arm64";
const BUSYBOX: &str = "busybox-static";
/// The kernel's drivers for virtio-blk over virtio-mmio, which are modules: each after those that it needs.
const DRIVERS: [&str; 4] = [
    "drivers/virtio/virtio.ko",
    "drivers/virtio/virtio_ring.ko",
    "drivers/virtio/virtio_mmio.ko",
    "drivers/block/virtio_blk.ko",
];

/// Where the guest's files lie.
#[derive(Clone, Debug)]
pub struct Files {
    /// The kernel: an arm64 `Image`.
    pub kernel: PathBuf,
    /// Busybox for arm64, static.
    pub busybox: PathBuf,
    /// Drivers of the kernel's, in the order in which they are to be loaded.
    drivers: Vec<PathBuf>,
}

impl Files {
    fn in_folder(folder: &Path) -> Self {
        let drivers = DRIVERS.iter().filter_map(|path| path.rsplit('/').next());
        Self {
            kernel: folder.join("vmlinuz"),
            busybox: folder.join("busybox"),
            drivers: drivers.map(|name| folder.join(name)).collect(),
        }
    }
}

/// Fetches the packages unless they are there already.
pub fn ensure(workspace: &Workspace) -> Result<Files> {
    let files = Files::in_folder(&workspace.folder("guests")?);
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

/// The kernel's drivers for virtio disks, in the order in which they are to be loaded. Fetches all packages again if they are not
/// there, so that kernel and drivers are of one version.
pub fn drivers(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let files = Files::in_folder(&workspace.folder("guests")?);
    if !files.drivers.iter().all(|driver| driver.exists()) {
        fetch(workspace, &files)
            .context("the Linux guest's drivers for virtio disks are lacking")?;
    }
    Ok(files.drivers)
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
    let modules = unpacked.join(format!("lib/modules/{version}/kernel"));
    for (path, driver) in DRIVERS.iter().zip(&files.drivers) {
        take(&modules.join(path), driver)?;
    }
    let places = ["bin/busybox", "usr/bin/busybox"].map(|place| unpacked.join(place));
    match places.iter().find(|place| place.exists()) {
        Some(busybox) => take(busybox, &files.busybox)?,
        None => bail!("{BUSYBOX} has no busybox in it"),
    }
    report::note(format_args!("{kernel} lies in {}", workspace.show(&files.kernel)));
    std::fs::remove_dir_all(&unpacked).context("cannot remove the unpacked packages")
}
