//! A guest's memory as it was at an instant: [`Snapshot`].
//!
//! A checkpoint begins a snapshot while the guest stands still ([`GuestRam::begin_snapshot`]), and
//! reads it while the guest goes on. Until the reader has released a page, whoever wants to write
//! the page makes the snapshot [keep](Snapshot::keep) it first, in one of a limited number of
//! frames. The reader finds what the page was in either place, and waits for nobody:
//! [`stasis_cores::copies`] says how. A snapshot keeps what had changed since the checkpoint
//! before. All else is there, and must not be read here.
//!
//! # Caches
//!
//! What a guest has stored past the caches is read after [`Snapshot::begin_reading`] only, or by
//! [`Snapshot::keep`], which sees to it itself until the former has ended: from then on the caches
//! have nothing but lines that equal the memory, for nobody writes a page that is not kept. What
//! was read leaves the caches again before the page is released, for the guest may turn its caches
//! off meanwhile, write past them, and turn them on: it must not find a line that is older. A
//! reader who is in the midst of a page that is kept loads lines of it once more, and drops them
//! when it looks again.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::{Acquire, Release};
pub use stasis_cores::copies::NoFrame;
use stasis_cores::copies::{Copies, Notes, Refused};
use stasis_state::block::Content;
use stasis_state::directory::Touched;
use stasis_state::written::{BLOCK_SIZE, Written};
use stasis_state::{Baseline, BlockChange, OutOfRange, PAGE_SIZE, PageBits, ReadRam};

use crate::machine::Machine;
use crate::pages::{NoMemory, PageSet};
use crate::ram::{GuestRam, pieces};
use crate::raw::Raw;

/// What a snapshot needs besides the memory: frames for copies, and memory for notes of what is in
/// them. It is made before the guest stands still, for that takes longer, and may find that there
/// is no memory.
#[derive(Debug)]
pub struct Room<M> {
    /// The frames, and behind them the notes.
    frames: GuestRam<M>,
    copies: Copies<Noted<M>>,
    marks: Marks,
}

/// Marks of a memory, in the heap: a snapshot takes the memory's own, and leaves it these.
#[derive(Debug, Default)]
pub struct Marks {
    /// What changes after the instant: nothing yet.
    pub(crate) changed: PageSet,
    /// What was written until the instant, for the snapshot.
    pub(crate) written: Written,
}

impl Marks {
    /// Returns marks for a memory of `len` bytes.
    ///
    /// # Errors
    ///
    /// [`NoMemory`] if the heap has no room for them.
    pub fn new(len: usize) -> Result<Self, NoMemory> {
        Ok(Self { changed: PageSet::none(len)?, written: Written::nowhere(len)? })
    }
}

/// Most frames that a snapshot can have.
pub const MAX_FRAMES: usize = 1 << 15;

/// Returns the bytes that the notes of this many pages and frames take: whole pages.
const fn notes_len(pages: usize, frames: usize) -> usize {
    (Copies::<()>::words(pages, frames) * size_of::<u64>()).next_multiple_of(PAGE_SIZE)
}

impl<M: Machine> Room<M> {
    /// Returns the bytes of memory that a room with `frames` frames takes, for a snapshot of `len`
    /// bytes.
    pub const fn bytes(len: usize, frames: usize) -> usize {
        frames * PAGE_SIZE + notes_len(len / PAGE_SIZE, frames)
    }

    /// Returns the memory that the room is made of.
    pub fn into_memory(self) -> GuestRam<M> {
        let Self { frames, copies, .. } = self;
        drop(copies);
        frames
    }

    /// Takes the marks for what changes after the instant, of which there are none yet.
    pub(crate) fn take_marks(&mut self) -> Marks {
        core::mem::take(&mut self.marks)
    }

