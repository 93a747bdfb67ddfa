//! The Linux guest's initramfs: busybox, and an init that leaves a shell on the console.
//!
//! Its program `loop` counts: each step appends its hash to a file in memory, and the next hash is
//! that of the whole file. If a byte of the file were lost, every later hash would be wrong.
//! [`Loop`] computes the hashes on the host.

use std::path::PathBuf;

use anyhow::Result;
use sha2::{Digest, Sha256};
use stasis_tool::content::Content;

use crate::cpio::Cpio;
use crate::setup;
use crate::workspace::Workspace;

/// The prompt of the shell.
pub const PROMPT: &str = "guest# ";

/// The prompt of the shell of a Linux that runs guests on its KVM.
pub const OUTER_PROMPT: &str = "outer# ";

/// The name of the folder with the drivers.
const DRIVERS: &str = "drivers";

/// How the first process of each guest's Linux begins: it makes the programs known, mounts what the
/// kernel knows of the machine, and loads the drivers.
const BEGINNING: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for driver in /drivers/*.ko; do
    [ -e $driver ] && insmod $driver
done
"#;

/// Leaves a shell at the console.
const INIT: &str = r#"mount -t tmpfs tmp /tmp
export HOME=/ PS1='guest# '
echo "guest: $(uname -sr) on $(nproc) CPUs with $(free -m | awk '/Mem/ { print $2 }') MiB"
echo 'guest: type "loop &" for something to checkpoint'
while :; do
    setsid cttyhack sh
done
"#;

/// Mounts the first disk, and gives the machine to what is on it.
const INIT_OF_DISK: &str = r#"mkdir /disk
mount -o ro /dev/vda /disk
for folder in dev sys proc; do
    mount --move /$folder /disk/$folder
done
exec switch_root /disk /sbin/init
"#;

const LOOP: &str = r#"#!/bin/sh
n=0
: > /tmp/loop
while :; do
    n=$((n + 1))
    hash=$(sha256sum < /tmp/loop)
    hash=${hash%${hash#????????????????}}
    echo "$n $hash" >> /tmp/loop
    echo "loop $n hash $hash"
    sleep 0.1
done
"#;

/// Returns the initramfs. Its init loads the kernel's drivers for the watchdog and for shared
/// memory, which are in it.
pub fn make(workspace: &Workspace) -> Result<Vec<u8>> {
    contents(workspace, setup::guests::drivers(workspace)?)
}

/// Returns an initramfs with this init, and without drivers.
pub fn make_with_init(workspace: &Workspace, init: &str) -> Result<Vec<u8>> {
    base(workspace, init, &[])?.finish().to_bytes()
}

/// Returns an initramfs with the kernel's drivers for virtio devices, whose init goes on with these
/// commands when it has loaded them.
pub fn make_with_virtio_and(workspace: &Workspace, commands: &str) -> Result<Vec<u8>> {
    let drivers = setup::guests::virtio_drivers(workspace)?;
    beginning(workspace, commands, &drivers)?.finish().to_bytes()
}

/// Returns the initramfs of [`make`] with the kernel's drivers for virtio devices in addition.
pub fn make_with_virtio(workspace: &Workspace) -> Result<Vec<u8>> {
    with_virtio(workspace, Vec::new())
}

/// Returns the initramfs of [`make_with_virtio`] with the kernel's drivers for the file system
/// btrfs in addition.
pub fn make_with_virtio_and_btrfs(workspace: &Workspace) -> Result<Vec<u8>> {
    with_virtio(workspace, setup::guests::btrfs_drivers(workspace)?)
}

fn with_virtio(workspace: &Workspace, more: Vec<PathBuf>) -> Result<Vec<u8>> {
    // Get these first: all files may be fetched anew by that, and are of one version then.
    let virtio_drivers = setup::guests::virtio_drivers(workspace)?;
    let mut drivers = setup::guests::drivers(workspace)?;
    drivers.extend(virtio_drivers.into_iter().chain(more));
    contents(workspace, drivers)
}

/// Returns the initramfs of a Linux whose root is its first disk, for which it has these drivers.
pub fn make_for_disk(workspace: &Workspace, drivers: &[PathBuf]) -> Result<Vec<u8>> {
    beginning(workspace, INIT_OF_DISK, drivers)?.finish().to_bytes()
}

/// Returns the initramfs of a Linux that runs guests on its KVM, and has these drivers. `programs`
/// are its programs for that, and their libraries: where each goes, and where it is.
pub fn make_for_kvm(
    workspace: &Workspace,
    drivers: &[PathBuf],
    programs: &[(String, PathBuf)],
) -> Result<Vec<u8>> {
    let init = INIT.replace("guest", "outer");
    let mut cpio = beginning(workspace, &init, drivers)?;
    cpio.folder("lib")?;
    for (name, path) in programs {
        cpio.file(name, 0o755, Content::open(path)?)?;
    }
    cpio.finish().to_bytes()
}

/// Returns the initramfs of [`make`] without a driver: for another kernel than that of the drivers.
pub fn make_without_drivers(workspace: &Workspace) -> Result<Vec<u8>> {
    contents(workspace, Vec::new())
}

fn contents(workspace: &Workspace, drivers: Vec<PathBuf>) -> Result<Vec<u8>> {
    beginning(workspace, INIT, &drivers)?.finish().to_bytes()
}

/// Returns what every initramfs has, with these drivers, and an init that goes on with these
/// commands when it has loaded them.
fn beginning(workspace: &Workspace, commands: &str, drivers: &[PathBuf]) -> Result<Cpio> {
    base(workspace, &[BEGINNING, commands].concat(), drivers)
}

/// Returns what every initramfs has, with this init and these drivers.
fn base(workspace: &Workspace, init: &str, drivers: &[PathBuf]) -> Result<Cpio> {
    let busybox = Content::open(&setup::guests::ensure(workspace)?.busybox)?;
    let mut cpio = Cpio::new();
    for folder in ["bin", "dev", "proc", "sys", "tmp"] {
        cpio.folder(folder)?;
    }
    // The kernel opens this device for init, before init can mount anything.
    cpio.device("dev/console", 5, 1)?;
    cpio.file("bin/busybox", 0o755, busybox)?;
    cpio.file("bin/loop", 0o755, LOOP)?;
    cpio.file("init", 0o755, init)?;
    cpio.folder(DRIVERS)?;
    for (number, path) in drivers.iter().enumerate() {
        // The names are in the order in which the drivers must be loaded.
        cpio.file(&format!("{DRIVERS}/{number:02}.ko"), 0o644, Content::open(path)?)?;
    }
    Ok(cpio)
}

/// The hashes that `loop` must print.
#[derive(Default, Clone)]
pub struct Loop {
    file: Sha256,
    step: u64,
}

impl Loop {
    /// Returns the loop before its first step.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the hash that `loop` must print in step `step`, which must be later than those that
    /// were asked for before.
    pub fn hash_at(&mut self, step: u64) -> Option<String> {
        let mut hash = None;
        while self.step < step {
            self.step += 1;
            let digest = self.file.clone().finalize();
            let hex: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
            self.file.update(format!("{} {hex}\n", self.step));
            hash = Some(hex);
        }
        hash
    }
}

/// Returns the step and the hash in a line of `loop`. Something that a person has typed may stand
/// before it.
pub fn parse(line: &str) -> Option<(u64, &str)> {
    let (_, rest) = line.rsplit_once("loop ")?;
    let (step, hash) = rest.split_once(" hash ")?;
    let hash = hash.get(..16)?;
    hash.bytes().all(|b| b.is_ascii_hexdigit()).then_some((step.parse().ok()?, hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_hash_is_that_of_an_empty_file() {
        assert_eq!(Loop::new().hash_at(1).as_deref(), Some("e3b0c44298fc1c14"));
    }

    #[test]
    fn a_line_is_read_behind_what_a_person_typed() {
        let line = "guest# dmeloop 12 hash 0123456789abcdef";
        assert_eq!(parse(line), Some((12, "0123456789abcdef")));
        assert_eq!(parse("loop 12 hash 01234567"), None);
        assert_eq!(parse("type \"loop &\" for something"), None);
    }
}
