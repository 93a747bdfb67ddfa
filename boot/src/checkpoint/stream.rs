//! A checkpoint in the store as the format wants it: something to write to, and to read from.

use crate::storage::Disk;
use alloc::string::{String, ToString};
use stasis_state::{Sink, Source};
use stasis_store::{Store, reader, writer};

/// A store's writer as the format wants it.
pub struct ToStore<'s>(pub writer::Writer<'s, Disk>);

impl Sink for ToStore<'_> {
    type Error = String;

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.0.write(bytes).map_err(|error| error.to_string())
    }
}

/// A store's reader as the format wants it.
pub struct FromStore<'s>(reader::Reader<'s, Disk>);

impl Source for FromStore<'_> {
    type Error = String;

    fn len(&self) -> u64 {
        self.0.length()
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), String> {
        self.0.read_at(offset, buf).map_err(|error| error.to_string())
    }
}

/// A checkpoint, to be read.
pub fn open(store: &mut Store<Disk>, number: u64) -> Result<FromStore<'_>, String> {
    store.open_checkpoint(number).map(FromStore).map_err(|error| error.to_string())
}