    /// Returns room for a snapshot of the memory that `marks` were made for, with as many frames as
    /// `memory` has room for, whatever it has. Calls `pause` between pieces of what is cleared for
    /// the notes.
    ///
    /// # Panics
    ///
    /// If `memory` is smaller than [`Self::bytes`] are without a frame.
    pub fn new(marks: Marks, memory: GuestRam<M>, pause: &mut dyn FnMut()) -> Self {
        let pages = marks.changed.memory_len() / PAGE_SIZE;
        let most = (memory.len() / PAGE_SIZE).min(MAX_FRAMES);
        let left = memory.len().checked_sub(notes_len(pages, most));
        let count = most.min(left.expect("the notes need room") / PAGE_SIZE);
        let notes = Noted { raw: memory.raw.clone(), start: count * PAGE_SIZE };
        for piece in pieces(notes.start..notes.start + notes_len(pages, count)) {
            let cleared = memory.raw.zero(piece);
            debug_assert!(cleared.is_ok());
            pause();
        }
        let copies = Copies::new(pages, count, notes);
        Self { copies, frames: memory, marks }
    }
}

/// Notes of what was copied where, in the memory of a [`Room`].
#[derive(Debug)]
struct Noted<M> {
    raw: Arc<Raw<M>>,
    /// Offset of the first word.
    start: usize,
}

impl<M: Machine> Notes for Noted<M> {
    #[inline]
    fn load(&self, index: usize) -> u64 {
        let word = self.raw.load_u64(self.start + index * size_of::<u64>());
        debug_assert!(word.is_ok(), "there is room for all notes");
        word.unwrap_or(0)
    }

    #[inline]
    fn store(&mut self, index: usize, word: u64) {
        let stored = self.raw.store_u64(self.start + index * size_of::<u64>(), word);
        debug_assert!(stored.is_ok(), "there is room for all notes");
    }
}

/// A guest's memory as it was at an instant. Memory that was never written until then has no
/// content, whatever is written there later.
#[derive(Debug)]
pub struct Snapshot<M> {
    ram: Arc<Raw<M>>,
    /// What may have had content at the instant.
    written: Written,
    /// What had changed by then since `baseline`. No other page is kept.
    taken: PageSet,
    baseline: Option<Baseline>,
    copies: Copies<Noted<M>>,
    frames: GuestRam<M>,
    /// Whether the caches have nothing of what was taken but lines that equal the memory.
    /// [`Self::begin_reading`] sets it (Release, behind its maintenance), and [`Self::keep`] looks
    /// at it (Acquire, before it reads the page).
    is_clean: AtomicBool,
    /// What the guest had touched first since its last resume.
    touched: Option<Arc<Vec<Touched>>>,
}

/// What reads a part of a page: from a memory, at an offset in it, bytes that the snapshot has at
/// other offsets.
type ReadPart<'r, M> = &'r mut dyn FnMut(&Raw<M>, usize, Range<usize>) -> Result<(), OutOfRange>;

/// Returns the bytes of a page.
fn bytes_of(page: usize) -> Range<usize> {
    page * PAGE_SIZE..(page + 1) * PAGE_SIZE
}

/// Returns the number of the first page behind the block in which `offset` lies.
fn end_of_block(offset: usize) -> usize {
    (offset / BLOCK_SIZE + 1) * (BLOCK_SIZE / PAGE_SIZE)
}

/// Returns the pages in which `bytes` lie.
fn pages_of(bytes: &Range<usize>) -> Range<usize> {
    bytes.start / PAGE_SIZE..bytes.end.div_ceil(PAGE_SIZE)
}

impl<M: Machine> Snapshot<M> {
    /// Returns the snapshot of memory that nobody writes now.
    pub(crate) fn new(
        ram: Arc<Raw<M>>,
        written: Written,
        taken: PageSet,
        baseline: Option<Baseline>,
        room: Room<M>,
    ) -> Self {
        let Room { frames, copies, .. } = room;
        let is_clean = AtomicBool::new(false);
        Self { ram, written, taken, baseline, copies, frames, is_clean, touched: None }
    }

    /// Returns it with what the guest had touched first since its last resume.
    pub(crate) fn with_touched(self, touched: Option<Arc<Vec<Touched>>>) -> Self {
        Self { touched, ..self }
    }

    /// Returns the memory of its [`Room`], and what it has taken, when nobody keeps or reads any
    /// more.
    pub fn into_parts(self) -> (GuestRam<M>, PageSet) {
        let Self { frames, copies, taken, .. } = self;
        (Room { frames, copies, marks: Marks::default() }.into_memory(), taken)
    }

