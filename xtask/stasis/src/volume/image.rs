//! Raw images: [`import`] makes a volume of one, [`export`] makes one of a volume. What is a hole
//! in one is a hole in the other.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use stasis_store::{Store, layout::BLOCK};

use crate::disk::FileDisk;
use crate::disk::lock::{self, Access};
use crate::output::Output;
use crate::report;

/// Bytes that are moved at once.
const PIECE: usize = 1 << 20;

/// Makes a volume of a raw image, all of it or nothing. It has the image's size, up to a multiple
/// of a block, or `size`, which must suffice. Nobody may write to the image meanwhile.
pub fn import(
    store: &mut Store<FileDisk>,
    path: &Path,
    name: &str,
    size: Option<u64>,
    created: u64,
) -> Result<()> {
    let length = load(store, path, name, size, created)?;
    store.volumes_mut().flush(name)?;
    let size = report::size(length);
    report::step(format_args!("volume \"{name}\": {size} from {}", path.display()));
    Ok(())
}

/// Begins a volume and writes a raw image to it, as [`import`] does, but for the flush: a loss of
/// power leaves nothing of it. Returns its length in bytes.
pub fn load(
    store: &mut Store<FileDisk>,
    path: &Path,
    name: &str,
    size: Option<u64>,
    created: u64,
) -> Result<u64> {
    let named = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(named)?;
    lock::hold(&file, path, Access::Shared)?;
    // A block device has no length in its metadata, but it has an end. A pipe has none.
    let length = file.seek(SeekFrom::End(0)).with_context(named)?;
    let wanted = size.unwrap_or_else(|| length.next_multiple_of(BLOCK as u64));
    ensure!(
        wanted >= length,
        "{} has {length} bytes, which do not fit into a volume of {wanted}",
        path.display()
    );
    store.begin_volume(name, wanted, created)?;
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    while let Some(start) = next_data(&file, at, length).with_context(named)? {
        // A piece begins with a block: what is before the data in it is a hole.
        at = start - start % BLOCK as u64;
        let len = (length - at).min(PIECE as u64) as usize;
        file.read_exact_at(&mut piece[..len], at).with_context(named)?;
        let whole = len.next_multiple_of(BLOCK);
        piece[len..whole].fill(0);
        write_data(store, name, at, &piece[..whole])?;
        at += whole as u64;
    }
    Ok(wanted)
}

/// Returns where the next bytes of a file from `at` on stand that are no hole; `None` if there are
/// none before its end.
fn next_data(file: &File, at: u64, length: u64) -> Result<Option<u64>> {
    if at >= length {
        return Ok(None);
    }
    match lseek(file, i64::try_from(at)?, Whence::SeekData) {
        Ok(found) => Ok(Some(found as u64).filter(|found| *found < length)),
        Err(Errno::ENXIO) => Ok(None),
        // Not every file system and no device can tell.
        Err(_) => Ok(Some(at)),
    }
}

/// Writes the blocks of a piece that are not zeros.
fn write_data(store: &mut Store<FileDisk>, name: &str, at: u64, piece: &[u8]) -> Result<()> {
    let is_zero = |block: &&[u8]| block.iter().all(|byte| *byte == 0);
    let mut from = 0;
    while from < piece.len() {
        let rest = &piece[from..];
        let zeros = rest.chunks(BLOCK).take_while(is_zero).map(<[u8]>::len).sum();
        let data = rest[zeros..].chunks(BLOCK).take_while(|block| !is_zero(block));
        let len: usize = data.map(<[u8]>::len).sum();
        store.volumes_mut().write(name, at + (from + zeros) as u64, &rest[zeros..zeros + len])?;
        from += zeros + len;
    }
    Ok(())
}

