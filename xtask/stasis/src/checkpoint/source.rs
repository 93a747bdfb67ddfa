//! Where a checkpoint is: in a file of its own, or on a disk image, a card or a partition.

use std::convert::Infallible;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use stasis_state::header::MAGIC;
use stasis_state::{Checkpoint, Error, LoadError, Routines, Source};
use stasis_store::{Store, Which};

use crate::disk::{self, FileDisk};
use crate::files::read;

/// A checkpoint that was read and is sound.
pub struct Loaded {
    /// All of its file.
    pub bytes: Vec<u8>,
    /// What is in it.
    pub checkpoint: Checkpoint,
}

impl Loaded {
    /// Checks the bytes of a checkpoint by every rule.
    pub fn new(bytes: Vec<u8>) -> std::result::Result<Self, Error> {
        let checkpoint = check(&bytes)?;
        Ok(Self { bytes, checkpoint })
    }

    /// Takes a checkpoint from the front of the words: `FILE`, or `DISK WHICH`. Returns the first word and what follows, too.
    pub fn take(words: &[String]) -> Result<(&str, Self, &[String])> {
        let [path, rest @ ..] = words else { bail!("a checkpoint is lacking") };
        if is_checkpoint(Path::new(path))? {
            let bytes = read(Path::new(path))?;
            let loaded =
                Self::new(bytes).with_context(|| format!("{path} is no good checkpoint"))?;
            return Ok((path, loaded, rest));
        }
        let [which, rest @ ..] = rest else {
            bail!("{path} is no checkpoint; of a disk's, say WHICH behind it");
        };
        Ok((path, Self::from_disk(path, which)?, rest))
    }

    /// A checkpoint of a disk.
    pub fn from_disk(disk: &str, which: &str) -> Result<Self> {
        let bytes = contents(&mut disk::store(Path::new(disk), false)?, which.into())?;
        Self::new(bytes).map_err(|error| {
            let how = if error.is_of_newer() { "too new, not damaged" } else { "damaged" };
            anyhow!("checkpoint {which} of {disk} is {how}: {error}")
        })
    }

    /// Returns the guest's name; in quotes and with escapes where that is none, as it can be in files before 1.3.
    pub fn guest(&self) -> String {
        let guest = &self.checkpoint.state.guest;
        guest.checked_name().map_or_else(|_| guest.shown_name().to_string(), str::to_owned)
    }
}

/// Returns the checkpoint that all of the words stand for.
pub fn only(words: &[String]) -> Result<Loaded> {
    let (_, loaded, rest) = Loaded::take(words)?;
    match rest {
        [] => Ok(loaded),
        [surplus, ..] => bail!("\"{surplus}\" is one too many"),
    }
}

/// Whether a file begins as a checkpoint does.
pub fn is_checkpoint(path: &Path) -> Result<bool> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut beginning = Vec::new();
    file.take(MAGIC.len() as u64)
        .read_to_end(&mut beginning)
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(beginning == MAGIC)
}

/// All bytes of a checkpoint on a disk, unchecked.
pub fn contents(store: &mut Store<FileDisk>, which: Which<'_>) -> Result<Vec<u8>> {
    let mut reader = store.open_checkpoint(which)?;
    let mut bytes = vec![0; usize::try_from(reader.length())?];
    reader.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// A checkpoint in memory.
pub struct Bytes<'a>(pub &'a [u8]);

impl Source for Bytes<'_> {
    type Error = Infallible;

    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> std::result::Result<(), Infallible> {
        // What is asked for lies below `len`.
        let start = offset as usize;
        buf.copy_from_slice(&self.0[start..start + buf.len()]);
        Ok(())
    }
}

/// Reads a checkpoint to its end, by every rule of the format.
pub fn check(bytes: &[u8]) -> std::result::Result<Checkpoint, Error> {
    stasis_state::read(&mut Bytes(bytes), Routines::default(), &mut |_, _| ()).map_err(format_error)
}

/// The only error that there is of bytes in memory.
pub fn format_error(error: LoadError<Infallible>) -> Error {
    match error {
        LoadError::Format(error) => error,
        LoadError::Source(never) | LoadError::Refused(never) => match never {},
    }
}
