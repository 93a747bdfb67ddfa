//! A checkpoint in the store, as a [`Sink`] to write to and a [`Source`] to read from.

use crate::storage::Disk;
use crate::typed;
use alloc::string::{String, ToString};
use stasis_state::{LoadError, SaveError, Sink, Source};
use stasis_store::{Store, reader, writer};

/// Why a checkpoint was not written or read to its end.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error("{0}")]
    Other(String),
    /// A person or a program has given the command up.
    #[error("given up; nothing has changed")]
    GivenUp,
}

impl StreamError {
    /// Returns an error if the command under way must be given up.
    pub fn if_given_up() -> Result<(), Self> {
        if typed::given_up() { Err(Self::GivenUp) } else { Ok(()) }
    }
}

/// Returns the line that says why a checkpoint was not read.
pub fn why_not_read(error: LoadError<StreamError>) -> String {
    match error {
        LoadError::Source(given_up @ StreamError::GivenUp) => given_up.to_string(),
        other => other.to_string(),
    }
}

/// Returns the line that says why a checkpoint was not written.
pub fn why_not_written(error: SaveError<StreamError>) -> String {
    match error {
        SaveError::Sink(given_up @ StreamError::GivenUp) => given_up.to_string(),
        other => other.to_string(),
    }
}

/// The writer of the store, as a sink of the format.
pub struct ToStore<'s, 't>(pub writer::Writer<'s, Disk<'t>>);

impl Sink for ToStore<'_, '_> {
    type Error = StreamError;

    fn write(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        StreamError::if_given_up()?;
        self.0.write(bytes).map_err(|error| StreamError::Other(error.to_string()))
    }

    fn write_with(
        &mut self,
        len: usize,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), StreamError> {
        StreamError::if_given_up()?;
        self.0.write_with(len, fill).map_err(|error| StreamError::Other(error.to_string()))
    }

    fn pause(&mut self) {
        self.0.device_mut().task().yield_now();
    }
}

/// The reader of the store, as a source of the format.
pub struct FromStore<'s, 't> {
    reader: reader::Reader<'s, Disk<'t>>,
    /// Whether reading fails when the command is given up: nothing is lost then.
    can_give_up: bool,
}

impl FromStore<'_, '_> {
    /// Sets whether the next reads fail if the command is given up.
    pub fn allow_giving_up(&mut self, can_give_up: bool) {
        self.can_give_up = can_give_up;
    }
}

impl Source for FromStore<'_, '_> {
    type Error = StreamError;

    fn len(&self) -> u64 {
        self.reader.length()
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), StreamError> {
        if self.can_give_up {
            StreamError::if_given_up()?;
        }
        self.reader.read_at(offset, buf).map_err(|error| StreamError::Other(error.to_string()))
    }

    fn read_with(
        &mut self,
        offset: u64,
        len: usize,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<(), StreamError> {
        if self.can_give_up {
            StreamError::if_given_up()?;
        }
        let read = self.reader.read_with(offset, len, take);
        read.map_err(|error| StreamError::Other(error.to_string()))
    }

    fn pause(&mut self) {
        self.reader.device_mut().task().yield_now();
    }
}

/// Opens a checkpoint to read it.
pub fn open<'s, 't>(
    store: &'s mut Store<Disk<'t>>,
    number: u64,
) -> Result<FromStore<'s, 't>, String> {
    let reader = store.open_checkpoint(number).map_err(|error| error.to_string())?;
    Ok(FromStore { reader, can_give_up: true })
}
