//! Memory as it was at an instant, while cores write it: which of its pages were copied before they
//! were written.
//!
//! From the instant on, no core may write a page before its content was kept ([`Copies::keep`]).
//! One reader, the task that writes a checkpoint, reads all pages in ascending order, as often as
//! it likes, and [releases](Copies::release) them then: what becomes of a released page is nobody's
//! business any more. The reader does not wait for the writers, nor they for it, unless there is no
//! frame left for a copy.
//!
//! The reader can't know that a page is not written while it reads the page itself. So it looks
//! afterwards whether there is a copy, and if so reads that ([`Copies::unwritten`]). Whoever writes
//! has made the copy known before: between [`Copies::keep`] and the first write is a barrier of the
//! writer's core, for a page table must change in between.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use crate::sync::Lock;

/// Pages of a block. A block without a copy is known by one number.
const BLOCK: usize = 512;
/// Numbers of 16 bits in a word of the notes.
const LANES: usize = 4;
/// Bits of such a number.
const LANE_BITS: usize = 16;

/// Memory for the notes of [`Copies`]: words, which are 0 at first, and which nobody else uses.
pub trait Notes {
    /// Returns the word with this index, below [`Copies::words`].
    fn load(&self, index: usize) -> u64;

    /// Sets the word with this index, below [`Copies::words`].
    fn store(&mut self, index: usize, word: u64);
}

/// The copies of pages, each in a frame with a number. What is where is noted in `N`, which has
/// room for all that can be.
#[derive(Debug)]
pub struct Copies<N> {
    kept: Lock<Kept<N>>,
}

#[derive(Debug)]
struct Kept<N> {
    /// Numbers of 16 bits. First one for each page: the number of its frame and 1, or 0 without a
    /// copy. Then the frames that were given back, the last one last.
    notes: N,
    /// Pages of the memory.
    pages: usize,
    /// For each block, how many of its pages have a copy.
    counts: Vec<u16>,
    /// Number of the first frame that was never used; all above it were not either.
    fresh: usize,
    /// Number of frames.
    frames: usize,
    /// How many frames were given back, and are free.
    returned: usize,
    /// Pages below this one were released.
    released: usize,
    /// Whether somebody was refused a frame since the last release.
    is_wanted: bool,
    /// Whether a page was written that was neither kept nor released.
    is_spoiled: bool,
}

/// What somebody does who wants to write a page that can't be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Waits until something is released.
    Waits,
    /// Writes the page: the memory of the instant is lost.
    Writes,
}

/// No page was kept, for there is no frame. There may be after the next release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoFrame;

impl<N> Copies<N> {
    /// Returns how many words the notes of this many pages and frames take.
    pub const fn words(pages: usize, frames: usize) -> usize {
        (pages + frames).div_ceil(LANES)
    }
}

impl<N: Notes> Copies<N> {
    /// Returns the copies of `pages` pages, of which there are none yet. Frames have numbers below
    /// `frames`. `notes` has as many [words](Self::words) as that takes.
    ///
    /// # Panics
    ///
    /// If there are 65,535 frames or more.
    pub fn new(pages: usize, frames: usize, notes: N) -> Self {
        assert!(frames < usize::from(u16::MAX), "a frame's number has 16 bits");
        let kept = Kept {
            notes,
            pages,
            counts: vec![0; pages.div_ceil(BLOCK)],
            fresh: 0,
            frames,
            returned: 0,
            released: 0,
            is_wanted: false,
            is_spoiled: false,
        };
        Self { kept: Lock::new(kept) }
    }

    /// Makes sure that the content of a page is kept until it is released, whatever is written to
    /// the page then: calls `copy` with a frame to copy the page to, unless that was done before,
    /// or the page is released. The caller lets nobody write the page before this has returned.
    /// Returns how many pages were released: all below the page of that number.
    ///
    /// # Errors
    ///
    /// [`NoFrame`]: if the caller [waits](Refused::Waits), the page must not be written yet, and
    /// the next [`release`](Self::release) says that somebody waits; if the caller
    /// [writes](Refused::Writes), the copies [are spoiled](Self::is_spoiled).
    pub fn keep(
        &self,
        page: usize,
        refused: Refused,
        copy: impl FnOnce(usize),
    ) -> Result<usize, NoFrame> {
        let mut kept = self.kept.lock();
        let released = kept.released;
        if page < released {
            return Ok(released);
        }
        match kept.take_frame(page) {
            Ok(None) => Ok(released),
            Ok(Some(frame)) => {
                copy(frame);
                Ok(released)
            }
            Err(NoFrame) => {
                match refused {
                    Refused::Waits => kept.is_wanted = true,
                    Refused::Writes => kept.is_spoiled = true,
                }
                Err(NoFrame)
            }
        }
    }

    /// Returns whether a page was written that was neither kept nor released. Asked after the last
    /// read, it tells whether all that was read is of the instant.
    pub fn is_spoiled(&self) -> bool {
        // Whoever spoils the copies after this look writes after all that was read: the lock's
        // release comes in between.
        self.kept.lock().is_spoiled
    }

