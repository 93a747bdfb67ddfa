//! The second pass: [`read_memory`] copies the guest's memory to its place.

use alloc::vec::Vec;
use core::ops::Range;

use zerocopy::{FromZeros, IntoBytes};

use super::{Checkpoint, Result, pieces};
use crate::{
    GuestState, RecordType,
    block::{Block, Content},
    device::SharedMemory,
    error::{Error, LoadError},
    input::Source,
    memory::{Coverage, Extent, Kind},
    ram::{OutOfRange, WriteRam},
    routines::{PAGE_SIZE, PIECE, Routines},
    walk::{Open, Walk},
};

/// Bytes read at once between the pages.
const SMALL_BUFFER: usize = 4 * 1024;

/// The memory into which [`read_memory`] copies the content of the file.
#[derive(Debug)]
pub struct Target<'a> {
    /// The guest's RAM, of exactly the size that the file says.
    pub ram: &'a mut dyn WriteRam,
    /// The regions that the guest shares, in the order of the file, each of the size that the file
    /// says. The content of a `None` is not copied.
    pub shared: Vec<Option<&'a mut dyn WriteRam>>,
}

impl<'a> Target<'a> {
    /// Returns the piece of memory of `guest` in which `address` lies, and the offset of the
    /// address in that piece; `None` if nobody wants it.
    fn at(
        &mut self,
        guest: &GuestState,
        address: u64,
    ) -> Option<(&mut (dyn WriteRam + 'a), usize)> {
        let ram_base = *guest.guest.ram_base;
        if (ram_base..ram_base + *guest.guest.ram_size).contains(&address) {
            return Some((self.ram, (address - ram_base) as usize));
        }
        let mut regions =
            guest.devices.shared.iter().flat_map(SharedMemory::ranges).zip(&mut self.shared);
        let (range, region) = regions.find(|(range, _)| range.contains(&address))?;
        Some((region.as_deref_mut()?, (address - range.start) as usize))
    }

    /// Makes the memory of `guest` at these addresses zero, as far as somebody wants it. Calls
    /// `pause` after each piece.
    fn zero(
        &mut self,
        guest: &GuestState,
        memory: &[Range<u64>],
        addresses: Range<u64>,
        pause: &mut dyn FnMut(),
    ) -> core::result::Result<(), OutOfRange> {
        for range in memory {
            let (start, end) = (range.start.max(addresses.start), range.end.min(addresses.end));
            if start < end
                && let Some((ram, offset)) = self.at(guest, start)
            {
                zero(ram, offset..offset + (end - start) as usize, pause)?;
            }
        }
        Ok(())
    }

    /// Checks that the RAM and each region are as large as `guest` says.
    fn check(&self, guest: &GuestState) -> core::result::Result<(), Error> {
        let ram = (*guest.guest.ram_size, Some(self.ram.len()));
        let regions = guest.devices.shared.iter().flat_map(SharedMemory::ranges).zip(&self.shared);
        let regions = regions.map(|(range, region)| {
            (range.end - range.start, region.as_ref().map(|region| region.len()))
        });
        for (found, given) in [ram].into_iter().chain(regions) {
            if let Some(given) = given.map(|len| len as u64).filter(|len| *len != found) {
                return Err(Error::RamSize { found, given });
            }
        }
        Ok(())
    }
}

/// Bytes that [`zero`] clears between two pauses.
const ZEROED_PIECE: usize = 256 << 10;

/// Clears the bytes that may have content, without looking at them first, which would take longer.
/// Calls `pause` after each piece.
fn zero(
    ram: &mut dyn WriteRam,
    bytes: Range<usize>,
    pause: &mut dyn FnMut(),
) -> core::result::Result<(), OutOfRange> {
    OutOfRange::check(&bytes, ram.len())?;
    let mut at = bytes.start;
    while let Some(start) = ram.next_content(at).filter(|start| *start < bytes.end) {
        at = bytes.end.min(start + ZEROED_PIECE);
        ram.zero(start..at)?;
        pause();
    }
    Ok(())
}

/// Fills `target` from a file that [`read`] has checked. Calls `progress` with the bytes read so
/// far, and the length of the file.
///
/// The CRCs are checked again, because storage may answer differently the second time.
///
/// # Errors
///
/// [`LoadError::Source`] if the source fails, [`LoadError::Format`] if the file is not the one that
/// was checked any more, or if `target` has another size. `target` may have lost its content then.
// This is not inlined: `cargo xtask bench` finds it in the image by its name.
#[inline(never)]
pub fn read_memory<S: Source>(
    source: &mut S,
    checkpoint: &Checkpoint,
    mut target: Target<'_>,
    routines: Routines,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), S> {
    target.check(&checkpoint.state)?;
    let mut walk = Walk::new(source, routines.crc32c, SMALL_BUFFER)?;
    if walk.header() != checkpoint.header {
        return Err(Error::Changed.into());
    }
    match walk.directory() {
        0 => extents(&mut walk, &checkpoint.state, &mut target, progress),
        _ => blocks(&mut walk, checkpoint, &mut target, progress),
    }
}

/// Loads memory that is in MEMORY records.
fn extents<S: Source>(
    walk: &mut Walk<'_, S>,
    guest: &GuestState,
    target: &mut Target<'_>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), S> {
    let total = walk.header().total_len;
    let mut coverage = Coverage::default();
    while let Some(mut open) = walk.next()? {
        let place = open.place;
        if place.record_type() != Some(RecordType::Memory) {
            pass(walk, open)?;
            continue;
        }
        let mut extent = Extent::new_zeroed();
        if open.length < Extent::LEN as u32 {
            return Err(Error::Changed.into());
        }
        walk.read(&mut open, extent.as_mut_bytes())?;
        let kind = extent.check(place, open.length).map_err(|_| Error::Changed)?;
        coverage.add(place, &extent).map_err(|_| Error::Changed)?;
        let len = extent.memory_len() as usize;
        match (target.at(guest, extent.address), kind) {
            (Some((ram, offset)), Kind::Raw) => {
                walk.read_memory(&mut open, ram, offset..offset + len)?;
            }
            (Some((ram, offset)), Kind::Zero) => {
                zero(ram, offset..offset + len, &mut || walk.pause())
                    .map_err(|_| Error::Changed)?;
            }
            (None, _) => walk.digest(&mut open)?,
        }
        walk.finish(&open)?;
        progress(walk.at(), total);
    }
    coverage.check(&guest.records().memory()).map_err(|_| Error::Changed.into())
}

/// Reads a record that has no memory. It has its CRC checked, for it would be one of memory if its
/// type were another.
fn pass<S: Source>(walk: &mut Walk<'_, S>, mut open: Open) -> Result<(), S> {
    walk.digest(&mut open)?;
    walk.finish(&open)
}

/// Loads memory that is in blocks.
fn blocks<S: Source>(
    walk: &mut Walk<'_, S>,
    checkpoint: &Checkpoint,
    target: &mut Target<'_>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), S> {
    let total = walk.header().total_len;
    let (guest, stats) = (&checkpoint.state, &checkpoint.stats);
    let memory = guest.records().memory();
    let (mut stored, mut words) = (0, 0);
    // Everything below this address was loaded.
    let mut loaded = 0;
    while let Some(open) = walk.next()? {
        if open.place.record_type() != Some(RecordType::RamBlock) {
            pass(walk, open)?;
            continue;
        }
        let block = pieces::read_block(walk, open, &memory).map_err(as_changed)?;
        let pages = walk.next()?.ok_or(Error::Changed)?;
        let is_pages = pages.place.record_type() == Some(RecordType::RamPages);
        if !is_pages || block.address() < loaded || pieces::check_pages(&pages, &block).is_err() {
            return Err(Error::Changed.into());
        }
        walk.check_head(&pages)?;
        let gap = loaded..block.address();
        target.zero(guest, &memory, gap, &mut || walk.pause()).map_err(|_| Error::Changed)?;
        load_block(walk, &block, pages, target.at(guest, block.address()))?;
        loaded = block.end();
        let counts = block.counts();
        (stored, words) = (stored + counts.0 as u64, words + counts.1 as u64);
        progress(walk.at(), total);
    }
    if (stored, words) != (stats.pages_stored, stats.pages_word) {
        return Err(Error::Changed.into());
    }
    let gap = loaded..u64::MAX;
    target.zero(guest, &memory, gap, &mut || walk.pause()).map_err(|_| Error::Changed)?;
    Ok(())
}

/// Returns the error of a file that was sound before.
fn as_changed<E>(error: LoadError<E>) -> LoadError<E> {
    match error {
        LoadError::Format(Error::RecordCrc { .. }) | LoadError::Source(_) => error,
        _ => Error::Changed.into(),
    }
}

/// Loads a block whose RAM_PAGES record was opened, to an offset of its memory, or nowhere.
fn load_block<S: Source>(
    walk: &mut Walk<'_, S>,
    block: &Block,
    mut open: Open,
    to: Option<(&mut (dyn WriteRam + '_), usize)>,
) -> Result<(), S> {
    let Some((ram, start)) = to else {
        walk.skip(open);
        return Ok(());
    };
    for (first, count, content) in block.runs() {
        let bytes = start + first * PAGE_SIZE..start + (first + count) * PAGE_SIZE;
        match content {
            Content::Zero => zero(ram, bytes, &mut || walk.pause()),
            Content::Word(word) => fill(ram, bytes, word, &mut || walk.pause()),
            Content::Raw(_) => {
                walk.copy_to(&mut open, ram, bytes.clone())?;
                let contents = &block.contents()[first..][..count];
                let address = block.address() + (first * PAGE_SIZE) as u64;
                check(ram, bytes.start, address, contents, &mut || walk.pause())?;
                Ok(())
            }
        }
        .map_err(|_| Error::Changed)?;
    }
    Ok(())
}

/// Checks that these pages are in `ram` from `offset` on. `address` is that of the first.
fn check(
    ram: &dyn WriteRam,
    offset: usize,
    address: u64,
    contents: &[Content],
    pause: &mut dyn FnMut(),
) -> core::result::Result<(), Error> {
    for (page, content) in contents.iter().enumerate() {
        let at = offset + page * PAGE_SIZE;
        let computed = ram.crc32c(0, at..at + PAGE_SIZE).map_err(|_| Error::Changed)?;
        if let Content::Raw(found) = *content
            && found != computed
        {
            let address = address + (page * PAGE_SIZE) as u64;
            return Err(Error::PageCrc { address, found, computed });
        }
        if (page + 1).is_multiple_of(PIECE / PAGE_SIZE) {
            pause();
        }
    }
    pause();
    Ok(())
}

/// Makes each word of `bytes`, which are whole pages, this one. Calls `pause` after each piece.
fn fill(
    ram: &mut dyn WriteRam,
    bytes: Range<usize>,
    word: u64,
    pause: &mut dyn FnMut(),
) -> core::result::Result<(), OutOfRange> {
    for start in bytes.clone().step_by(PIECE) {
        ram.fill(start..bytes.end.min(start + PIECE), word)?;
        pause();
    }
    Ok(())
}
