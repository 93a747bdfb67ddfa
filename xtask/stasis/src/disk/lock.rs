//! The lock on a disk image. QEMU takes and honours it, too, so that a machine and a tool, or two
//! tools, never write to one image.
//!
//! QEMU locks single bytes of an image (block/file-posix.c, `raw_apply_lock_bytes`). The locks
//! belong to the open file and not to the process (fcntl(2), "Open file description locks"). Byte
//! 100 + N says "I use permission N", and byte 200 + N says "nobody else may use permission N". All
//! locks are shared: everybody first locks its own bytes, and then looks whether anybody else has
//! locked a contrary one.
//!
//! QEMU 10.0.2 locks, by /proc/locks: for a virtio disk 100, 101 and 201; for a read-only one 100
//! and 201; for an SD card 100 and 101. A block device is also opened with O_EXCL, which a mounted
//! file system has, too.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::{F_RDLCK, F_UNLCK, F_WRLCK, O_EXCL, SEEK_SET, flock};

/// The bytes for "I read" and "I write".
const USES: [i64; 2] = [100, 101];
/// The bytes for "nobody else may read" and "nobody else may write".
const REFUSES: [i64; 2] = [200, 201];

/// The use of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The disk is only read, and others may read it at the same time.
    Shared,
    /// The disk is read and written, and nobody else may have it open.
    Exclusive,
}

impl Access {
    /// Returns the bytes that this use locks.
    fn own(self) -> &'static [i64] {
        match self {
            Access::Shared => &[USES[0], REFUSES[1]],
            Access::Exclusive => &[USES[0], USES[1], REFUSES[0], REFUSES[1]],
        }
    }

    /// Returns the bytes that nobody else may have locked.
    fn contrary(self) -> &'static [i64] {
        match self {
            Access::Shared => &[REFUSES[0], USES[1]],
            Access::Exclusive => &[USES[0], USES[1], REFUSES[0], REFUSES[1]],
        }
    }
}

/// Opens a disk image or a block device, and locks it until it is closed. Fails at once if somebody
/// else has it open.
pub fn open(path: &Path, access: Access) -> Result<File> {
    let exclusive = access == Access::Exclusive;
    let is_device = path.metadata().is_ok_and(|found| found.file_type().is_block_device());
    let file = OpenOptions::new()
        .read(true)
        .write(exclusive)
        .custom_flags(if exclusive && is_device { O_EXCL } else { 0 })
        .open(path);
    let file = match file {
        Err(error) if error.kind() == ErrorKind::ResourceBusy => bail!(
            "{} is in use: unmount its partitions, and end what else writes to it",
            path.display()
        ),
        file => file.with_context(|| format!("cannot open {}", path.display()))?,
    };
    hold(&file, path, access)?;
    Ok(file)
}

/// Locks a disk image or a block device that is open, until it is closed. `path` is for the error.
///
/// # Errors
///
/// Somebody else has it open in a way that is contrary to this use, or it can't be locked.
pub fn hold(file: &File, path: &Path, access: Access) -> Result<()> {
    let free = lock(file, access).with_context(|| format!("cannot lock {}", path.display()))?;
    let advice = match access {
        Access::Shared => "what is read might be half written",
        Access::Exclusive => "two that write would lose each other's checkpoints",
    };
    ensure!(free, "{}", in_use(path, file, advice));
    Ok(())
}

/// Checks that nobody has a file open that is to be replaced by another one, as far as that can be
/// found out: a machine would go on with one that nobody finds any more.
///
/// # Errors
///
/// The file is open elsewhere: the error says by whom, which may be this process.
pub fn check_unused(path: &Path) -> Result<()> {
    // What can't be read or locked is nobody's disk.
    let Ok(file) = File::open(path) else { return Ok(()) };
    let is_free = lock(&file, Access::Exclusive).unwrap_or(true);
    ensure!(is_free, "{}", in_use(path, &file, "it would be lost"));
    Ok(())
}

