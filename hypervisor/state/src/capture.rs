//! Writes a checkpoint in one pass: [`Capture`].
//!
//! Block by block, the writer looks at the guest's pages, writes what they are and those that must
//! be stored as they are, and releases them. So the length of the file and the place of its
//! directory are known at the end only: the header is written last, over the zeros that were in its
//! place.
//!
//! Of a memory that knows what has [changed](crate::change) since a checkpoint, nothing else is
//! looked at: pieces, and pages in them, that did not change are [shared](Sink::share) with that
//! checkpoint.

mod base;
mod output;
mod pages;

use alloc::vec::Vec;
use core::ops::Range;

use crate::{
    Index, RecordType,
    block::block_of,
    change::{Baseline, BlockChange, PageBits},
    directory::{Directory, Entry, Touched},
    error::{Error, SaveError},
    header::{Header, HeaderTail, Version},
    invariants,
    ram::ReadRam,
    records::Records,
    routines::{PAGE_SIZE, Routines},
    writer::{Sink, Stats},
    written::BLOCK_SIZE,
};
use output::Output;
use pages::Pages;

/// What a checkpoint is made of. Neither the records nor the memory may change while this lives:
/// the guest stands still, or the memory is a snapshot. What was written is
/// [released](ReadRam::release).
#[derive(Debug)]
pub struct Capture<'a> {
    records: Records<'a>,
    /// The guest's RAM and the regions that it shares, in the order of their addresses.
    memory: Vec<Part<'a>>,
    base: Option<Base<'a>>,
    routines: Routines,
}

/// The checkpoint that a capture shares with.
#[derive(Clone, Copy, Debug)]
struct Base<'a> {
    baseline: Baseline,
    index: &'a Index,
}

/// A part of the guest's memory: its RAM, or a region that it shares.
#[derive(Debug)]
struct Part<'a> {
    addresses: Range<u64>,
    ram: &'a dyn ReadRam,
}

