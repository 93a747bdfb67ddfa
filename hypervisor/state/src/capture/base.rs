//! What the writer reads of the checkpoint that it shares with.

use crate::{
    Index,
    error::{LoadError, SaveError},
    index::Piece,
    input::Source,
    writer::Sharing,
};

/// The file of that checkpoint, behind the sink.
struct File<'a, E> {
    sink: &'a mut dyn Sharing<Error = E>,
    len: u64,
}

impl<E> Source for File<'_, E> {
    type Error = E;

    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), E> {
        self.sink.read_base(offset, buf)
    }
}

/// Reads what the checkpoint says of the block at `address`; `None` if that has no content.
///
/// # Errors
///
/// [`SaveError::Sink`] if reading fails, [`SaveError::Base`] if the checkpoint is damaged.
pub(super) fn piece<E>(
    sink: &mut dyn Sharing<Error = E>,
    index: &Index,
    address: u64,
) -> Result<Option<Piece>, SaveError<E>> {
    let mut file = File { sink, len: index.file_len() };
    index.piece(&mut file, address).map_err(|error| match error {
        LoadError::Format(error) => SaveError::Base(error),
        LoadError::Source(error) | LoadError::Refused(error) => SaveError::Sink(error),
    })
}