/// Locks the bytes of this use, and returns whether nobody else has locked a contrary one.
fn lock(file: &File, access: Access) -> nix::Result<bool> {
    for &byte in access.own() {
        match fcntl(file, FcntlArg::F_OFD_SETLK(&single(byte, F_RDLCK))) {
            // A program that is not QEMU has locked the byte for itself.
            Err(Errno::EAGAIN | Errno::EACCES) => return Ok(false),
            locked => locked?,
        };
    }
    for &byte in access.contrary() {
        // The call changes `probe` into a lock that is in its way, or into F_UNLCK. Locks of this
        // open file are never in its way.
        let mut probe = single(byte, F_WRLCK);
        fcntl(file, FcntlArg::F_OFD_GETLK(&mut probe))?;
        if i32::from(probe.l_type) != F_UNLCK {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns a lock of one byte.
fn single(byte: i64, kind: i32) -> flock {
    // The constants are small, so the types of the fields in C do not matter.
    flock { l_type: kind as _, l_whence: SEEK_SET as _, l_start: byte, l_len: 1, l_pid: 0 }
}

/// Returns who has the file open, as far as that can be found out, why not, and what to do.
fn in_use(path: &Path, file: &File, why_not: &str) -> String {
    let holders = match &holders(file).unwrap_or_default()[..] {
        [] => "another program, likely a QEMU whose machine runs, has it open".to_owned(),
        [holder] => format!("{holder} has it open"),
        holders => format!("{} have it open", holders.join(", ")),
    };
    format!("{} is in use: {holders}, and {why_not}; end that first", path.display())
}

/// Returns the other processes that have this file open, and this one if it has it open twice, as
/// far as this process may look into them.
fn holders(file: &File) -> Result<Vec<String>, Error> {
    let ours = file.metadata()?;
    let same = |path: &Path| {
        path.metadata().is_ok_and(|other| (other.dev(), other.ino()) == (ours.dev(), ours.ino()))
    };
    let mut holders = Vec::new();
    for process in std::fs::read_dir("/proc")?.flatten() {
        let number = process.file_name().to_string_lossy().parse::<u32>();
        let (Ok(number), Ok(files)) = (number, std::fs::read_dir(process.path().join("fd"))) else {
            continue;
        };
        let count = files.flatten().filter(|open| same(&open.path())).count();
        if number == std::process::id() && count > 1 {
            holders.push("this command itself".to_owned());
        } else if number != std::process::id() && count > 0 {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            holders.push(format!("{} (process {number})", name.trim_end()));
        }
    }
    Ok(holders)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> tempfile::NamedTempFile {
        tempfile::NamedTempFile::new().unwrap()
    }

    #[test]
    fn many_can_read_a_disk_and_only_one_can_write_to_it() {
        let image = image();
        let reader = open(image.path(), Access::Shared).unwrap();
        let another = open(image.path(), Access::Shared).unwrap();
        let error = open(image.path(), Access::Exclusive).unwrap_err().to_string();
        assert!(error.contains("lose each other's checkpoints; end that first"), "{error}");
        drop(reader);
        open(image.path(), Access::Exclusive).unwrap_err();
        drop(another);
        let writer = open(image.path(), Access::Exclusive).unwrap();
        open(image.path(), Access::Exclusive).unwrap_err();
        let error = open(image.path(), Access::Shared).unwrap_err().to_string();
        assert!(error.contains("might be half written; end that first"), "{error}");
        drop(writer);
        open(image.path(), Access::Shared).unwrap();
    }

    #[test]
    fn the_bytes_that_qemu_locks_for_a_disk_are_respected() {
        // Seen in /proc/locks: a virtio disk, a card, a read-only disk.
        for (bytes, read) in
            [(&[100, 101, 201][..], false), (&[100, 101], false), (&[100, 201], true)]
        {
            let image = image();
            let qemu = File::open(image.path()).unwrap();
            for &byte in bytes {
                fcntl(&qemu, FcntlArg::F_OFD_SETLK(&single(byte, F_RDLCK))).unwrap();
            }
            assert!(open(image.path(), Access::Exclusive).is_err(), "{bytes:?}");
            assert_eq!(open(image.path(), Access::Shared).is_ok(), read, "{bytes:?}");
        }
    }

    #[test]
    fn who_has_a_disk_open_is_said() {
        let image = image().into_temp_path();
        let mut other = std::process::Command::new("sleep")
            .arg("60")
            .stdin(File::open(&image).unwrap())
            .spawn()
            .unwrap();
        let all = || holders(&File::open(&image).unwrap()).unwrap();
        let once = all();
        let twice = File::open(&image).map(|_ours| all()).unwrap();
        other.kill().unwrap();
        other.wait().unwrap();
        let other = format!("sleep (process {})", other.id());
        assert_eq!(once, [&*other]);
        assert!(twice.contains(&other) && twice.contains(&"this command itself".to_owned()));
    }
}
