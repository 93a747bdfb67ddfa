//! [`Output`]: records on their way to a sink.

use zerocopy::IntoBytes;

use crate::{
    RecordHeader, RecordType,
    error::{Error, SaveError},
    ram::ReadRam,
    routines::PAGE_SIZE,
    writer::{Sharing, Sink},
};
use core::ops::Range;

/// A sink, and how much it was given.
pub(super) struct Output<'a, S> {
    sink: &'a mut S,
    crc32c: fn(u32, &[u8]) -> u32,
    done: u64,
    shared: u64,
}

impl<'a, S: Sink> Output<'a, S> {
    pub(super) fn new(sink: &'a mut S, crc32c: fn(u32, &[u8]) -> u32) -> Self {
        Self { sink, crc32c, done: 0, shared: 0 }
    }

    /// Returns the number of bytes of the file so far.
    pub(super) fn done(&self) -> u64 {
        self.done
    }

    /// Returns how many of them are shared.
    pub(super) fn shared(&self) -> u64 {
        self.shared
    }

    /// Appends blocks of the checkpoint that this one is written since.
    pub(super) fn share(&mut self, blocks: Range<u64>) -> Result<(), SaveError<S::Error>> {
        let len = (blocks.end - blocks.start) * PAGE_SIZE as u64;
        self.sharing()?.share(blocks).map_err(SaveError::Sink)?;
        self.done += len;
        self.shared += len;
        Ok(())
    }

    /// Returns the sink's way to the checkpoint that this one is written since.
    pub(super) fn sharing(
        &mut self,
    ) -> Result<&mut dyn Sharing<Error = S::Error>, SaveError<S::Error>> {
        self.sink.sharing().ok_or(SaveError::Base(Error::NoBase))
    }

    pub(super) fn crc32c(&self) -> fn(u32, &[u8]) -> u32 {
        self.crc32c
    }

    /// Lets others have the core.
    pub(super) fn pause(&mut self) {
        self.sink.pause();
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), SaveError<S::Error>> {
        if !bytes.is_empty() {
            self.sink.write(bytes).map_err(SaveError::Sink)?;
            self.done += bytes.len() as u64;
        }
        Ok(())
    }

    /// Replaces the first bytes of all.
    pub(super) fn rewrite(&mut self, bytes: &[u8]) -> Result<(), SaveError<S::Error>> {
        self.sink.rewrite(bytes).map_err(SaveError::Sink)
    }

    /// Writes a record with this body, its header and its padding.
    pub(super) fn record(
        &mut self,
        kind: u16,
        instance: u16,
        body: &[u8],
    ) -> Result<(), SaveError<S::Error>> {
        let padding = &[0; 8][..body.len().next_multiple_of(8) - body.len()];
        let length = body.len() as u32;
        let mut header = RecordHeader { kind, instance, length, reserved: 0, crc: 0 };
        let covered = &header.as_bytes()[..RecordHeader::COVERED];
        self.pause();
        header.crc = [covered, body, padding].iter().fold(0, |crc, part| (self.crc32c)(crc, part));
        for part in [header.as_bytes(), body, padding] {
            self.write(part)?;
        }
        Ok(())
    }

    /// Writes a PAD record, if what comes next would not begin at a multiple of 4096.
    pub(super) fn pad(&mut self) -> Result<(), SaveError<S::Error>> {
        const PAGE: u64 = PAGE_SIZE as u64;
        if self.done.is_multiple_of(PAGE) {
            return Ok(());
        }
        let body = self.done + RecordHeader::LEN as u64;
        let len = (body.next_multiple_of(PAGE) - body) as usize;
        let kind = RecordType::Pad as u16 | RecordHeader::OPTIONAL;
        self.record(kind, 0, &[0; PAGE_SIZE][..len])
    }

    /// Writes these bytes of `ram`.
    pub(super) fn memory(
        &mut self,
        ram: &dyn ReadRam,
        bytes: Range<usize>,
    ) -> Result<(), SaveError<S::Error>> {
        let (mut at, mut read) = (bytes.start, Ok(()));
        let fill = &mut |piece: &mut [u8]| {
            read = read.and_then(|()| ram.read(at, piece));
            at += piece.len();
        };
        self.sink.write_with(bytes.len(), fill).map_err(SaveError::Sink)?;
        self.done += bytes.len() as u64;
        read.map_err(SaveError::Ram)
    }
}
