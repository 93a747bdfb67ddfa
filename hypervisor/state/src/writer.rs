//! Writes a checkpoint as one stream, without copying the state first.
//!
//! The header comes first and states the file's length. So a [`Plan`] looks at the guest's memory once to know what will be in the file,
//! and [`Plan::write`] then writes that.

use alloc::vec::Vec;
use core::ops::Range;

use zerocopy::IntoBytes;

use crate::{
    RecordHeader, RecordType,
    error::{Error, SaveError},
    header::Header,
    invariants,
    memory::{self, Extent, PageMap},
    ram::ReadRam,
    records::Records,
    routines::{PAGE_SIZE, Routines},
};

/// The place to which the bytes of a checkpoint go, in order.
pub trait Sink {
    /// Why the sink could not take the bytes.
    type Error;

    /// Takes all of the next bytes.
    ///
    /// # Errors
    ///
    /// Whatever the sink fails with.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Replaces the first bytes of all that was written, which were as many zeros. The writer calls this once, at the end.
    ///
    /// # Errors
    ///
    /// Whatever the sink fails with.
    fn rewrite(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Appends blocks of 4096 bytes of the checkpoint that this one is written [since](crate::Capture::since), without a copy of them: what was written is
    /// whole blocks so far. The writer calls this only if there is such a checkpoint, and so only of sinks that can.
    ///
    /// # Errors
    ///
    /// Whatever the sink fails with.
    fn share(&mut self, blocks: Range<u64>) -> Result<(), Self::Error>;

    /// Fills `buf` with the bytes at `offset` of the checkpoint that this one is written [since](crate::Capture::since). The writer calls this only if there
    /// is such a checkpoint.
    ///
    /// # Errors
    ///
    /// Whatever the sink fails with.
    fn read_base(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), Self::Error>;

    /// Lets others have the core. The writer calls this between two pieces of long work, at least once for each record.
    fn pause(&mut self) {}

    /// Takes the next `len` bytes, which `fill` copies into the pieces that it gets, in their order.
    ///
    /// The writer writes a guest's memory through this function, because nobody can have a slice of that memory. A sink with a buffer of its own
    /// passes pieces of that buffer to `fill`, so that the bytes are copied once. The default goes through a buffer of one page.
    ///
    /// # Errors
    ///
    /// Whatever the sink fails with.
    fn write_with(
        &mut self,
        len: usize,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), Self::Error> {
        let mut page = [0; PAGE_SIZE];
        for start in (0..len).step_by(PAGE_SIZE) {
            let piece = &mut page[..PAGE_SIZE.min(len - start)];
            fill(piece);
            self.write(piece)?;
        }
        Ok(())
    }
}

/// The size of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Number of pages whose content is in the file.
    pub pages_stored: u64,
    /// Number of pages that are zero.
    pub pages_zero: u64,
    /// Number of pages that are one 64-bit word over and over, of which the file has the word alone.
    pub pages_word: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes of the file that another checkpoint has, too, and that were not written; 0 of a file that was read.
    pub bytes_shared: u64,
}

/// A checkpoint that is ready to be written. Neither the records nor the memory may change while the plan lives: the guest stands still, or the memory
/// is a snapshot. What was written is [released](ReadRam::release).
#[derive(Debug)]
pub struct Plan<'a> {
    records: Records<'a>,
    /// The pieces of the guest's memory, in the order of their addresses.
    pieces: Vec<Piece<'a>>,
    stats: Stats,
    routines: Routines,
}

/// A piece of the guest's memory: its RAM, or a region that it shares.
#[derive(Debug)]
struct Piece<'a> {
    /// Guest-physical address of the piece.
    base: u64,
    ram: &'a dyn ReadRam,
    map: PageMap,
}

impl Piece<'_> {
    fn extents(&self) -> impl Iterator<Item = (usize, Extent)> {
        self.map.extents(self.base)
    }
}

