//! Writes a checkpoint, in one stream, without copying the state first.
//!
//! The header comes first and holds the file's length. So a [`Plan`] looks at the guest's memory once,
//! and what it found there is then written.

use alloc::vec::Vec;
use core::ops::Range;

use zerocopy::IntoBytes;

use crate::{
    RecordHeader, RecordType,
    error::{Error, SaveError},
    header::Header,
    invariants,
    memory::{Extent, PageMap},
    records::Records,
    routines::{PAGE_SIZE, Routines, crc_in_pieces},
    written::Written,
};

/// Takes the bytes of a checkpoint, in order.
pub trait Sink {
    /// Why it could not.
    type Error;

    /// Takes the next bytes, all of them.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Lets others have the core. Called between two pieces of long work, at least once for each record.
    fn pause(&mut self) {}
}

/// What a checkpoint consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Pages whose content is in the file.
    pub pages_stored: u64,
    /// Pages that are zero.
    pub pages_zero: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// A checkpoint that is ready to be written. The guest stands still for as long as it lives.
#[derive(Debug)]
pub struct Plan<'a> {
    records: Records<'a>,
    /// In the order of their addresses.
    pieces: Vec<Piece<'a>>,
    stats: Stats,
    routines: Routines,
}

/// A piece of the guest's memory.
#[derive(Debug)]
struct Piece<'a> {
    /// Its guest-physical address.
    base: u64,
    bytes: &'a [u8],
    map: PageMap,
}

impl Piece<'_> {
    fn extents(&self) -> impl Iterator<Item = (usize, Extent)> {
        self.map.extents(self.base)
    }
}

impl<'a> Plan<'a> {
    /// Checks the state and looks at the pages of `ram`, which is the guest's whole RAM, where it may be `written` (everywhere, if
    /// that is not known), and at all of `shared`, the regions that it shares with others. Calls `pause` between the pieces of them.
    // A function of its own, which `cargo xtask bench` finds in the image.
    #[inline(never)]
    pub fn new(
        records: Records<'a>,
        ram: &'a [u8],
        written: Option<&Written>,
        shared: &[&'a [u8]],
        routines: Routines,
        pause: &mut dyn FnMut(),
    ) -> Result<Self, Error> {
        invariants::check(&records)?;
        let mut shared = shared.iter();
        let mut pieces = Vec::new();
        for Range { start: base, end } in records.memory() {
            let (bytes, written) = match base == *records.guest.ram_base {
                true => (ram, written),
                false => (shared.next().copied().unwrap_or_default(), None),
            };
            if end - base != bytes.len() as u64 {
                return Err(Error::RamSize { found: end - base, given: bytes.len() as u64 });
            }
            pieces.push(Piece { base, bytes, map: PageMap::scan(bytes, written, routines, pause) });
        }
        let bodies = records.bodies();
        let registers: u64 = bodies.iter().map(|body| record_len(body.bytes.len() as u64)).sum();
        let extents = pieces.iter().flat_map(Piece::extents);
        let memory: u64 = extents.map(|(_, extent)| record_len(extent.body_len())).sum();
        let pages_stored = pieces.iter().map(|piece| piece.map.raw_pages()).sum();
        let pages: u64 = pieces.iter().map(|piece| piece.map.pages()).sum();
        let stats = Stats {
            pages_stored,
            pages_zero: pages - pages_stored,
            bytes: Header::LEN as u64 + registers + memory + record_len(0),
        };
        Ok(Self { records, pieces, stats, routines })
    }

    /// What it will be.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Writes it. `progress` hears of the bytes written so far, and of all there are.
    // A function of its own, which `cargo xtask bench` finds in the image.
    #[inline(never)]
    pub fn write<S: Sink>(
        &self,
        sink: &mut S,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Stats, SaveError<S::Error>> {
        let mut out = Output { sink, crc32c: self.routines.crc32c, done: 0 };
        let header = Header::new(self.records.version(), self.stats.bytes, self.routines.crc32c);
        out.write(header.as_bytes())?;
        for body in self.records.bodies() {
            out.record(body.kind, body.instance, &[], body.bytes)?;
        }
        let extents = self.pieces.iter().flat_map(|piece| piece.extents().map(move |e| (piece, e)));
        for (piece, (offset, extent)) in extents {
            let pages = extent.body_len() as usize - Extent::LEN;
            let pages = &piece.bytes[offset..offset + pages];
            out.record(RecordType::Memory, 0, extent.as_bytes(), pages)?;
            progress(out.done, self.stats.bytes);
        }
        out.record(RecordType::End, 0, &[], &[])?;
        progress(out.done, self.stats.bytes);
        debug_assert_eq!(out.done, self.stats.bytes);
        Ok(self.stats)
    }
}

/// Bytes of a record with a body of this length.
const fn record_len(body: u64) -> u64 {
    RecordHeader::LEN as u64 + body.next_multiple_of(8)
}

struct Output<'a, S> {
    sink: &'a mut S,
    crc32c: fn(u32, &[u8]) -> u32,
    done: u64,
}

impl<S: Sink> Output<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), SaveError<S::Error>> {
        if !bytes.is_empty() {
            self.sink.write(bytes).map_err(SaveError::Sink)?;
            self.done += bytes.len() as u64;
        }
        Ok(())
    }

    /// Writes a record whose body is `head` followed by `rest`.
    fn record(
        &mut self,
        kind: RecordType,
        instance: u16,
        head: &[u8],
        rest: &[u8],
    ) -> Result<(), SaveError<S::Error>> {
        let length = head.len() + rest.len();
        let padding = &[0; 8][..length.next_multiple_of(8) - length];
        let mut header = RecordHeader::new(kind, instance, length as u32);
        let covered = &header.as_bytes()[..RecordHeader::COVERED];
        self.sink.pause();
        let pause = &mut || self.sink.pause();
        let parts = [covered, head, rest, padding].into_iter();
        header.crc = parts.fold(0, |crc, part| crc_in_pieces(self.crc32c, crc, part, pause));
        for part in [header.as_bytes(), head, rest, padding] {
            self.write(part)?;
        }
        Ok(())
    }
}

const _: () = assert!(Extent::MAX_RAW_PAGES as u64 * (PAGE_SIZE as u64) < u32::MAX as u64);
