//! [`Pages`]: the look at the pages of a block, and their way into the file.

use alloc::vec::Vec;
use core::ops::Range;

use super::output::Output;
use crate::{
    block::{Block, Content},
    error::SaveError,
    ram::{OutOfRange, ReadRam},
    routines::{PAGE_SIZE, PIECE},
    writer::Sink,
};

/// Pages that are looked at between two pauses.
const PIECE_PAGES: usize = PIECE / PAGE_SIZE;

/// What the writer needs for one block after the other.
#[derive(Default)]
pub(super) struct Pages {
    /// The metadata of a piece.
    meta: Vec<u8>,
}

impl Pages {
    /// Writes the piece of the block at these addresses, which is `bytes` of `ram`; nothing, if all of it is zero. Returns the number of raw pages and
    /// that of word pages.
    pub(super) fn write<S: Sink>(
        &mut self,
        out: &mut Output<'_, S>,
        ram: &dyn ReadRam,
        bytes: Range<usize>,
        addresses: Range<u64>,
    ) -> Result<(u64, u64), SaveError<S::Error>> {
        let mut block = Block::zero(addresses);
        for (n, piece) in block.contents_mut().chunks_mut(PIECE_PAGES).enumerate() {
            let at = bytes.start + n * PIECE;
            look(ram, at, piece, &mut || out.pause()).map_err(SaveError::Ram)?;
        }
        let (raw, words) = block.counts();
        if raw + words > 0 {
            block.encode(out.crc32c(), &mut self.meta);
            out.write(&self.meta)?;
            out.pause();
            for (first, count, content) in block.runs() {
                if matches!(content, Content::Raw(_)) {
                    let start = bytes.start + first * PAGE_SIZE;
                    out.memory(ram, start..start + count * PAGE_SIZE)?;
                }
            }
        }
        Ok((raw as u64, words as u64))
    }
}

/// Finds out what the pages of `ram` from `offset` on are: as many as there are `contents`, 64 at most. Calls `pause` after each look at them.
fn look(
    ram: &dyn ReadRam,
    offset: usize,
    contents: &mut [Content],
    pause: &mut dyn FnMut(),
) -> Result<(), OutOfRange> {
    let mut with_content = ram.pages_with_content(offset, contents.len())?;
    pause();
    if with_content == 0 {
        return Ok(());
    }
    while with_content != 0 {
        let page = with_content.trailing_zeros() as usize;
        with_content &= with_content - 1;
        let at = offset + page * PAGE_SIZE;
        contents[page] = match word(ram, at)? {
            Some(word) => Content::Word(word),
            None => Content::Raw(ram.crc32c(0, at..at + PAGE_SIZE)?),
        };
    }
    pause();
    Ok(())
}

/// Returns the word that the page at `offset` is over and over; `None` if it is anything else. Mostly the first words tell.
fn word(ram: &dyn ReadRam, offset: usize) -> Result<Option<u64>, OutOfRange> {
    let mut first = [[0; 8]; 2];
    ram.read(offset, first.as_flattened_mut())?;
    let [word, other] = first.map(u64::from_le_bytes);
    if word != other {
        return Ok(None);
    }
    let mut words = [first[0]; 32];
    for at in (offset..offset + PAGE_SIZE).step_by(size_of_val(&words)) {
        ram.read(at, words.as_flattened_mut())?;
        if words.iter().any(|other| *other != first[0]) {
            return Ok(None);
        }
    }
    Ok(Some(word))
}
