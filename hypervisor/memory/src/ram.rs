//! A guest's memory: [`GuestRam`].
//!
//! Whoever has it is the only one of the hypervisor that accesses the memory, whatever the guest's
//! vCPUs do meanwhile. Three things that were the callers' duty are its own: it is zeros when it is
//! made; what it writes it marks as written; and it knows what must be done to the caches.
//!
//! # Caches
//!
//! A guest whose caches are off, or who has mapped its memory as not cacheable, reads and writes
//! past the caches in which EL2 reads and writes (DDI 0487, B2.8). So what EL2 has written leaves
//! the caches before such a guest runs ([`GuestRam::finish_writing`]), and what they have leaves
//! them before EL2 reads what such a guest has written, and after it ([`GuestRam::leave_caches`]).
//! A guest with caches on sees what EL2 writes at once, as every core does.
//!
//! # Snapshots
//!
//! A checkpoint reads a [`Snapshot`] of the memory while the guest goes on. What the owner itself
//! writes meanwhile is copied before, as what the guest writes is. A snapshot takes what has
//! changed since the checkpoint before: `changes` says who marks it, and when the marks go.
//!
//! # Loading
//!
//! A guest that is resumed on demand runs while units of its memory are [`Missing`]. The owner
//! refuses those, as if the memory had no such bytes.
//!
//! # Clearing
//!
//! Memory of a new guest is cleared as it is touched: `stale` says how nobody finds what was there
//! before.
//!
//! # Sharing
//!
//! The memory of a guest that was cloned, and of its clones, is shared until it is written, page by
//! page: `sharing` says how. What the owner writes moves before. If there is no frame for it, the
//! owner refuses the write, as if the memory had no such bytes.

mod changes;
mod loading;
mod sharing;
mod stale;

pub use changes::{Reach, Since, Wait};
pub use sharing::Usage;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::ptr::NonNull;
use stasis_state::block::Content;
use stasis_state::directory::Touched;
use stasis_state::written::{BLOCK_SIZE, Written};
use stasis_state::{Baseline, OutOfRange, PAGE_SIZE, ReadRam, WriteRam};

use crate::access::{AccessError, GuestMemory};
use crate::machine::Machine;
use crate::missing::Missing;
use crate::pages::{NoMemory, PageSet};
use crate::range;
use crate::raw::Raw;
use crate::snapshot::Snapshot;
use sharing::Sharing;
use stale::Stale;

/// Bytes that are cleared, copied or cleaned without a break.
const PIECE: usize = 256 << 10;

/// Returns the pieces of at most [`PIECE`] bytes of which `bytes` consist.
pub(crate) fn pieces(bytes: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = bytes.end;
    bytes.step_by(PIECE).map(move |start| start..end.min(start + PIECE))
}

/// The memory of a guest, or what several guests share, on a machine `M`.
///
/// Long work calls `pause` between two pieces of 256 KiB, so that others can have the core.
#[derive(Debug)]
pub struct GuestRam<M> {
    pub(crate) raw: Arc<Raw<M>>,
    /// Where it may hold anything but zeros.
    written: Written,
    /// Zeros may still be in the caches everywhere, since it was made.
    is_fresh: bool,
    /// Nothing was written since [`GuestRam::finish_writing`].
    is_finished: bool,
    /// What has changed since the baseline, or since the instant of a checkpoint that is under way.
    changed: PageSet,
    /// The checkpoint that has what has not changed.
    baseline: Option<Baseline>,
    /// A snapshot has taken what had changed, for a checkpoint that is not committed yet.
    is_taken: bool,
    /// What is read of it as it was at an instant.
    snapshot: Option<Arc<Snapshot<M>>>,
    /// What is still to be brought.
    missing: Option<Arc<Missing<M>>>,
    /// What the guest has touched first since it was loaded while it ran, by offsets; `None` if it
    /// was not.
    touched: Option<Arc<Vec<Touched>>>,
    /// What of it is shared with other memories; `None` if all is in one place.
    sharing: Option<Sharing>,
    /// What of it is not cleared yet; `None` if all is.
    stale: Option<Stale>,
}