    /// Makes sure that the page at `offset` is found as it was, whatever is written to it once this
    /// has returned. The caller lets nobody write the page before. Returns what
    /// [`Self::is_done_with`] does then.
    ///
    /// # Errors
    ///
    /// [`NoFrame`]: the page must not be written yet. The next [`release`](Self::release) says that
    /// somebody waits.
    pub fn keep(&self, offset: usize) -> Result<bool, NoFrame> {
        self.keep_or(Refused::Waits, offset)
    }

    #[inline]
    fn keep_or(&self, refused: Refused, offset: usize) -> Result<bool, NoFrame> {
        if !self.taken.contains(offset) {
            return Ok(self.is_done_with(offset));
        }
        let page = offset / PAGE_SIZE;
        let at = page * PAGE_SIZE;
        let released = self.copies.keep(page, refused, |frame| {
            if !self.is_clean.load(Acquire) {
                self.ram.clean_and_invalidate(bytes_of(page));
            }
            let copied = self.frames.raw.take_page(frame * PAGE_SIZE, &self.ram, at);
            debug_assert!(copied.is_ok());
        })?;
        Ok(released >= end_of_block(offset))
    }

    /// Keeps all pages of bytes that the hypervisor will write. If one can't be kept, the snapshot
    /// is spoiled.
    pub(crate) fn keep_all(&self, bytes: Range<usize>) {
        let bytes = bytes.start..bytes.end.min(self.ram.len());
        // Once the snapshot is spoiled, the other pages need not be kept.
        let mut pages = pages_of(&bytes).map(|page| page * PAGE_SIZE);
        let _ = pages.try_for_each(|page| self.keep_or(Refused::Writes, page).map(drop));
    }

    /// Returns whether the hypervisor has written a page that could not be kept: what is read is
    /// not the memory of the instant.
    pub fn is_spoiled(&self) -> bool {
        self.copies.is_spoiled()
    }

    /// Returns whether nothing of the block of [`BLOCK_SIZE`] bytes at `offset` need be kept any
    /// more, as all of it was released, or nothing taken.
    pub fn is_done_with(&self, offset: usize) -> bool {
        self.taken.is_block_without(offset) || self.copies.is_released(end_of_block(offset))
    }

    /// Returns the bytes of what was taken that lie in `bytes`, in pieces.
    fn taken_in(&self, bytes: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let runs = self.taken.runs(bytes.start..bytes.end.min(self.ram.len()));
        runs.flat_map(pieces)
    }

    /// Makes the reader find what the guest has stored, even past its caches. Calls `pause` between
    /// pieces.
    pub fn begin_reading(&self, pause: &mut dyn FnMut()) {
        for piece in self.taken_in(0..self.ram.len()) {
            self.ram.clean_and_invalidate(piece);
            pause();
        }
        self.is_clean.store(true, Release);
    }

    /// Releases `bytes` and all before them, which were read for the last time. Returns whether
    /// somebody waits for that. Calls `pause` between pieces.
    #[must_use = "who was refused a frame waits"]
    pub fn release_and_ask(&self, bytes: Range<usize>, pause: &mut dyn FnMut()) -> bool {
        for piece in self.taken_in(bytes.clone()) {
            self.ram.clean_and_invalidate(piece);
            pause();
        }
        self.copies.release(bytes.end / PAGE_SIZE)
    }

    /// Returns what `read` reads of `bytes`, in one memory or the other, page by page: it is given
    /// the memory, the offset in it, and the bytes.
    #[cold]
    #[inline(never)]
    fn by_page(&self, bytes: Range<usize>, read: ReadPart<'_, M>) -> Result<(), OutOfRange> {
        for page in pages_of(&bytes) {
            let part = bytes.start.max(page * PAGE_SIZE)..bytes.end.min((page + 1) * PAGE_SIZE);
            let mut itself = || read(&self.ram, part.start, part.clone());
            if self.copies.unwritten(page..page + 1, &mut itself).transpose()?.is_some() {
                continue;
            }
            self.ram.clean_and_invalidate(bytes_of(page));
            match self.copies.frame_of(page) {
                Some(frame) => {
                    let at = frame * PAGE_SIZE + part.start % PAGE_SIZE;
                    read(&self.frames.raw, at, part)?;
                }
                // The page was released: nobody asks what it was.
                None => itself()?,
            }
        }
        Ok(())
    }
}

impl<M: Machine> ReadRam for Snapshot<M> {
    fn len(&self) -> usize {
        self.ram.len()
    }