impl<'a> Capture<'a> {
    /// Returns the capture of a guest with these records. Checks their invariants. `ram` is the
    /// guest's whole RAM; `shared` has the regions that the guest shares, in ascending order.
    ///
    /// # Errors
    ///
    /// [`Error::Invariant`] if the records break an invariant, [`Error::RamSize`] if memory is not
    /// as large as the records say.
    // This is not inlined: `cargo xtask bench` finds it in the image by its name.
    #[inline(never)]
    pub fn new(
        records: Records<'a>,
        ram: &'a dyn ReadRam,
        shared: &[&'a dyn ReadRam],
        routines: Routines,
    ) -> Result<Self, Error> {
        invariants::check(&records)?;
        let mut shared = shared.iter();
        let mut memory = Vec::new();
        for addresses in records.memory() {
            let found = addresses.end - addresses.start;
            let ram = match addresses.start == *records.guest.ram_base {
                true => ram,
                false => *shared.next().ok_or(Error::RamSize { found, given: 0 })?,
            };
            let given = ram.len() as u64;
            if found != given {
                return Err(Error::RamSize { found, given });
            }
            memory.push(Part { addresses, ram });
        }
        Ok(Self { records, memory, base: None, routines })
    }

    /// Makes the capture share with the checkpoint `baseline` what did not change since, as far as
    /// the memory says so. `index` is the checkpoint's.
    #[must_use]
    pub fn since(mut self, baseline: Baseline, index: &'a Index) -> Self {
        self.base = Some(Base { baseline, index });
        self
    }

    /// Writes the checkpoint to `sink`, and returns its size. Calls `progress` with the bytes of
    /// memory that were done, and the bytes of all.
    ///
    /// # Errors
    ///
    /// The errors of [`write_indexed`](Self::write_indexed).
    pub fn write<S: Sink>(
        &self,
        sink: &mut S,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Stats, SaveError<S::Error>> {
        Ok(self.write_indexed(sink, progress)?.0)
    }

    /// Writes the checkpoint to `sink`, and returns its size and its index, which another
    /// checkpoint can be written [since](Self::since), and which lacks what the guest had touched.
    /// Calls `progress` with the bytes of memory
    /// that were done, and the bytes of all.
    ///
    /// # Errors
    ///
    /// [`SaveError::Sink`] if the sink fails, [`SaveError::Ram`] if the memory has become smaller;
    /// [`SaveError::Base`] if the checkpoint to share with is damaged, or the memory counts its
    /// changes from another one.
    // This is not inlined: `cargo xtask bench` finds it in the image by its name.
    #[inline(never)]
    pub fn write_indexed<S: Sink>(
        &self,
        sink: &mut S,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(Stats, Index), SaveError<S::Error>> {
        let crc32c = self.routines.crc32c;
        let mut out = Output::new(sink, crc32c);
        out.write(&[0; HeaderTail::END])?;
        for body in self.records.bodies() {
            out.record(body.stored_kind(), body.instance, body.bytes)?;
        }
        out.pad()?;
        let directory = self.write_memory(&mut out, progress)?;
        let tail = HeaderTail { directory: out.done(), reserved: 0 };
        out.record(RecordType::RamDirectory as u16, 0, &directory.encode())?;
        out.record(RecordType::End as u16, 0, &[])?;
        let bytes = out.done();
        out.rewrite(&Header::encode(self.version(), bytes, tail, crc32c))?;
        let (pages_stored, pages_word) = directory.counts();
        let pages_zero = self.len() / PAGE_SIZE as u64 - pages_stored - pages_word;
        let bytes_shared = out.shared();
        let stats = Stats { pages_stored, pages_zero, pages_word, bytes, bytes_shared };
        let memory = self.memory.iter().map(|part| part.addresses.clone()).collect();
        Ok((stats, Index::of_written(memory, directory.entries, bytes, crc32c)))
    }

    /// Writes the pieces of the memory, and returns the directory of them.
    fn write_memory<S: Sink>(
        &self,
        out: &mut Output<'_, S>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Directory, SaveError<S::Error>> {
        let mut directory = Directory::default();
        let mut pages = Pages::default();
        out.pause();
        let (mut done, all) = (0, self.len());
        for part in &self.memory {
            let base = self.base_of(part).map_err(SaveError::Base)?;
            let mut at = part.addresses.start;
            while let Some(block) = block_of(core::slice::from_ref(&part.addresses), at) {
                at = block.end;
                let start = (block.start - part.addresses.start) as usize;
                let bytes = start..start + (block.end - block.start) as usize;
                let place = BlockOfRam { ram: part.ram, bytes: bytes.clone(), addresses: block };
                let piece = match part.change(start) {
                    BlockChange::Empty => None,
                    BlockChange::Unchanged => share(out, base, &place)?,
                    BlockChange::Pages(changed) => pages.write(out, base, &place, &changed)?,
                };
                directory.entries.extend(piece);
                part.ram.release(bytes, &mut || out.pause());
                done += place.bytes.len() as u64;
                progress(done, all);
            }
            let room = Touched::MAX_RUNS - directory.touched.len();
            let touched = part.ram.touched().iter().take(room);
            directory.touched.extend(touched.map(|run| run.moved(part.addresses.start)));
        }
        Ok(directory)
    }

    /// Returns the index of the checkpoint that a part's changes count from; `None` if all of it
    /// counts as changed.
    ///
    /// # Errors
    ///
    /// [`Error::NoBase`] if that is another checkpoint than the one that the capture shares with.
    fn base_of(&self, part: &Part<'a>) -> Result<Option<&'a Index>, Error> {
        let Some(baseline) = part.ram.baseline() else { return Ok(None) };
        let base = self.base.filter(|base| base.baseline == baseline && part.is_aligned());
        let index = base.map(|base| base.index).filter(|index| index.is_of(&part.addresses));
        index.map(Some).ok_or(Error::NoBase)
    }

    /// Returns the lowest version of the format that can express the checkpoint.
    fn version(&self) -> Version {
        let version = self.records.version();
        Version { minor: version.minor.max(HeaderTail::SINCE), ..version }
    }

    /// Returns the bytes of all of the memory.
    fn len(&self) -> u64 {
        self.memory.iter().map(|part| part.addresses.end - part.addresses.start).sum()
    }
}

impl Part<'_> {
    /// Returns whether the blocks of the memory are those of the file.
    fn is_aligned(&self) -> bool {
        self.addresses.start.is_multiple_of(BLOCK_SIZE as u64)
    }

    /// Returns what became of the block at `offset`.
    fn change(&self, offset: usize) -> BlockChange {
        // A block of the file may be parts of two of the memory: all of it counts as changed.
        if self.is_aligned() {
            self.ram.block_change(offset)
        } else {
            BlockChange::Pages(PageBits::ALL)
        }
    }
}

/// Where a block is: `bytes` of `ram`.
struct BlockOfRam<'a> {
    ram: &'a dyn ReadRam,
    bytes: Range<usize>,
    addresses: Range<u64>,
}

/// Shares the piece of a block that did not change, and returns its entry; `None` if it has no
/// content.
fn share<S: Sink>(
    out: &mut Output<'_, S>,
    base: Option<&Index>,
    place: &BlockOfRam<'_>,
) -> Result<Option<Entry>, SaveError<S::Error>> {
    let index = base.ok_or(SaveError::Base(Error::NoBase))?;
    let Some(entry) = index.entry(place.addresses.start) else { return Ok(None) };
    let start = (out.done() / PAGE_SIZE as u64) as u32;
    out.share(entry.units())?;
    Ok(Some(Entry { start, ..entry }))
}