impl<M: Machine> GuestRam<M> {
    /// Returns memory without a byte.
    pub fn none() -> Self {
        Self::of(Raw::none(), false, PageSet::default(), Written::default())
    }

    /// Takes `len` bytes at `start`, and makes them zeros. They are marked as never written.
    ///
    /// # Errors
    ///
    /// [`NoMemory`] if the heap has no room for the marks. The bytes are the caller's then.
    ///
    /// # Safety
    ///
    /// 1. For as long as this lives, they are normal memory, mapped for reading and writing, of one
    ///    owner: this.
    /// 2. Nobody has a Rust reference to any of them then, other than to atomics, or uses the
    ///    pointer in another way.
    /// 3. Others, such as guests, access them only as single accesses do that the architecture
    ///    calls atomic.
    ///
    /// # Panics
    ///
    /// If `start` or `len` is no multiple of a page.
    #[allow(unsafe_code, reason = "whose memory it is, the caller knows")]
    pub unsafe fn new(
        start: NonNull<u8>,
        len: usize,
        pause: &mut dyn FnMut(),
    ) -> Result<Self, NoMemory> {
        let (changed, written) = (PageSet::none(len)?, Written::nowhere(len)?);
        // SAFETY: `Raw::new` asks for the conditions of this function, which our caller keeps: for
        // as long as the result lives, the bytes are 1. mapped as normal memory, and ours alone, 2.
        // without a reference to them, 3. accessed by others atomically.
        let raw = unsafe { Raw::new(start, len) };
        for piece in pieces(0..len) {
            let cleared = raw.zero(piece);
            debug_assert!(cleared.is_ok());
            pause();
        }
        Ok(Self::of(raw, true, changed, written))
    }

    /// Takes `len` bytes at `start`, which are zeros for everybody, and are cleared as they are
    /// touched: a block that is [stale](Self::is_block_stale) must not be mapped for a guest. What
    /// is no whole block is cleared at once. They are marked as never written.
    ///
    /// # Errors
    ///
    /// The errors of [`Self::new`].
    ///
    /// # Safety
    ///
    /// The conditions of [`Self::new`].
    ///
    /// # Panics
    ///
    /// If `start` or `len` is no multiple of a page.
    #[allow(unsafe_code, reason = "whose memory it is, the caller knows")]
    pub unsafe fn stale(start: NonNull<u8>, len: usize) -> Result<Self, NoMemory> {
        let (changed, written) = (PageSet::none(len)?, Written::nowhere(len)?);
        let stale = Stale::all(len / BLOCK_SIZE)?;
        // SAFETY: `Raw::new` asks for the conditions of this function, which our caller keeps: for
        // as long as the result lives, the bytes are 1. mapped as normal memory, and ours alone, 2.
        // without a reference to them, 3. accessed by others atomically.
        let raw = unsafe { Raw::new(start, len) };
        let rest = len - len % BLOCK_SIZE..len;
        let cleared = raw.zero(rest.clone());
        debug_assert!(cleared.is_ok());
        raw.clean_and_invalidate(rest);
        let mut ram = Self::of(raw, false, changed, written);
        ram.stale = Some(stale);
        // The instruction caches may have what was there before.
        ram.is_finished = false;
        Ok(ram)
    }

