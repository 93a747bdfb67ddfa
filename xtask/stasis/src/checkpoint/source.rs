//! The place of a checkpoint: a file of its own, or a disk image, a card or a partition.
//!
//! [`Loaded`] is a checkpoint whose registers were read. Its memory stays where it is, and is read
//! again when it is wanted. [`Opened`] reads the bytes of either place a piece at a time, so that
//! no file is ever in memory as a whole.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use stasis_state::header::MAGIC;
use stasis_state::{Checkpoint, LoadError, Routines, Source};
use stasis_store::{Reader, Store};

use super::with_disks;
use crate::disk::{self, FileDisk};

/// Bytes that are copied at once.
const PIECE: usize = 1 << 20;

/// A checkpoint that was read to its end and is sound.
pub struct Loaded {
    origin: Origin,
    /// Name for messages: that of the file, or `checkpoint WHICH of DISK`.
    pub name: String,
    /// The content of the checkpoint, except for its memory.
    pub checkpoint: Checkpoint,
}

enum Origin {
    File(File),
    Disk { store: Box<Store<FileDisk>>, number: u64 },
}

/// The bytes of a checkpoint.
pub enum Opened<'p> {
    /// The bytes of a file, and its length.
    File(&'p File, u64),
    /// The bytes of a checkpoint on a disk.
    Disk(Box<Reader<'p, FileDisk>>),
}

impl Loaded {
    /// Reads the checkpoint that the first words name: `FILE`, or `DISK WHICH`. Returns also the
    /// first word, and the words behind the name.
    pub fn take(words: &[String]) -> Result<(&str, Self, &[String])> {
        let [path, rest @ ..] = words else { bail!("a checkpoint is lacking") };
        if is_checkpoint(Path::new(path))? {
            return Ok((path, Self::from_file(Path::new(path))?, rest));
        }
        let [which, rest @ ..] = rest else {
            bail!("{path} is no checkpoint; of a disk's, say WHICH behind it");
        };
        Ok((path, Self::from_disk(path, which)?, rest))
    }

    /// Reads the checkpoint in a file of its own.
    pub fn from_file(path: &Path) -> Result<Self> {
        let mut origin = Origin::File(open(path)?);
        let checked = check(&mut origin.open()?).map_err(anyhow_of);
        let checkpoint =
            checked.with_context(|| format!("{} is no good checkpoint", path.display()))?;
        Ok(Self { origin, name: path.display().to_string(), checkpoint })
    }

    /// Writes the disks of the guest as of the checkpoint to images beside `to`. `from` is the file
    /// or the disk that the checkpoint was read from.
    pub fn write_disks(&mut self, from: &Path, to: &Path) -> Result<()> {
        match &mut self.origin {
            Origin::File(_) => with_disks::copy(&self.checkpoint.state, from, to),
            Origin::Disk { store, number } => {
                let has = store.instants(*number)?;
                let mut needs = self.checkpoint.state.devices.virtio.volumes();
                let lacks = needs.find(|volume| has.iter().all(|one| one.name.as_str() != *volume));
                ensure!(
                    lacks.is_none(),
                    "the checkpoint has no disk \"{}\"",
                    lacks.unwrap_or_default()
                );
                with_disks::get(store, *number, from, to)
            }
        }
    }

    /// Reads the checkpoint `which` of a disk.
    pub fn from_disk(disk: &str, which: &str) -> Result<Self> {
        let store = disk::store(Path::new(disk), false)?;
        let number = store.find(which)?.number;
        let mut origin = Origin::Disk { store: Box::new(store), number };
        let name = format!("checkpoint {which} of {disk}");
        let checkpoint = check(&mut origin.open()?).map_err(|error| match error {
            LoadError::Format(error) => {
                let how = if error.is_of_newer() { "too new, not damaged" } else { "damaged" };
                anyhow!("{name} is {how}: {error}")
            }
            error => anyhow_of(error).context(format!("cannot read {name}")),
        })?;
        Ok(Self { origin, name, checkpoint })
    }

    /// Opens the bytes again. Returns also what was in them when they were read first.
    pub fn open(&mut self) -> Result<(Opened<'_>, &Checkpoint)> {
        let opened = self.origin.open().with_context(|| format!("cannot read {}", self.name))?;
        Ok((opened, &self.checkpoint))
    }

    /// Returns the guest's name. What is no name, as in files before version 1.3, is in quotes and
    /// with escapes.
    pub fn guest(&self) -> String {
        let guest = &self.checkpoint.state.guest;
        guest.checked_name().map_or_else(|_| guest.shown_name().to_string(), str::to_owned)
    }
}

impl Origin {
    fn open(&mut self) -> Result<Opened<'_>> {
        match self {
            Self::File(file) => Opened::of(file),
            Self::Disk { store, number } => {
                Ok(Opened::Disk(Box::new(store.open_checkpoint(*number)?)))
            }
        }
    }
}

