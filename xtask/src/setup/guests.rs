//! The Linux guest's packages, unmodified: Debian's arm64 cloud kernel with the drivers that a
//! guest needs, and a static busybox.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::debian::{Debian, output, take};
use crate::report;
use crate::workspace::Workspace;

pub(crate) const ARCHITECTURE: &str = "arm64";
/// The package that depends on the newest kernel, whose name has its version in it.
pub(crate) const KERNEL: &str = "linux-image-cloud-arm64";
const BUSYBOX: &str = "busybox-static";
/// The kernel's modules for what every guest may have, the watchdog and shared memory; each behind
/// those that it needs.
const DRIVERS: [&str; 3] =
    ["drivers/watchdog/watchdog.ko", "drivers/watchdog/sbsa_gwdt.ko", "drivers/uio/uio.ko"];
/// The kernel's modules for virtio devices over virtio-mmio; each behind those that it needs.
const VIRTIO_DRIVERS: [&str; 9] = [
    "drivers/virtio/virtio.ko",
    "drivers/virtio/virtio_ring.ko",
    "drivers/virtio/virtio_mmio.ko",
    "drivers/block/virtio_blk.ko",
    "drivers/char/hw_random/virtio-rng.ko",
    "drivers/char/virtio_console.ko",
    "net/core/failover.ko",
    "drivers/net/net_failover.ko",
    "drivers/net/virtio_net.ko",
];

/// The kernel's modules for the file system btrfs; each behind those that it needs.
const BTRFS_DRIVERS: [&str; 6] = [
    "arch/arm64/lib/xor-neon.ko",
    "crypto/xor.ko",
    "lib/raid6/raid6_pq.ko",
    "lib/libcrc32c.ko",
    "lib/zstd/zstd_compress.ko",
    "fs/btrfs/btrfs.ko",
];

/// The paths of the guest's files.
#[derive(Clone, Debug)]
pub struct Files {
    /// The kernel: an arm64 `Image`.
    pub kernel: PathBuf,
    /// Busybox for arm64, static.
    pub busybox: PathBuf,
    /// The kernel's drivers for what every guest may have, in the order in which they must be
    /// loaded.
    drivers: Vec<PathBuf>,
    /// The kernel's drivers for virtio devices, in the order in which they must be loaded.
    virtio_drivers: Vec<PathBuf>,
    /// The kernel's drivers for the file system btrfs, in the order in which they must be loaded.
    btrfs_drivers: Vec<PathBuf>,
}

impl Files {
    fn in_folder(folder: &Path) -> Self {
        let places = |paths: &[&str]| {
            let names = paths.iter().filter_map(|path| path.rsplit('/').next());
            names.map(|name| folder.join(name)).collect()
        };
        Self {
            kernel: folder.join("vmlinuz"),
            busybox: folder.join("busybox"),
            drivers: places(&DRIVERS),
            virtio_drivers: places(&VIRTIO_DRIVERS),
            btrfs_drivers: places(&BTRFS_DRIVERS),
        }
    }

    /// Returns whether a guest can boot with these files. A kernel that a person has put there has
    /// no drivers beside it.
    fn can_boot(&self) -> bool {
        self.kernel.exists() && self.busybox.exists()
    }

    /// Returns the paths of all drivers, in the order of [`all_drivers`].
    fn all_drivers(&self) -> impl Iterator<Item = &PathBuf> {
        self.drivers.iter().chain(&self.virtio_drivers).chain(&self.btrfs_drivers)
    }

    /// Returns whether a person has put the kernel there: one that was fetched has drivers beside
    /// it, which are taken before.
    fn is_by_hand(&self) -> bool {
        self.kernel.exists() && !self.all_drivers().any(|driver| driver.exists())
    }

    /// Returns whether some of what was fetched is missing, because an older version of this
    /// program has fetched less.
    fn is_incomplete(&self) -> bool {
        let was_fetched = self.virtio_drivers.iter().any(|driver| driver.exists());
        was_fetched && !self.drivers.iter().all(|driver| driver.exists())
    }

    /// Checks that all packages may be fetched again, kernel and drivers: a kernel that a person
    /// has put there is not replaced.
    fn check_replaceable(&self, workspace: &Workspace) -> Result<()> {
        ensure!(
            !self.is_by_hand(),
            "{kernel} was put there by hand, and its drivers are not beside it; put them there ({}), or remove {kernel}: then Debian's is fetched with them",
            self.all_drivers()
                .filter_map(|path| path.file_name()?.to_str())
                .collect::<Vec<_>>()
                .join(", "),
            kernel = workspace.show(&self.kernel),
        );
        Ok(())
    }
}

