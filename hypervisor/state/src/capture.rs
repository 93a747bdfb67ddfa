//! Writes a checkpoint in one pass: [`Capture`].
//!
//! Block by block, the writer looks at the guest's pages, writes what they are and those that must be stored as they are, and releases them. So the
//! length of the file and the place of its directory are known at the end only: the header is written last, over the zeros that were in its place.

mod output;
mod pages;

use alloc::vec::Vec;
use core::ops::Range;

use crate::{
    RecordType,
    block::block_of,
    directory::{Directory, Entry},
    error::{Error, SaveError},
    header::{Header, HeaderTail, Version},
    invariants,
    ram::ReadRam,
    records::Records,
    routines::{PAGE_SIZE, Routines},
    writer::{Sink, Stats},
};
use output::Output;
use pages::Pages;

/// What a checkpoint is made of. Neither the records nor the memory may change while this lives: the guest stands still, or the memory is a snapshot.
/// What was written is [released](ReadRam::release).
#[derive(Debug)]
pub struct Capture<'a> {
    records: Records<'a>,
    /// The guest's RAM and the regions that it shares, in the order of their addresses.
    memory: Vec<Part<'a>>,
    routines: Routines,
}

/// A part of the guest's memory: its RAM, or a region that it shares.
#[derive(Debug)]
struct Part<'a> {
    addresses: Range<u64>,
    ram: &'a dyn ReadRam,
}

impl<'a> Capture<'a> {
    /// Returns the capture of a guest with these records. Checks their invariants. `ram` is the guest's whole RAM; `shared` has the regions that the
    /// guest shares, in ascending order.
    ///
    /// # Errors
    ///
    /// [`Error::Invariant`] if the records break an invariant, [`Error::RamSize`] if memory is not as large as the records say.
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
        Ok(Self { records, memory, routines })
    }

    /// Writes the checkpoint to `sink`, and returns its size. Calls `progress` with the bytes of memory that were done, and the bytes of all.
    ///
    /// # Errors
    ///
    /// [`SaveError::Sink`] if the sink fails, [`SaveError::Ram`] if the memory has become smaller.
    // This is not inlined: `cargo xtask bench` finds it in the image by its name.
    #[inline(never)]
    pub fn write<S: Sink>(
        &self,
        sink: &mut S,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Stats, SaveError<S::Error>> {
        let crc32c = self.routines.crc32c;
        let mut out = Output::new(sink, crc32c);
        out.write(&[0; HeaderTail::END])?;
        for body in self.records.bodies() {
            out.record(body.kind as u16, body.instance, body.bytes)?;
        }
        out.pad()?;
        let directory = self.write_memory(&mut out, progress)?;
        let tail = HeaderTail { directory: out.done(), reserved: 0 };
        out.record(RecordType::RamDirectory as u16, 0, &directory.encode())?;
        out.record(RecordType::End as u16, 0, &[])?;
        let bytes = out.done();
        out.rewrite(&Header::encode(self.version(), bytes, tail, crc32c))?;
        let (pages_stored, pages_word) = (directory.raw_pages, directory.word_pages);
        let pages_zero = self.len() / PAGE_SIZE as u64 - pages_stored - pages_word;
        Ok(Stats { pages_stored, pages_zero, pages_word, bytes })
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
        for Part { addresses, ram } in &self.memory {
            let mut at = addresses.start;
            while let Some(block) = block_of(core::slice::from_ref(addresses), at) {
                at = block.end;
                let offset = (block.start - addresses.start) as usize;
                let bytes = offset..(block.end - addresses.start) as usize;
                if ram.next_content(bytes.start).is_some_and(|content| content < bytes.end) {
                    let start = out.done();
                    let (raw, words) = pages.write(out, *ram, bytes.clone(), block.clone())?;
                    directory.raw_pages += raw;
                    directory.word_pages += words;
                    if start < out.done() {
                        directory.entries.push(entry(block.start, start, out.done()));
                    }
                }
                ram.release(bytes.clone(), &mut || out.pause());
                done += bytes.len() as u64;
                progress(done, all);
            }
        }
        Ok(directory)
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

/// Returns the entry of the block at `address`, whose piece is between these offsets in the file.
fn entry(address: u64, start: u64, end: u64) -> Entry {
    let unit = PAGE_SIZE as u64;
    Entry { address, start: (start / unit) as u32, len: ((end - start) / unit) as u32 }
}