impl<'p> Opened<'p> {
    /// Opens the bytes of a file.
    pub fn of(file: &'p File) -> Result<Self> {
        Ok(Self::File(file, file.metadata()?.len()))
    }

    /// Passes all bytes to `out`, without checking them. An error of `out` is returned as it is.
    pub fn copy_to(&mut self, out: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut piece = vec![0; PIECE];
        let mut at = 0;
        while at < self.len() {
            let len = (self.len() - at).min(PIECE as u64) as usize;
            self.read_at(at, &mut piece[..len]).context("it cannot be read")?;
            out(&piece[..len])?;
            at += len as u64;
        }
        Ok(())
    }
}

impl Source for Opened<'_> {
    type Error = Error;

    fn len(&self) -> u64 {
        match self {
            Self::File(_, len) => *len,
            Self::Disk(reader) => reader.length(),
        }
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        match self {
            Self::File(file, _) => Ok(file.read_exact_at(buf, offset)?),
            Self::Disk(reader) => Ok(reader.read_at(offset, buf)?),
        }
    }
}

/// A source that copies its bytes to `out` as they are read, which is in order. So exactly what is
/// checked is written.
pub struct Copied<'c, S, W> {
    /// The source that is read.
    pub source: S,
    /// The destination of its bytes.
    pub out: &'c mut W,
    /// Number of bytes that were copied so far.
    pub done: u64,
}

impl<S: Source<Error = Error>, W: FnMut(&[u8]) -> Result<()>> Source for Copied<'_, S, W> {
    type Error = Error;

    fn len(&self) -> u64 {
        self.source.len()
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        ensure!(offset == self.done, "read at {offset} in place of {}", self.done);
        self.source.read_at(offset, buf)?;
        self.done += buf.len() as u64;
        (self.out)(buf)
    }
}

/// Returns the checkpoint that the words name. All of the words must belong to the name.
pub fn only(words: &[String]) -> Result<Loaded> {
    let (_, loaded, rest) = Loaded::take(words)?;
    match rest {
        [] => Ok(loaded),
        [surplus, ..] => bail!("\"{surplus}\" is one too many"),
    }
}

/// Returns whether a file begins as a checkpoint does.
pub fn is_checkpoint(path: &Path) -> Result<bool> {
    let mut beginning = Vec::new();
    open(path)?
        .take(MAGIC.len() as u64)
        .read_to_end(&mut beginning)
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(beginning == MAGIC)
}

/// Opens a file to read it. An error names the file.
pub fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("cannot open {}", path.display()))
}

/// Returns the inner loop of the format, CRC-32C, made of the processor's own instruction if it has
/// one.
pub fn routines() -> Routines {
    Routines { crc32c: crc32c::crc32c_append }
}

/// Reads a checkpoint to its end, and checks every rule of the format.
pub fn check(source: &mut impl Source<Error = Error>) -> Result<Checkpoint, LoadError<Error>> {
    stasis_state::read(source, routines(), &mut |_, _| ())
}

/// Checks every rule of the format for the checkpoint in a file. What is no regular file, such as a
/// pipe, can't be read again, and passes.
pub fn check_file(file: &File) -> Result<()> {
    if file.metadata()?.is_file() {
        check(&mut Opened::of(file)?).map_err(anyhow_of)?;
    }
    Ok(())
}

/// Returns the error for a person.
pub fn anyhow_of(error: LoadError<Error>) -> Error {
    match error {
        LoadError::Format(error) => error.into(),
        LoadError::Source(error) | LoadError::Refused(error) => error,
    }
}

#[cfg(test)]
pub mod tests {

    use stasis_state::{Capture, GuestState};

    use super::*;

    /// Writes a checkpoint of the golden guest with one vCPU, after `edit`, with this RAM of four
    /// pages, in a new file.
    pub fn loaded(path: &Path, ram: &Vec<u8>, edit: impl FnOnce(&mut GuestState)) -> Loaded {
        let golden =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/1.0/one-vcpu.stasis");
        let mut state = Loaded::from_file(&golden).unwrap().checkpoint.state;
        edit(&mut state);
        let mut bytes = Vec::new();
        let capture = Capture::new(state.records(), ram, &[], routines()).unwrap();
        capture.write(&mut bytes, &mut |_, _| ()).unwrap();
        std::fs::write(path, bytes).unwrap();
        Loaded::from_file(path).unwrap()
    }
}