/// Returns the paths of all drivers in the kernel's package.
fn all_drivers() -> impl Iterator<Item = &'static str> {
    DRIVERS.into_iter().chain(VIRTIO_DRIVERS).chain(BTRFS_DRIVERS)
}

/// A kernel for a machine of its own.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The kernel: an arm64 `Image`.
    pub image: PathBuf,
    /// The drivers for virtio disks that are not in the kernel, in the order in which they must be
    /// loaded.
    pub disk_drivers: Vec<PathBuf>,
}

/// Returns the guest's kernel.
pub fn kernel(workspace: &Workspace) -> Result<Kernel> {
    let disk_drivers = virtio_drivers(workspace)?;
    Ok(Kernel { image: ensure(workspace)?.kernel, disk_drivers })
}

/// Returns the kernel of Debian's backports. Fetches it if it is not there.
pub fn backports_kernel(workspace: &Workspace) -> Result<Kernel> {
    let folder = workspace.folder("guests/backports")?;
    let image = folder.join("vmlinuz");
    if !image.exists() {
        let fetched = fetch_backports(workspace, &folder);
        fetched.context("the kernel of Debian's backports is lacking, which only tests want")?;
    }
    let names = VIRTIO_DRIVERS.iter().filter_map(|path| path.rsplit('/').next());
    let drivers = names.map(|name| folder.join(name)).filter(|driver| driver.exists());
    Ok(Kernel { image, disk_drivers: drivers.collect() })
}

fn fetch_backports(workspace: &Workspace, folder: &Path) -> Result<()> {
    let debian = Debian::find(workspace)?;
    let suite = format!("{}-backports", debian.codename);
    report::step(format_args!("fetching {KERNEL} of Debian {suite} for {ARCHITECTURE}"));
    let packages = debian.packages(workspace, &suite, ARCHITECTURE)?;
    let kernel = packages.kernel(KERNEL)?;
    let unpacked = workspace.folder("setup/backports")?;
    packages.unpack(&kernel, &unpacked)?;
    let version = kernel.strip_prefix("linux-image-").unwrap_or(&kernel);
    let modules = unpacked.join(format!("lib/modules/{version}/kernel"));
    for path in VIRTIO_DRIVERS {
        // A newer kernel has some of them built in, and compresses the others.
        let packed = modules.join(format!("{path}.xz"));
        if packed.exists() {
            output(Command::new("xz").arg("--decompress").arg(&packed))?;
        }
        let (module, name) = (modules.join(path), path.rsplit('/').next().unwrap_or(path));
        if module.exists() {
            take(&module, &folder.join(name))?;
        }
    }
    take(&unpacked.join(format!("boot/vmlinuz-{version}")), &folder.join("vmlinuz"))?;
    std::fs::remove_dir_all(&unpacked).context("cannot remove the unpacked packages")
}

/// Returns the guest's files. Fetches the packages if they are not there.
pub fn ensure(workspace: &Workspace) -> Result<Files> {
    let files = Files::in_folder(&workspace.folder("guests")?);
    if files.can_boot() && !files.is_incomplete() {
        return Ok(files);
    }
    let fetched = fetch(workspace, &files);
    if let Err(error) = &fetched
        && files.can_boot()
    {
        report::note(format_args!("the Linux guest goes without some drivers: {error:#}"));
        return Ok(files);
    }
    fetched.with_context(|| {
        format!(
            "the Linux guest's packages are lacking. By hand: put an arm64 kernel Image at {} and a static arm64 busybox at {}",
            workspace.show(&files.kernel),
            workspace.show(&files.busybox),
        )
    })?;
    Ok(files)
}

/// Returns the kernel's drivers for what every guest may have, in the order in which they must be
/// loaded. A kernel that a person has put there has none.
pub fn drivers(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let mut drivers = ensure(workspace)?.drivers;
    drivers.retain(|driver| driver.exists());
    Ok(drivers)
}

/// Returns the kernel's drivers for virtio devices, in the order in which they must be loaded. If
/// they are not there, fetches all packages again, so that kernel and drivers are of one version.
pub fn virtio_drivers(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    fetched(workspace, |files| files.virtio_drivers).context("no drivers for virtio devices")
}

