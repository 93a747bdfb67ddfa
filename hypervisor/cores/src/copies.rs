//! Memory as it was at an instant, while cores write it: which of its pages were copied before they were written.
//!
//! From the instant on, no core may write a page before its content was kept ([`Copies::keep`]). One reader, the task that writes a checkpoint, reads all
//! pages in ascending order, as often as it likes, and [releases](Copies::release) them then: what becomes of a released page is nobody's business any
//! more. The reader does not wait for the writers, nor they for it, unless there is no frame left for a copy.
//!
//! The reader can't know that a page is not written while it reads the page itself. So it looks afterwards whether there is a copy, and if so reads that
//! ([`Copies::unwritten`]). Whoever writes has made the copy known before: between [`Copies::keep`] and the first write is a barrier of
//! the writer's core, for a page table must change in between.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use crate::sync::Lock;

/// Pages of a block: those that one table of pages maps. Blocks without a copy cost one word each.
const BLOCK: usize = 512;
/// No frame.
const NONE: u16 = u16::MAX;

/// The copies of pages, each in a frame with a number.
#[derive(Debug)]
pub struct Copies {
    kept: Lock<Kept>,
}

#[derive(Debug)]
struct Kept {
    /// Frames without a copy.
    free: Vec<u16>,
    /// For each block, the frame of each of its pages, or [`NONE`]. Empty for a block without a copy.
    frames: Vec<Vec<u16>>,
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

/// No page was kept: there is no frame, or no memory to note it. There may be after the next release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoFrame;

impl Copies {
    /// Returns the copies of `pages` pages, of which there are none yet. Frames have numbers below `frames`.
    ///
    /// # Panics
    ///
    /// If there are 65,535 frames or more.
    pub fn new(pages: usize, frames: usize) -> Self {
        assert!(frames < usize::from(NONE), "a frame's number has 16 bits");
        let kept = Kept {
            free: (0..frames as u16).rev().collect(),
            frames: vec![Vec::new(); pages.div_ceil(BLOCK)],
            released: 0,
            is_wanted: false,
            is_spoiled: false,
        };
        Self { kept: Lock::new(kept) }
    }

    /// Makes sure that the content of a page is kept until it is released, whatever is written to the page then: calls `copy` with a frame to
    /// copy the page to, unless that was done before, or the page is released. The caller lets nobody write the page before this has returned.
    ///
    /// # Errors
    ///
    /// [`NoFrame`]: if the caller [waits](Refused::Waits), the page must not be written yet, and the next [`release`](Self::release) says that somebody
    /// waits; if the caller [writes](Refused::Writes), the copies [are spoiled](Self::is_spoiled).
    pub fn keep(
        &self,
        page: usize,
        refused: Refused,
        copy: impl FnOnce(usize),
    ) -> Result<(), NoFrame> {
        let mut kept = self.kept.lock();
        if page < kept.released || kept.frame_of(page).is_some() {
            return Ok(());
        }
        match kept.take_frame(page) {
            Some(frame) => {
                copy(frame);
                Ok(())
            }
            None => {
                match refused {
                    Refused::Waits => kept.is_wanted = true,
                    Refused::Writes => kept.is_spoiled = true,
                }
                Err(NoFrame)
            }
        }
    }

    /// Notes that somebody waits for the next release for another reason than a frame.
    pub fn wait_for_release(&self) {
        self.kept.lock().is_wanted = true;
    }

    /// Returns whether a page was written that was neither kept nor released. Asked after the last read, it tells whether all that was read is of the
    /// instant.
    pub fn is_spoiled(&self) -> bool {
        // Whoever spoils the copies after this look writes after all that was read: the lock's release comes in between.
        self.kept.lock().is_spoiled
    }

    /// Returns the frame with the copy of a page that was not released, if there is one.
    pub fn frame_of(&self, page: usize) -> Option<usize> {
        self.kept.lock().frame_of(page)
    }

    /// Returns what `read` reads of these pages themselves, as they were at the instant; `None` if one of them was copied by then: what was read may
    /// be newer.
    #[inline]
    pub fn unwritten<T>(&self, pages: Range<usize>, read: impl FnOnce() -> T) -> Option<T> {
        if self.kept.lock().has_any(pages.clone()) {
            return None;
        }
        let value = read();
        // Whoever keeps a page after this look writes it after what was read: the lock's release comes in between.
        (!self.kept.lock().has_any(pages)).then_some(value)
    }

    /// Returns whether all pages below `page` were released.
    pub fn is_released(&self, page: usize) -> bool {
        self.kept.lock().released >= page
    }

    /// Releases all pages below `end`, which the reader has read for the last time, with their frames. Returns whether somebody waits for that.
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

/// Returns the pages of `pages` by block: the block's number, and the numbers of the pages in it.
fn by_block(pages: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
    (pages.start / BLOCK..pages.end.div_ceil(BLOCK)).map(move |block| {
        let first = block * BLOCK;
        (block, pages.start.max(first) - first..pages.end.min(first + BLOCK) - first)
    })
}

impl Kept {
    fn frame_of(&self, page: usize) -> Option<usize> {
        let frame = *self.frames.get(page / BLOCK)?.get(page % BLOCK)?;
        (frame != NONE).then_some(frame.into())
    }

    fn has_any(&self, pages: Range<usize>) -> bool {
        by_block(pages).any(|(block, pages)| {
            let frames = self.frames.get(block).and_then(|frames| frames.get(pages));
            frames.is_some_and(|frames| frames.iter().any(|frame| *frame != NONE))
        })
    }

    /// Takes a frame for the copy of a page; `None` if there is no frame, or no memory to note it.
    fn take_frame(&mut self, page: usize) -> Option<usize> {
        let frames = self.frames.get_mut(page / BLOCK)?;
        if frames.is_empty() {
            frames.try_reserve_exact(BLOCK).ok()?;
        }
        let frame = self.free.pop()?;
        if frames.is_empty() {
            frames.resize(BLOCK, NONE);
        }
        frames[page % BLOCK] = frame;
        Some(frame.into())
    }

    /// Frees the frames of pages.
    fn free(&mut self, pages: Range<usize>) {
        for (block, pages) in by_block(pages) {
            let Some(frames) = self.frames.get_mut(block) else { return };
            let is_last = pages.end == BLOCK;
            let freed = frames.get_mut(pages).into_iter().flatten();
            // There is room: each of them was in the list before.
            self.free.extend(
                freed.map(|frame| core::mem::replace(frame, NONE)).filter(|frame| *frame != NONE),
            );
            if is_last {
                *frames = Vec::new();
            }
        }
    }
}
