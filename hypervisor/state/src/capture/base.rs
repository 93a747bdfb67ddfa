//! What the writer reads of the checkpoint that it shares with.

use crate::{
    Index,
    error::{LoadError, SaveError},
    index::Piece,
    input::Source,
    writer::Sink,
};

/// The file of that checkpoint, behind the sink.
struct File<'a, S> {
    sink: &'a mut S,
    len: u64,
}

impl<S: Sink> Source for File<'_, S> {
    type Error = S::Error;

    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), S::Error> {
        self.sink.read_base(offset, buf)
    }
}

/// Reads what the checkpoint says of the block at `address`; `None` if that has no content.
///
/// # Errors
///
/// [`SaveError::Sink`] if reading fails, [`SaveError::Base`] if the checkpoint is damaged.
pub(super) fn piece<S: Sink>(
    sink: &mut S,
    index: &Index,
    address: u64,
) -> Result<Option<Piece>, SaveError<S::Error>> {
    let mut file = File { sink, len: index.file_len() };
    index.piece(&mut file, address).map_err(|error| match error {
        LoadError::Format(error) => SaveError::Base(error),
        LoadError::Source(error) | LoadError::Refused(error) => SaveError::Sink(error),
    })
}
