//! A whole Debian for arm64 as an ext4 image: [`System`]. Systemd, nginx and the kernel are as
//! their packages have them. The initramfs is ours: it mounts the disk, and gives the machine to
//! what is on it.
//!
//! This system's apt chooses and downloads the packages. They are installed as Debian's own
//! installer does it: the essential ones are extracted by a busybox, then dpkg installs them all.
//! Their scripts run programs for arm64. So this happens in a plain machine of QEMU's, and takes
//! minutes, but neither root nor binfmt_misc nor a mount on this system. It happens once; the image
//! stays in `target/guests/debian`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::ext4;
use crate::qemu::Machine;
use crate::setup::debian::{Debian, Packages};
use crate::setup::guests::{self, ARCHITECTURE, KERNEL};
use crate::setup::qemu;
use crate::workspace::{Workspace, put_in_place, write};
use crate::{initramfs, report};

/// What the image has besides the essential packages, and all that these depend on. Of two packages
/// that others depend on, the smaller one.
const PACKAGES: [&str; 13] = [
    "apt",
    "systemd-sysv",
    "udev",
    "dbus",
    "usr-is-merged",
    KERNEL,
    "initramfs-tools",
    "kmod",
    "e2fsprogs",
    "iproute2",
    "iputils-ping",
    "netcat-openbsd",
    "nginx",
];
/// The essential packages, as apt calls them.
const ESSENTIAL: [&str; 2] = ["?essential", "usr-is-merged"];
/// The kernel's drivers that are needed until the disk is mounted; each behind those that it needs.
const DISK_DRIVERS: [&str; 4] = [
    "drivers/virtio/virtio.ko",
    "drivers/virtio/virtio_ring.ko",
    "drivers/virtio/virtio_mmio.ko",
    "drivers/block/virtio_blk.ko",
];
const INIT: &str = include_str!("system/init.sh");
const INSTALL: &str = include_str!("system/install.sh");
const LOOP: &str = include_str!("system/loop.sh");

/// Bytes of the image. Most of them are a hole.
pub const SIZE: u64 = 1 << 30;
/// The longest time that the installation may be silent.
const SILENCE: Duration = Duration::from_secs(600);
/// The longest time of the whole installation.
const TIME_LIMIT: Duration = Duration::from_secs(7200);
/// What the machine says last.
const END: &str = "installation: end";
/// Packages between two lines of progress.
const STRIDE: usize = 20;

/// The files of an installed Debian.
#[derive(Clone, Debug)]
pub struct System {
    /// The ext4 image.
    pub image: PathBuf,
    /// The image's own kernel, an arm64 `Image`.
    pub kernel: PathBuf,
    /// An initramfs with the image's own drivers for its disk.
    pub initrd: PathBuf,
}

impl System {
    fn in_folder(folder: &Path) -> Self {
        let file = |name: &str| folder.join(name);
        Self { image: file("root.img"), kernel: file("vmlinuz"), initrd: file("initrd.img") }
    }

    fn is_there(&self) -> bool {
        [&self.image, &self.kernel, &self.initrd].iter().all(|file| file.exists())
    }
}

/// Returns the Debian. Makes it if it is not there, or if an older version of this program has made
/// another one.
///
/// # Errors
///
/// This system has no apt or no e2fsprogs, the mirror can't be reached, or a package is not
/// installed. What to do by hand is said.
pub fn ensure(workspace: &Workspace) -> Result<System> {
    let folder = workspace.folder("guests/debian")?;
    let system = System::in_folder(&folder);
    let recipe = folder.join("recipe");
    let ours =
        [PACKAGES.join(" "), INIT.to_owned(), INSTALL.to_owned(), LOOP.to_owned()].join("\n");
    // A person's own image has no recipe beside it.
    let is_ours = std::fs::read_to_string(&recipe).map_or(!recipe.exists(), |text| text == ours);
    if system.is_there() && is_ours {
        return Ok(system);
    }
    make(workspace, &folder, &system).with_context(|| {
        format!(
            "the Debian guest is lacking. By hand: put an ext4 image of an arm64 Debian at {}, and its vmlinuz and initrd.img beside it",
            workspace.show(&system.image)
        )
    })?;
    write(&recipe, ours.as_bytes())?;
    Ok(system)
}