/// Writes a volume, which is [open](stasis_store::Volumes::open_instant) as of a checkpoint if that
/// is meant, to a raw image: not to the `disk` that has it.
pub fn export(store: &mut Store<FileDisk>, name: &str, disk: &Path, path: &Path) -> Result<()> {
    ensure!(!is_same(disk, path), "{} is the disk that has the volume", path.display());
    let length = store.volumes_mut().length(name)?;
    let mut output = Output::create(path)?;
    let cannot = || format!("cannot write {}", path.display());
    if output.file().metadata().with_context(cannot)?.is_file() {
        output.file().set_len(length).with_context(cannot)?;
        write_holes(store, name, &mut output).with_context(cannot)?;
    } else {
        write_all(store, name, length, &mut output).with_context(cannot)?;
    }
    output.finish_and_tell()?;
    report::step(format_args!("{}: {} of volume \"{name}\"", path.display(), report::size(length)));
    Ok(())
}

/// Copies a raw image, unless it is there already.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let Some((output, length)) = begin_copy(from, to)? else { return Ok(()) };
    output.finish_and_tell()?;
    report::step(format_args!("{}: {}", to.display(), report::size(length)));
    Ok(())
}

/// Returns a copy of a raw image that is not finished, and its length in bytes; `None` if the image
/// is there already.
///
/// # Errors
///
/// The image can't be read, a machine that runs writes to it, or the copy can't be written.
pub fn begin_copy(from: &Path, to: &Path) -> Result<Option<(Output, u64)>> {
    if is_same(from, to) {
        return Ok(None);
    }
    let file = File::open(from).with_context(|| format!("cannot read {}", from.display()))?;
    lock::hold(&file, from, Access::Shared)?;
    let mut output = Output::create(to)?;
    let copied = copy_data(&file, output.file());
    let length = copied.with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(Some((output, length)))
}

/// Copies an image to an empty file, and returns its length in bytes. Where there is nothing but
/// zeros, there is a hole.
pub fn copy_data(mut from: &File, to: &File) -> Result<u64> {
    let length = from.seek(SeekFrom::End(0))?;
    to.set_len(length)?;
    let (mut piece, mut at) = (vec![0; PIECE], 0);
    while let Some(start) = next_data(from, at, length)? {
        let piece = &mut piece[..(length - start).min(PIECE as u64) as usize];
        from.read_exact_at(piece, start)?;
        if piece.iter().any(|byte| *byte != 0) {
            to.write_all_at(piece, start)?;
        }
        at = start + piece.len() as u64;
    }
    Ok(length)
}

/// Returns whether two paths are of one file or device.
fn is_same(one: &Path, other: &Path) -> bool {
    let (Ok(one), Ok(other)) = (one.metadata(), other.metadata()) else { return false };
    let is_device = one.file_type().is_block_device() && other.file_type().is_block_device();
    (one.dev(), one.ino()) == (other.dev(), other.ino()) || is_device && one.rdev() == other.rdev()
}

/// Writes what a volume has to an empty file of its length.
fn write_holes(store: &mut Store<FileDisk>, name: &str, output: &mut Output) -> Result<()> {
    let mut piece = vec![0; PIECE];
    let mut block = 0;
    while let Some(data) = store.volumes_mut().next_data(name, block)? {
        let most = (PIECE / BLOCK) as u32;
        block = data.end.min(data.start + most);
        let at = u64::from(data.start) * BLOCK as u64;
        let piece = &mut piece[..(block - data.start) as usize * BLOCK];
        store.volumes_mut().read(name, at, piece)?;
        output.file().write_all_at(piece, at)?;
    }
    Ok(())
}

/// Writes all of a volume, one piece behind the other: to a device, in which something may stand,
/// or to a pipe.
fn write_all(
    store: &mut Store<FileDisk>,
    name: &str,
    length: u64,
    output: &mut Output,
) -> Result<()> {
    let mut piece = vec![0; PIECE];
    for at in (0..length).step_by(PIECE) {
        let piece = &mut piece[..(length - at).min(PIECE as u64) as usize];
        store.volumes_mut().read(name, at, piece)?;
        output.write_all(piece)?;
    }
    Ok(())
}