    /// Takes `len` bytes at `start` as they are. They are marked as written: whoever has this makes
    /// them zeros ([`Self::zero_all`]), or what a checkpoint has ([`Self::begin_loading`]), before
    /// a guest may see them.
    ///
    /// # Errors
    ///
    /// The errors of [`Self::new`].
    ///
    /// # Safety
    ///
    /// The conditions of [`Self::new`].
    ///
    /// # Panics
    ///
    /// If `start` or `len` is no multiple of a page.
    #[allow(unsafe_code, reason = "whose memory it is, the caller knows")]
    pub unsafe fn uncleared(start: NonNull<u8>, len: usize) -> Result<Self, NoMemory> {
        let (changed, mut written) = (PageSet::none(len)?, Written::nowhere(len)?);
        written.mark_all();
        // SAFETY: `Raw::new` asks for the conditions of this function, which our caller keeps: for
        // as long as the result lives, the bytes are 1. mapped as normal memory, and ours alone, 2.
        // without a reference to them, 3. accessed by others atomically.
        let raw = unsafe { Raw::new(start, len) };
        let mut ram = Self::of(raw, true, changed, written);
        ram.forget_baseline();
        Ok(ram)
    }

    /// Returns the owner of memory with these marks. What was not written is zeros, which may still
    /// be in the caches if it is fresh.
    fn of(raw: Raw<M>, is_fresh: bool, changed: PageSet, written: Written) -> Self {
        let is_finished = !is_fresh;
        Self {
            raw: Arc::new(raw),
            written,
            changed,
            baseline: None,
            is_taken: false,
            is_fresh,
            is_finished,
            snapshot: None,
            missing: None,
            touched: None,
            sharing: None,
            stale: None,
        }
    }

    /// Gives the memory up, and returns its addresses; `None` if a snapshot may still read it, or a
    /// loader write it. What is, or was, shared with other memories goes back by itself, in pieces
    /// between which this calls `pause`: there are no addresses then.
    pub fn into_range(self, pause: &mut dyn FnMut()) -> Option<range::Range> {
        let range = self.range();
        let Self { raw, snapshot, missing, .. } = self;
        drop((snapshot, missing));
        Arc::into_inner(raw).map(|mut raw| {
            raw.release(pause);
            range
        })
    }

    /// Returns the snapshot that was begun and did not end yet.
    pub fn snapshot(&self) -> Option<&Snapshot<M>> {
        self.snapshot.as_deref()
    }

    /// Makes a snapshot keep bytes that the hypervisor will write.
    fn keep(&self, bytes: Range<usize>) {
        if let Some(snapshot) = &self.snapshot {
            snapshot.keep_all(bytes);
        }
    }

    /// Returns the addresses that it has; an empty range if it is [not in one
    /// place](Self::is_mapped).
    pub fn range(&self) -> range::Range {
        let len = if self.is_mapped() { 0 } else { self.raw.len() as u64 };
        range::Range::new(self.raw.address() as u64, len)
    }

    /// Marks bytes as written, and changed, by somebody else: by a device, or by whoever else does
    /// not ask its owner. What is not there is left out.
    pub fn mark_written(&mut self, bytes: Range<usize>) {
        self.mark_changed(bytes);
    }

    /// Returns whether the byte at `offset` may be anything but zero. Does not read the byte.
    #[cfg(test)]
    pub fn may_have_content(&self, offset: usize) -> bool {
        self.written.contains(offset)
    }

    /// Returns the offsets of the blocks of [`BLOCK_SIZE`] bytes that may have been written,
    /// ascending.
    pub fn written_blocks(&self) -> impl Iterator<Item = usize> {
        self.written.blocks()
    }

    /// Returns the part that is there of each block that may have been written.
    fn written_ranges(&self) -> impl Iterator<Item = Range<usize>> {
        let len = self.raw.len();
        self.written.blocks().map(move |start| start..len.min(start + BLOCK_SIZE))
    }

    /// Makes all of it zeros, also what is missing. What was written stays marked, for stage 2
    /// allows to write it.
    ///
    /// # Panics
    ///
    /// If it is [not in one place](Self::is_mapped): its guest gets other memory.
    pub fn zero_all(&mut self, pause: &mut dyn FnMut()) {
        assert!(!self.is_mapped(), "others would see the zeros");
        self.abandon_loading();
        self.is_finished = false;
        self.keep(0..self.raw.len());
        self.mark_all_changed();
        let Self { raw, written, .. } = self;
        let len = raw.len();
        for piece in written.blocks().flat_map(|start| pieces(start..len.min(start + BLOCK_SIZE))) {
            let cleared = raw.zero(piece);
            debug_assert!(cleared.is_ok());
            pause();
        }
    }