    fn next_content(&self, offset: usize) -> Option<usize> {
        // The last block may reach beyond the memory.
        self.written.next(offset).filter(|next| *next < self.ram.len())
    }

    fn baseline(&self) -> Option<Baseline> {
        self.baseline
    }

    fn block_change(&self, offset: usize) -> BlockChange {
        match self.taken.of_block(offset) {
            PageBits::NONE if !self.written.contains(offset) => BlockChange::Empty,
            PageBits::NONE => BlockChange::Unchanged,
            pages => BlockChange::Pages(pages),
        }
    }

    fn touched(&self) -> &[Touched] {
        self.touched.as_ref().map_or(&[], |touched| touched.as_slice())
    }

    fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfRange> {
        OutOfRange::check_len(offset, into.len(), self.ram.len())?;
        let bytes = offset..offset + into.len();
        let whole = self.copies.unwritten(pages_of(&bytes), || self.ram.read(offset, into));
        whole.unwrap_or_else(|| {
            self.by_page(bytes, &mut |ram, at, part| {
                ram.read(at, &mut into[part.start - offset..part.end - offset])
            })
        })
    }

    fn crc32c(&self, crc: u32, bytes: Range<usize>) -> Result<u32, OutOfRange> {
        OutOfRange::check(&bytes, self.ram.len())?;
        let itself = || self.ram.crc32c(crc, bytes.clone());
        self.copies.unwritten(pages_of(&bytes), itself).unwrap_or_else(|| {
            let mut all = crc;
            let mut before = (usize::MAX, crc);
            self.by_page(bytes, &mut |ram, at, part| {
                // A page that was written meanwhile is read twice.
                if before.0 != part.start {
                    before = (part.start, all);
                }
                all = ram.crc32c(before.1, at..at + part.len())?;
                Ok(())
            })?;
            Ok(all)
        })
    }

    fn pages_with_content(&self, offset: usize, count: usize) -> Result<u64, OutOfRange> {
        let first = offset / PAGE_SIZE;
        let count = count.min(u64::BITS as usize);
        OutOfRange::check_len(first * PAGE_SIZE, count * PAGE_SIZE, self.ram.len())?;
        let itself = || self.ram.pages_with_content(offset, count);
        self.copies.unwritten(first..first + count, itself).unwrap_or_else(|| {
            let mut map = 0;
            let pages = first * PAGE_SIZE..(first + count) * PAGE_SIZE;
            self.by_page(pages, &mut |ram, at, part| {
                let bit = part.start / PAGE_SIZE - first;
                map = map & !(1 << bit) | ram.pages_with_content(at, 1)? << bit;
                Ok(())
            })?;
            Ok(map)
        })
    }

    fn word(&self, offset: usize) -> Result<Option<u64>, OutOfRange> {
        let start = offset - offset % PAGE_SIZE;
        OutOfRange::check_len(start, PAGE_SIZE, self.ram.len())?;
        let itself = || self.ram.word(start);
        let page = start / PAGE_SIZE;
        self.copies.unwritten(page..page + 1, itself).unwrap_or_else(|| {
            let mut word = None;
            self.by_page(start..start + PAGE_SIZE, &mut |ram, at, _| {
                word = ram.word(at)?;
                Ok(())
            })?;
            Ok(word)
        })
    }

    fn look(&self, offset: usize, contents: &mut [Content]) -> Result<(), OutOfRange> {
        let (first, count) = (offset / PAGE_SIZE, contents.len());
        let pages = first * PAGE_SIZE..(first + count) * PAGE_SIZE;
        OutOfRange::check(&pages, self.ram.len())?;
        // One look at what was copied before and one behind are for all pages, and not two for
        // each.
        let whole = self.copies.unwritten(first..first + count, || self.ram.look(offset, contents));
        whole.unwrap_or_else(|| {
            self.by_page(pages, &mut |ram, at, part| {
                let page = part.start / PAGE_SIZE - first;
                ram.look(at, &mut contents[page..=page])
            })
        })
    }

    fn release(&self, bytes: Range<usize>, pause: &mut dyn FnMut()) {
        let _ = self.release_and_ask(bytes, pause);
    }
}

#[cfg(test)]
#[allow(unsafe_code, reason = "tests own the memory that they hand over")]
mod tests;