    /// Returns the frame with the copy of a page that was not released, if there is one.
    pub fn frame_of(&self, page: usize) -> Option<usize> {
        self.kept.lock().frame_of(page)
    }

    /// Returns what `read` reads of these pages themselves, as they were at the instant; `None` if
    /// one of them was copied by then: what was read may be newer.
    #[inline]
    pub fn unwritten<T>(&self, pages: Range<usize>, read: impl FnOnce() -> T) -> Option<T> {
        if self.kept.lock().has_any(pages.clone()) {
            return None;
        }
        let value = read();
        // Whoever keeps a page after this look writes it after what was read: the lock's release
        // comes in between.
        (!self.kept.lock().has_any(pages)).then_some(value)
    }

    /// Returns whether all pages below `page` were released.
    pub fn is_released(&self, page: usize) -> bool {
        self.kept.lock().released >= page
    }

    /// Releases all pages below `end`, which the reader has read for the last time, with their
    /// frames. Returns whether somebody waits for that.
    #[must_use = "who was refused a frame waits"]
    pub fn release(&self, end: usize) -> bool {
        let mut kept = self.kept.lock();
        let start = kept.released;
        if end > start {
            kept.free(start..end);
            kept.released = end;
        }
        core::mem::take(&mut kept.is_wanted)
    }
}

/// Returns `pages` by block: the block's number, and those of the pages that are in it.
fn by_block(pages: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
    (pages.start / BLOCK..pages.end.div_ceil(BLOCK)).map(move |block| {
        let first = block * BLOCK;
        (block, pages.start.max(first)..pages.end.min(first + BLOCK))
    })
}

/// Returns the words of the notes in which these numbers are: the index of each, and which of its
/// bits are theirs.
fn words_of(numbers: Range<usize>) -> impl Iterator<Item = (usize, u64)> {
    (numbers.start / LANES..numbers.end.div_ceil(LANES)).map(move |index| {
        let first = index * LANES;
        let start = numbers.start.max(first) - first;
        let end = numbers.end.min(first + LANES) - first;
        (index, u64::MAX << (start * LANE_BITS) & u64::MAX >> ((LANES - end) * LANE_BITS))
    })
}

/// Returns the numbers that a word of the notes has.
fn lanes(word: u64) -> impl Iterator<Item = u16> {
    (0..LANES).map(move |lane| (word >> (lane * LANE_BITS)) as u16)
}

impl<N: Notes> Kept<N> {
    /// Returns the number with this index.
    fn number(&self, index: usize) -> u16 {
        (self.notes.load(index / LANES) >> (index % LANES * LANE_BITS)) as u16
    }

    /// Sets the number with this index.
    fn set_number(&mut self, index: usize, number: u16) {
        let shift = index % LANES * LANE_BITS;
        let others = self.notes.load(index / LANES) & !(u64::from(u16::MAX) << shift);
        self.notes.store(index / LANES, others | u64::from(number) << shift);
    }

    fn frame_of(&self, page: usize) -> Option<usize> {
        if *self.counts.get(page / BLOCK)? == 0 {
            return None;
        }
        usize::from(self.number(page)).checked_sub(1)
    }

    fn has_any(&self, pages: Range<usize>) -> bool {
        by_block(pages).any(|(block, pages)| {
            self.counts.get(block).is_some_and(|count| *count != 0)
                && words_of(pages).any(|(index, mask)| self.notes.load(index) & mask != 0)
        })
    }

    /// Takes a frame for the copy of a page; `None` if the page has one.
    fn take_frame(&mut self, page: usize) -> Result<Option<usize>, NoFrame> {
        let block = page / BLOCK;
        if block >= self.counts.len() {
            return Err(NoFrame);
        }
        // A guest waits for this: its word is loaded once.
        let (index, shift) = (page / LANES, page % LANES * LANE_BITS);
        let word = self.notes.load(index);
        if (word >> shift) as u16 != 0 {
            return Ok(None);
        }
        let frame = match self.returned.checked_sub(1) {
            Some(last) => {
                self.returned = last;
                self.number(self.pages + last)
            }
            None if self.fresh < self.frames => {
                self.fresh += 1;
                (self.fresh - 1) as u16
            }
            None => return Err(NoFrame),
        };
        self.notes.store(index, word | u64::from(frame + 1) << shift);
        self.counts[block] += 1;
        Ok(Some(frame.into()))
    }

    /// Frees the frames of pages.
    fn free(&mut self, pages: Range<usize>) {
        for (block, pages) in by_block(pages) {
            match self.counts.get(block) {
                None => return,
                Some(0) => continue,
                Some(_) => {}
            }
            for (index, mask) in words_of(pages) {
                let word = self.notes.load(index);
                if word & mask == 0 {
                    continue;
                }
                self.notes.store(index, word & !mask);
                for frame in lanes(word & mask).filter_map(|number| number.checked_sub(1)) {
                    // There is room: a frame was given back, or is in use.
                    self.set_number(self.pages + self.returned, frame);
                    self.returned += 1;
                    self.counts[block] -= 1;
                }
            }
        }
    }
}