    /// Makes what was written what a guest sees, with its caches on or off, as data and as
    /// instructions.
    pub fn finish_writing(&mut self, pause: &mut dyn FnMut()) {
        match core::mem::take(&mut self.is_fresh) {
            true => self.clean(0..self.raw.len(), pause),
            false => self.leave_caches(pause),
        }
        M::invalidate_instructions();
        self.is_finished = true;
    }

    /// Returns whether nothing was written since [`finish_writing`](Self::finish_writing): a guest
    /// that starts now sees all of it.
    pub fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// Returns whether all that a write to these bytes needs is to store them: they lie in a page
    /// that is marked as written and changed already, of memory that is all there, and that neither
    /// a snapshot nor another guest shares. A block that was written has nothing stale.
    #[inline]
    fn is_open(&self, offset: usize, len: usize) -> bool {
        let is_plain = self.missing.is_none() && self.snapshot.is_none() && self.sharing.is_none();
        let within = offset % PAGE_SIZE + len;
        is_plain && len != 0 && within <= PAGE_SIZE && self.is_page_marked(offset)
    }

    /// Notes that the hypervisor has written bytes.
    fn note(&mut self, bytes: Range<usize>) {
        self.mark_changed(bytes);
        self.is_finished = false;
    }

    /// Makes nothing of it be in the caches: what is loaded next is what was stored last, with
    /// caches on or off.
    pub fn leave_caches(&self, pause: &mut dyn FnMut()) {
        self.written_ranges().for_each(|block| self.clean(block, pause));
    }

    fn clean(&self, bytes: Range<usize>, pause: &mut dyn FnMut()) {
        for piece in pieces(bytes) {
            self.raw.clean_and_invalidate(piece);
            pause();
        }
    }

    /// Reads what a guest, with its caches on or off, has stored last.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`] if the memory has no such bytes, or they are not there yet.
    pub fn read_past_caches(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfRange> {
        let bytes = offset..offset.saturating_add(into.len());
        self.check_there(bytes.clone())?;
        self.raw.clean_and_invalidate(bytes);
        self.raw.read(offset, into)
    }

    /// Writes bytes so that a guest that stands still sees them when it goes on, with its caches on
    /// or off, as data and as instructions.
    ///
    /// # Errors
    ///
    /// The errors of [`Self::read_past_caches`], or there is no frame for a page that others have,
    /// too.
    pub fn write_past_caches(&mut self, offset: usize, bytes: &[u8]) -> Result<(), OutOfRange> {
        let all = offset..offset.saturating_add(bytes.len());
        self.check_there(all.clone())?;
        // What is in the caches may be older than what a guest has stored past them.
        self.raw.clean_and_invalidate(all.clone());
        let written = self.write(offset, bytes);
        // The caller is told. The guest does not wait for a frame that it does not need.
        self.take_lack();
        written?;
        self.raw.clean_and_invalidate(all);
        M::invalidate_instructions();
        Ok(())
    }

    /// Returns the number of 32 bits that a guest, with its caches on or off, has stored last at
    /// `offset`.
    ///
    /// # Errors
    ///
    /// The errors of [`GuestMemory::load_u32`].
    pub fn load_u32_past_caches(&self, offset: usize) -> Result<u32, AccessError> {
        self.check_there(offset..offset.saturating_add(4))?;
        self.raw.clean_and_invalidate(offset..offset.saturating_add(4));
        self.raw.load_u32(offset)
    }
}

impl<M: Machine> ReadRam for GuestRam<M> {
    fn len(&self) -> usize {
        self.raw.len()
    }

    fn next_content(&self, offset: usize) -> Option<usize> {
        // The last block may reach beyond the memory.
        self.written.next(offset).filter(|next| *next < self.raw.len())
    }

    fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfRange> {
        self.check_there(offset..offset.saturating_add(into.len()))?;
        self.raw.read(offset, into)
    }

    fn crc32c(&self, crc: u32, bytes: Range<usize>) -> Result<u32, OutOfRange> {
        self.check_there(bytes.clone())?;
        self.raw.crc32c(crc, bytes)
    }

    fn pages_with_content(&self, offset: usize, count: usize) -> Result<u64, OutOfRange> {
        self.check_there(offset..offset.saturating_add(count.saturating_mul(PAGE_SIZE)))?;
        self.raw.pages_with_content(offset, count)
    }

    fn word(&self, offset: usize) -> Result<Option<u64>, OutOfRange> {
        let start = offset - offset % PAGE_SIZE;
        self.check_there(start..start.saturating_add(PAGE_SIZE))?;
        self.raw.word(offset)
    }

    fn look(&self, offset: usize, contents: &mut [Content]) -> Result<(), OutOfRange> {
        self.check_there(offset..offset.saturating_add(contents.len() * PAGE_SIZE))?;
        self.raw.look(offset, contents)
    }
}

impl<M: Machine> WriteRam for GuestRam<M> {
    fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), OutOfRange> {
        if self.is_open(offset, bytes.len()) {
            self.is_finished = false;
            return self.raw.write(offset, bytes);
        }
        self.check_there(offset..offset.saturating_add(bytes.len()))?;
        let all = offset..offset.saturating_add(bytes.len());
        self.keep(all.clone());
        self.make_all_own(all)?;
        self.raw.write(offset, bytes)?;
        self.note(offset..offset + bytes.len());
        Ok(())
    }

    fn zero(&mut self, bytes: Range<usize>) -> Result<(), OutOfRange> {
        OutOfRange::check(&bytes, self.raw.len())?;
        self.check_there(bytes.clone())?;
        let mut at = bytes.start;
        while at < bytes.end {
            let end = bytes.end.min((at + 1).next_multiple_of(BLOCK_SIZE));
            if self.written.contains(at) {
                self.keep(at..end);
                self.make_all_own(at..end)?;
                self.raw.zero(at..end)?;
                self.note(at..end);
            }
            at = end;
        }
        Ok(())
    }

    fn fill(&mut self, bytes: Range<usize>, word: u64) -> Result<(), OutOfRange> {
        self.check_there(bytes.clone())?;
        self.keep(bytes.clone());
        self.make_all_own(bytes.clone())?;
        self.raw.fill(bytes.clone(), word)?;
        self.note(bytes);
        Ok(())
    }
}

/// Gives [`GuestRam`] the accesses of one width.
macro_rules! accesses {
    ($($load:ident, $store:ident: $number:ty;)*) => {
        impl<M: Machine> GuestMemory for GuestRam<M> {
            fn lacks_frame(&self) -> bool {
                self.sharing.as_ref().is_some_and(Sharing::lacks_frame)
            }

            $(
            fn $load(&self, offset: usize) -> Result<$number, AccessError> {
                self.check_there(offset..offset.saturating_add(size_of::<$number>()))?;
                self.raw.$load(offset)
            }

            fn $store(&mut self, offset: usize, value: $number) -> Result<(), AccessError> {
                if self.is_open(offset, size_of::<$number>()) {
                    self.is_finished = false;
                    return self.raw.$store(offset, value);
                }
                self.check_there(offset..offset.saturating_add(size_of::<$number>()))?;
                let all = offset..offset.saturating_add(size_of::<$number>());
                self.keep(all.clone());
                self.make_all_own(all)?;
                self.raw.$store(offset, value)?;
                self.note(offset..offset + size_of::<$number>());
                Ok(())
            }
            )*
        }
    };
}

accesses! {
    load_u16, store_u16: u16;
    load_u32, store_u32: u32;
    load_u64, store_u64: u64;
}

#[cfg(test)]
#[allow(unsafe_code, reason = "tests own the memory that they hand over")]
mod tests;