/// Returns the kernel's drivers for the file system btrfs, as [`virtio_drivers`] does.
pub fn btrfs_drivers(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    fetched(workspace, |files| files.btrfs_drivers).context("no drivers for btrfs")
}

/// Returns these drivers. If one is not there, fetches all packages again, unless a person has put
/// the kernel there.
fn fetched(workspace: &Workspace, which: fn(Files) -> Vec<PathBuf>) -> Result<Vec<PathBuf>> {
    let files = Files::in_folder(&workspace.folder("guests")?);
    let drivers = which(files.clone());
    if !drivers.iter().all(|driver| driver.exists()) {
        files.check_replaceable(workspace)?;
        fetch(workspace, &files).context("some of the Linux guest's drivers are lacking")?;
    }
    Ok(drivers)
}

/// Fetches the packages. A kernel that a person has put there stays.
fn fetch(workspace: &Workspace, files: &Files) -> Result<()> {
    let debian = Debian::find(workspace)?;
    report::step(format_args!(
        "fetching the Linux guest: {KERNEL} and {BUSYBOX} of Debian {} for {ARCHITECTURE}",
        debian.codename
    ));
    let packages = debian.packages(workspace, &debian.codename, ARCHITECTURE)?;
    let kernel = packages.kernel(KERNEL)?;
    let unpacked = workspace.folder("setup/packages")?;
    packages.unpack(BUSYBOX, &unpacked)?;
    if !files.is_by_hand() {
        packages.unpack(&kernel, &unpacked)?;
        let version = kernel.strip_prefix("linux-image-").unwrap_or(&kernel);
        take_kernel(&unpacked, version, files)?;
        report::note(format_args!("{kernel} lies in {}", workspace.show(&files.kernel)));
    }
    let places = ["bin/busybox", "usr/bin/busybox"].map(|place| unpacked.join(place));
    match places.iter().find(|place| place.exists()) {
        Some(busybox) => take(busybox, &files.busybox)?,
        None => bail!("{BUSYBOX} has no busybox in it"),
    }
    std::fs::remove_dir_all(&unpacked).context("cannot remove the unpacked packages")
}

/// Takes the kernel of this version and its drivers out of the unpacked package: the drivers first,
/// which tell a kernel that was fetched.
fn take_kernel(unpacked: &Path, version: &str, files: &Files) -> Result<()> {
    let modules = unpacked.join(format!("lib/modules/{version}/kernel"));
    for (path, driver) in all_drivers().zip(files.all_drivers()) {
        take(&modules.join(path), driver)?;
    }
    take(&unpacked.join(format!("boot/vmlinuz-{version}")), &files.kernel)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the guest's files in a folder, of which the kernel is there.
    fn with_kernel(folder: &Path) -> Result<Files> {
        let files = Files::in_folder(folder);
        std::fs::write(&files.kernel, "kernel")?;
        Ok(files)
    }

    #[test]
    fn a_kernel_that_a_person_has_put_there_is_not_replaced_for_its_drivers() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let workspace = &Workspace::find()?;
        let files = with_kernel(folder.path())?;
        let refused = files.check_replaceable(workspace).unwrap_err().to_string();
        assert!(refused.contains("was put there by hand") && refused.contains("virtio_net.ko"));
        // One that was fetched has drivers, also if some are lacking.
        std::fs::write(&files.virtio_drivers[2], "driver")?;
        files.check_replaceable(workspace)
    }

    #[test]
    fn a_kernel_that_is_taken_is_there_last() -> Result<()> {
        let (from, to) = (tempfile::tempdir()?, tempfile::tempdir()?);
        for path in all_drivers() {
            let path = from.path().join("lib/modules/6.1/kernel").join(path);
            std::fs::create_dir_all(path.parent().context("no folder")?)?;
            std::fs::write(path, "driver")?;
        }
        let files = Files::in_folder(to.path());
        assert!(take_kernel(from.path(), "6.1", &files).is_err(), "there is no kernel");
        assert!(files.all_drivers().all(|driver| driver.exists()) && !files.kernel.exists());
        std::fs::create_dir(from.path().join("boot"))?;
        std::fs::write(from.path().join("boot/vmlinuz-6.1"), "kernel")?;
        take_kernel(from.path(), "6.1", &files)?;
        assert!(!files.is_by_hand() && std::fs::read(&files.kernel)? == b"kernel");
        Ok(())
    }
}
