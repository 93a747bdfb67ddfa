//! The lock on a disk image that QEMU takes and honours: a running machine and a host tool, or two host tools, never write to one image.
//!
//! QEMU locks single bytes of an image (block/file-posix.c, `raw_apply_lock_bytes`), by locks that belong to the open file and not to the
//! process (fcntl(2), "Open file description locks"). Byte 100 + N says "I use permission N", byte 200 + N "nobody else may use permission N". All
//! of them are shared locks: everybody first says what it does, and then looks whether anybody else has said the contrary.
//!
//! What QEMU 10.0.2 locks, by /proc/locks: a virtio disk 100, 101 and 201; a read-only one 100 and 201; an SD card 100 and 101.
//! On a block device there is O_EXCL in addition, which a mounted file system has, too.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::{F_RDLCK, F_UNLCK, F_WRLCK, O_EXCL, SEEK_SET, flock};

/// "I read", and "I write".
const USES: [i64; 2] = [100, 101];
/// "Nobody else may read", and "nobody else may write".
const REFUSES: [i64; 2] = [200, 201];

/// What is done with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It is read, as others may do at the same time.
    Shared,
    /// It is read and written, and nobody else has it meanwhile.
    Exclusive,
}

impl Access {
    /// The bytes that are locked.
    fn own(self) -> &'static [i64] {
        match self {
            Access::Shared => &[USES[0], REFUSES[1]],
            Access::Exclusive => &[USES[0], USES[1], REFUSES[0], REFUSES[1]],
        }
    }

    /// The bytes that nobody else may have locked.
    fn contrary(self) -> &'static [i64] {
        match self {
            Access::Shared => &[REFUSES[0], USES[1]],
            Access::Exclusive => &[USES[0], USES[1], REFUSES[0], REFUSES[1]],
        }
    }
}

/// Opens a disk image, or a block device, and locks it until it is closed. Fails at once if somebody else has it.
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
    let free = lock(&file, access).with_context(|| format!("cannot lock {}", path.display()))?;
    if !free {
        bail!("{}", in_use(path, &file, access));
    }
    Ok(file)
}

/// Says what we do with the file, and returns whether nobody has said the contrary.
fn lock(file: &File, access: Access) -> nix::Result<bool> {
    for &byte in access.own() {
        match fcntl(file, FcntlArg::F_OFD_SETLK(&single(byte, F_RDLCK))) {
            // Some program, not QEMU, has the byte for itself.
            Err(Errno::EAGAIN | Errno::EACCES) => return Ok(false),
            locked => locked?,
        };
    }
    for &byte in access.contrary() {
        // It becomes a lock that is in the way of this one, or F_UNLCK. Our own are not.
        let mut probe = single(byte, F_WRLCK);
        fcntl(file, FcntlArg::F_OFD_GETLK(&mut probe))?;
        if i32::from(probe.l_type) != F_UNLCK {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A lock of one byte.
fn single(byte: i64, kind: i32) -> flock {
    // The constants are small, whatever C's types of the fields are.
    flock { l_type: kind as _, l_whence: SEEK_SET as _, l_start: byte, l_len: 1, l_pid: 0 }
}

/// Says who has the file, as far as one can tell, and what to do.
fn in_use(path: &Path, file: &File, access: Access) -> String {
    let holders = match &holders(file).unwrap_or_default()[..] {
        [] => "another program, likely a QEMU whose machine runs, has it open".to_owned(),
        [holder] => format!("{holder} has it open"),
        holders => format!("{} have it open", holders.join(", ")),
    };
    let advice = match access {
        Access::Shared => "what is read might be half written",
        Access::Exclusive => "two that write would lose each other's checkpoints",
    };
    format!("{} is in use: {holders}, and {advice}; end that first", path.display())
}

/// The other processes that have this file open, of those that we may look into.
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
        if number != std::process::id() && files.flatten().any(|open| same(&open.path())) {
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
        let image = image();
        let mut other = std::process::Command::new("sleep")
            .arg("60")
            .stdin(File::open(image.path()).unwrap())
            .spawn()
            .unwrap();
        let holders = holders(&File::open(image.path()).unwrap()).unwrap();
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(holders, [format!("sleep (process {})", other.id())]);
    }
}