impl<'a> Plan<'a> {
    /// Returns the plan of a checkpoint of these records. Checks their invariants, and looks at every page of `ram` and `shared` that may have
    /// content. `ram` is the guest's whole RAM; `shared` has the regions that the guest shares, in ascending order. Calls `pause` after each piece.
    ///
    /// # Errors
    ///
    /// [`Error::Invariant`] if the records break an invariant, [`Error::RamSize`] if memory is not as large as the records say.
    // This is not inlined: `cargo xtask bench` finds it in the image by its name.
    #[inline(never)]
    pub fn new(
        records: Records<'a>,
        ram: &'a dyn ReadRam,
        shared: &[&'a dyn ReadRam],
        routines: Routines,
        pause: &mut dyn FnMut(),
    ) -> Result<Self, Error> {
        invariants::check(&records)?;
        let mut shared = shared.iter();
        let mut pieces = Vec::new();
        for Range { start: base, end } in records.memory() {
            let found = end - base;
            let ram = match base == *records.guest.ram_base {
                true => ram,
                false => *shared.next().ok_or(Error::RamSize { found, given: 0 })?,
            };
            let given = ram.len() as u64;
            if found != given {
                return Err(Error::RamSize { found, given });
            }
            pieces.push(Piece { base, ram, map: PageMap::scan(ram, pause)? });
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
            pages_word: 0,
            bytes: Header::LEN as u64 + registers + memory + record_len(0),
            bytes_shared: 0,
        };
        Ok(Self { records, pieces, stats, routines })
    }

    /// Returns the size that the checkpoint will have.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Writes the checkpoint to `sink`, and returns its size. Calls `progress` with the bytes written so far, and the length of the file.
    ///
    /// # Errors
    ///
    /// [`SaveError::Sink`] if the sink fails, [`SaveError::Ram`] if the memory has become smaller than the plan says.
    // This is not inlined: `cargo xtask bench` finds it in the image by its name.
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
            out.record(body.kind, body.instance, body.bytes)?;
        }
        let extents = self.pieces.iter().flat_map(|piece| piece.extents().map(move |e| (piece, e)));
        for (piece, (offset, extent)) in extents {
            let len = extent.body_len() as usize - Extent::LEN;
            out.memory(&extent, piece.ram, offset..offset + len)?;
            let memory_len = extent.memory_len() as usize;
            piece.ram.release(offset..offset + memory_len, &mut || out.sink.pause());
            progress(out.done, self.stats.bytes);
        }
        out.record(RecordType::End, 0, &[])?;
        progress(out.done, self.stats.bytes);
        debug_assert_eq!(out.done, self.stats.bytes);
        Ok(self.stats)
    }
}

/// Returns the bytes of a record whose body has `body` bytes, with its header and its padding.
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

    /// Writes a record with this body, its header and its padding.
    fn record(
        &mut self,
        kind: RecordType,
        instance: u16,
        body: &[u8],
    ) -> Result<(), SaveError<S::Error>> {
        let padding = &[0; 8][..body.len().next_multiple_of(8) - body.len()];
        let mut header = RecordHeader::new(kind, instance, body.len() as u32);
        let covered = &header.as_bytes()[..RecordHeader::COVERED];
        self.sink.pause();
        header.crc = [covered, body, padding].iter().fold(0, |crc, part| (self.crc32c)(crc, part));
        for part in [header.as_bytes(), body, padding] {
            self.write(part)?;
        }
        Ok(())
    }

    /// Writes the record of an extent, with these bytes of `ram`: whole pages, or none.
    fn memory(
        &mut self,
        extent: &Extent,
        ram: &dyn ReadRam,
        bytes: Range<usize>,
    ) -> Result<(), SaveError<S::Error>> {
        let length = Extent::LEN + bytes.len();
        let mut header = RecordHeader::new(RecordType::Memory, 0, length as u32);
        let crc = (self.crc32c)(0, &header.as_bytes()[..RecordHeader::COVERED]);
        let crc = (self.crc32c)(crc, extent.as_bytes());
        self.sink.pause();
        let pause = &mut || self.sink.pause();
        header.crc = memory::crc32c(ram, crc, bytes.clone(), pause).map_err(SaveError::Ram)?;
        self.write(header.as_bytes())?;
        self.write(extent.as_bytes())?;
        if bytes.is_empty() {
            return Ok(());
        }
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

// A record of memory needs no padding, and its length fits in the header.
const _: () = assert!(Extent::LEN.is_multiple_of(8) && PAGE_SIZE.is_multiple_of(8));
const _: () = assert!(Extent::MAX_RAW_PAGES as u64 * (PAGE_SIZE as u64) < u32::MAX as u64);