fn make(workspace: &Workspace, folder: &Path, system: &System) -> Result<()> {
    let debian = Debian::find(workspace)?;
    report::step(format_args!(
        "making an image of Debian {} for {ARCHITECTURE}; this takes some minutes, once",
        debian.codename
    ));
    let kernel = guests::ensure(workspace)?.kernel;
    qemu::ensure(workspace)?;
    let packages = debian.packages(workspace, &debian.codename, ARCHITECTURE)?;
    let name = packages.kernel(KERNEL)?;
    let version = name.strip_prefix("linux-image-").unwrap_or(&name);
    let downloaded = workspace.folder("setup/debian-packages")?;
    let count = gather(&packages, &downloaded)?;

    let scratch = workspace.folder("setup/debian-image")?;
    let (root, disk) = (scratch.join("root.img"), scratch.join("packages.img"));
    ext4::make(&root, SIZE, None)?;
    ext4::make(&disk, ext4::size_for(&[&downloaded])?, Some(&downloaded))?;
    let init = scratch.join("initramfs");
    write(&init, &initramfs::make_with_virtio_and(workspace, INIT)?)?;
    let mut machine = Machine::plain(kernel, Some(&init))
        .cpus(2)
        .memory("1G")
        .cmdline("console=ttyAMA0 quiet")
        .time_limit(TIME_LIMIT);
    for (slot, image, options) in [(0, &root, "discard=unmap"), (1, &disk, "readonly=on")] {
        machine = machine.disk_in_slot(slot, image, &format!("cache=unsafe,{options}"), "");
    }
    install(&machine, count)?;

    ext4::check(&root).context("the new file system is not sound")?;
    ext4::take(&root, &format!("/boot/vmlinuz-{version}"), &system.kernel)?;
    let mut drivers = Vec::new();
    for path in DISK_DRIVERS {
        let driver = scratch.join(path.rsplit('/').next().unwrap_or(path));
        ext4::take(&root, &format!("/lib/modules/{version}/kernel/{path}"), &driver)?;
        drivers.push(driver);
    }
    write(&system.initrd, &initramfs::make_for_disk(workspace, &drivers)?)?;
    put_in_place(&root, &system.image)?;
    report::note(format_args!("it lies in {}", workspace.show(folder)));
    std::fs::remove_dir_all(&scratch).context("cannot remove what is no longer needed")?;
    std::fs::remove_dir_all(&downloaded).context("cannot remove the packages")
}

/// Fills a folder with the packages, what runs in the machine, and the lists of what is essential
/// and what is not. Returns the number of packages.
fn gather(packages: &Packages, folder: &Path) -> Result<usize> {
    let wanted = [&ESSENTIAL[..], &PACKAGES[..]].concat();
    report::step("downloading its packages");
    let files = packages.download(&wanted, folder)?;
    let essential = packages.closure(&ESSENTIAL)?;
    let is_essential = |file: &&String| {
        let name = file.split_once('_').map_or(file.as_str(), |(name, _)| name);
        essential.iter().any(|known| known == name)
    };
    let (first, rest): (Vec<&String>, Vec<&String>) = files.iter().partition(is_essential);
    for (name, files) in [("essential", first), ("rest", rest)] {
        let lines: String = files.iter().map(|file| format!("{file}\n")).collect();
        write(&folder.join(name), lines.as_bytes())?;
    }
    write(&folder.join("install"), INSTALL.as_bytes())?;
    write(&folder.join("loop"), LOOP.as_bytes())?;
    Ok(files.len())
}

/// What the machine that installs has said.
#[derive(Default)]
struct Progress {
    extracted: usize,
    unpacked: usize,
    configured: usize,
    failures: Vec<String>,
}

impl Progress {
    /// Takes note of a line. Returns what is said of it, if anything.
    fn hear(&mut self, line: &str) -> Option<String> {
        let (word, rest) = line.split_once(' ')?;
        let (what, number) = match word {
            "Extracting" => ("extracted", &mut self.extracted),
            "Unpacking" => ("unpacked", &mut self.unpacked),
            "Setting" => ("configured", &mut self.configured),
            "failed:" => {
                self.failures.push(rest.to_owned());
                return None;
            }
            _ => return None,
        };
        *number += 1;
        number.is_multiple_of(STRIDE).then(|| format!("{what}: {number} packages"))
    }
}

/// Runs the machine that installs, and tells how far it is.
fn install(machine: &Machine, count: usize) -> Result<()> {
    report::step(format_args!("installing {count} packages in a machine of QEMU's"));
    let began = Instant::now();
    let mut machine = machine.start()?;
    let mut progress = Progress::default();
    loop {
        let line = machine.console.next_line(SILENCE)?;
        if line.starts_with(END) {
            break;
        }
        if let Some(said) = progress.hear(&line) {
            report::note(format_args!("| {said}, {}", report::seconds(began.elapsed())));
        }
    }
    let Progress { configured, failures, .. } = progress;
    ensure!(failures.is_empty(), "the installation has failed: {}", failures.join("; "));
    // Each package is configured once.
    ensure!(configured >= count, "{configured} of {count} packages were configured");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_installer_says_is_counted_and_failures_are_kept() {
        let mut progress = Progress::default();
        for number in 1..=STRIDE {
            let said = progress.hear("Setting up libc6:arm64 (2.36-9) ...");
            assert_eq!(said.is_some(), number == STRIDE, "{said:?}");
        }
        assert_eq!(progress.hear("(Reading database ... 100%"), None);
        assert_eq!(progress.hear("failed: essential"), None);
        assert_eq!((progress.configured, progress.unpacked), (STRIDE, 0));
        assert_eq!(progress.failures, ["essential"]);
    }
}
