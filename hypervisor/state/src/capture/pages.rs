//! [`Pages`]: the look at the pages of a block, and their way into the file.

use alloc::vec::Vec;
use core::ops::Range;

use super::{BlockOfRam, base, output::Output};
use crate::{
    Index,
    block::{Block, Content},
    change::PageBits,
    directory::Entry,
    error::SaveError,
    index::Piece,
    ram::{OutOfRange, ReadRam},
    routines::{PAGE_SIZE, PIECE},
    writer::Sink,
};

/// The kind of raw pages.
const RAW: u8 = Content::Raw(0).kind();
/// Pages that are looked at between two pauses.
const PIECE_PAGES: usize = PIECE / PAGE_SIZE;

/// What the writer needs for one block after the other.
#[derive(Default)]
pub(super) struct Pages {
    /// The metadata of a piece.
    meta: Vec<u8>,
}

impl Pages {
    /// Writes the piece of a block of which these pages may have changed since `base`, and returns
    /// its entry; `None` if all of it is zero.
    pub(super) fn write<S: Sink>(
        &mut self,
        out: &mut Output<'_, S>,
        base: Option<&Index>,
        place: &BlockOfRam<'_>,
        changed: &PageBits,
    ) -> Result<Option<Entry>, SaveError<S::Error>> {
        let BlockOfRam { ram, bytes, addresses } = place;
        let count = bytes.len() / PAGE_SIZE;
        let is_changed = |page: usize| changed.contains(page);
        let old = match base {
            Some(index) if !(0..count).all(is_changed) => {
                base::piece(out.sharing()?, index, addresses.start)?
            }
            _ => None,
        };
        let mut block = match &old {
            Some(old) => old.block.clone(),
            None => Block::zero(addresses.clone()),
        };
        for (first, pages) in pieces(count, changed) {
            let contents = &mut block.contents_mut()[first..first + pages];
            let at = bytes.start + first * PAGE_SIZE;
            look(*ram, at, contents, &mut || out.pause()).map_err(SaveError::Ram)?;
        }
        let (raw, words) = block.counts();
        if raw + words == 0 {
            return Ok(None);
        }
        let start = (out.done() / PAGE_SIZE as u64) as u32;
        block.encode(out.crc32c(), &mut self.meta);
        out.write(&self.meta)?;
        out.pause();
        let is_new = |page: usize| old.is_none() || is_changed(page);
        let raw_pages = (0..count).filter(|page| block.contents()[*page].kind() == RAW);
        for (pages, is_new) in runs(raw_pages, is_new) {
            match &old {
                Some(old) if !is_new => share(out, old, pages)?,
                _ => {
                    let start = bytes.start + pages.start * PAGE_SIZE;
                    out.memory(*ram, start..start + pages.len() * PAGE_SIZE)?;
                }
            }
        }
        Ok(Some(Entry { address: addresses.start, start, raw: raw as u16, words: words as u16 }))
    }
}

/// Shares raw pages, of which the old piece has all, one behind the other.
fn share<S: Sink>(
    out: &mut Output<'_, S>,
    old: &Piece,
    pages: Range<usize>,
) -> Result<(), SaveError<S::Error>> {
    // These pages did not change, so the old block has the first as a raw page.
    let offset = old.block.offset_of(pages.start).unwrap_or_default() / PAGE_SIZE as u64;
    let first = u64::from(old.entry.start) + offset;
    out.share(first..first + pages.len() as u64)
}

/// Returns the runs of ascending pages that follow each other and are all new, or all not, with
/// whether they are.
fn runs(
    pages: impl Iterator<Item = usize>,
    is_new: impl Fn(usize) -> bool,
) -> impl Iterator<Item = (Range<usize>, bool)> {
    let mut pages = pages.peekable();
    core::iter::from_fn(move || {
        let first = pages.next()?;
        let (mut end, new) = (first + 1, is_new(first));
        while pages.next_if(|page| *page == end && is_new(*page) == new).is_some() {
            end += 1;
        }
        Some((first..end, new))
    })
}

/// Returns the pages to look at between two pauses: the first of each run, and how many they are.
fn pieces(count: usize, changed: &PageBits) -> impl Iterator<Item = (usize, usize)> {
    let mut page = 0;
    core::iter::from_fn(move || {
        page += (page..count).take_while(|page| !changed.contains(*page)).count();
        let first = page;
        let end = count.min((first + 1).next_multiple_of(PIECE_PAGES));
        page += (first..end).take_while(|page| changed.contains(*page)).count();
        (first < count).then_some((first, page - first))
    })
}

/// Finds out what the pages of `ram` from `offset` on are: as many as there are `contents`, 64 at
/// most. Calls `pause` then.
// This is not inlined: `cargo xtask bench` finds it in the image by its name.
#[inline(never)]
fn look(
    ram: &dyn ReadRam,
    offset: usize,
    contents: &mut [Content],
    pause: &mut dyn FnMut(),
) -> Result<(), OutOfRange> {
    ram.look(offset, contents)?;
    pause();
    Ok(())
}
