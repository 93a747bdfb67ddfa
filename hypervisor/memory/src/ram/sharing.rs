//! Memory that guests share copy on write: [`GuestRam::share`] makes the memory of a clone, and
//! what either of them writes moves to a frame before.
//!
//! Stage 2 forbids all writes at the instant of a clone. From then on it allows one to a page that
//! is [this memory's own](GuestRam::first_write) alone: because it was moved, or because no other
//! memory uses its block of the base any more. The [`Map`] knows where pages are, and what is asked
//! for each write is known here: which pages are known to be its own, and which have moved.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use stasis_state::change::BLOCK_PAGES;
use stasis_state::written::{BLOCK_SIZE, Written};
use stasis_state::{OutOfRange, PAGE_SIZE, PageBits};

use super::GuestRam;
use crate::frames::{Frames, NoFrame};
use crate::machine::Machine;
use crate::pages::{NoMemory, PageSet};
use crate::raw::Raw;
use crate::raw::map::{Left, Map, Own};

/// What is known of the pages of a memory that has a [`Map`].
#[derive(Debug)]
pub(super) struct Sharing {
    /// Pages that no other memory uses, since this one was shared last.
    own: PageSet,
    /// Pages that have a frame.
    moved: PageSet,
    /// Pages that have moved since stage 2 was told, because the hypervisor has written them.
    unseen: PageSet,
    /// Whether there is such a page, or the hypervisor has found no frame for one.
    is_any_unseen: bool,
    /// Whether the hypervisor has found no frame for a page that it wanted to write.
    lacks_frame: bool,
    /// Frames that pages have left, and that stage 2 may still lead to.
    left: Vec<Left>,
}

/// How many bytes of a memory are whose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes that this memory alone uses.
    pub own: u64,
    /// Bytes that it shares with other memories.
    pub shared: u64,
}

/// Where a guest may write, for all that others share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alone {
    /// The whole block, which is in one place.
    Block,
    /// The page, which is at this physical address.
    Page(u64),
}

impl Sharing {
    fn new(len: usize) -> Result<Self, NoMemory> {
        let none = || PageSet::none(len);
        let (own, moved, unseen) = (none()?, none()?, none()?);
        Ok(Self { own, moved, unseen, is_any_unseen: false, lacks_frame: false, left: Vec::new() })
    }

    /// Notes that the page at `offset` is in a frame that no other memory uses, and that stage 2
    /// leads to nothing there.
    pub(super) fn note_frame(&mut self, offset: usize) {
        self.moved.insert(offset);
        self.own.insert(offset);
    }

    /// Returns whether the hypervisor has found no frame for a page that it wanted to write.
    pub(super) fn lacks_frame(&self) -> bool {
        self.lacks_frame
    }
}

impl From<NoMemory> for NoFrame {
    fn from(_: NoMemory) -> Self {
        Self
    }
}

impl<M: Machine> GuestRam<M> {
    /// Returns `len` bytes of zeros, whole blocks, which take frames as they are written. `zeros`
    /// is the address of a block of zeros.
    ///
    /// # Errors
    ///
    /// [`NoFrame`] if there is no memory for notes.
    ///
    /// # Safety
    ///
    /// The block is normal memory, mapped one to one with exposed provenance, for ever. Nobody has
    /// a reference to it, and nobody ever writes it.
    #[allow(unsafe_code, reason = "whose memory it is, the caller knows")]
    pub unsafe fn of_zeros(
        zeros: u64,
        len: usize,
        frames: &'static dyn Frames,
    ) -> Result<Self, NoFrame> {
        // SAFETY: the caller promises what `of_zeros` asks for of the block.
        let map = unsafe { Map::of_zeros(zeros, len / BLOCK_SIZE, frames)? };
        let (changed, written) = (PageSet::none(len)?, Written::nowhere(len).map_err(|_| NoFrame)?);
        let mut ram = Self::of(Raw::mapped(map, len), false, changed, written);
        ram.sharing = Some(Sharing::new(len)?);
        Ok(ram)
    }

    /// Returns another memory with the same content, for a clone of the guest, with the same marks:
    /// what has changed since the baseline has changed there, too. Both share all of it. Calls
    /// `pause` between pieces.
    ///
    /// # Errors
    ///
    /// [`NoFrame`] if there is no memory for notes. Nothing is shared then that was not before.
    ///
    /// # Panics
    ///
    /// If it is not whole blocks, or a part of it is missing or [stale](Self::has_stale), or a
    /// checkpoint of it is under way.
    ///
    /// # Safety
    ///
    /// Stage 2 lets nobody write [what counts as changed](Self::changed_blocks) any more, and no
    /// core has a copy of an entry that does.
    #[allow(unsafe_code, reason = "what stage 2 has, the caller knows")]
    pub unsafe fn share(
        &mut self,
        frames: &'static dyn Frames,
        pause: &mut dyn FnMut(),
    ) -> Result<Self, NoFrame> {
        assert!(self.missing.is_none() && self.snapshot.is_none() && !self.is_taken);
        // Others use the blocks of the base, too.
        assert!(!self.has_stale());
        self.take_map(frames)?;
        let (Some(sharing), Some(map)) = (&mut self.sharing, self.raw.map()) else {
            return Err(NoFrame);
        };
        let len = self.raw.len();
        let (mut changed, mut of_other) = (PageSet::none(len)?, Sharing::new(len)?);
        let mut written = Written::nowhere(len).map_err(|_| NoFrame)?;
        let other = map.fork(|index| sharing.moved.of_block(index * BLOCK_SIZE), pause)?;
        sharing.own.clear();
        of_other.moved.copy_from(&sharing.moved);
        changed.copy_from(&self.changed);
        written.copy_from(&self.written);
        let mut ram = Self::of(Raw::mapped(other, len), false, changed, written);
        ram.sharing = Some(of_other);
        ram.baseline = self.baseline;
        // The clone sees what the original sees, at the same addresses.
        ram.is_finished = true;
        Ok(ram)
    }

    /// Gives the memory a map, if it has none.
    fn take_map(&mut self, frames: &'static dyn Frames) -> Result<(), NoFrame> {
        if self.sharing.is_some() {
            return Ok(());
        }
        let mut sharing = Sharing::new(self.raw.len())?;
        sharing.own.insert_range(0..self.raw.len());
        let raw = core::mem::replace(&mut self.raw, Arc::new(Raw::none()));
        let mapped = match Arc::try_unwrap(raw) {
            Ok(raw) => raw.into_mapped(frames).map_err(|(_, raw)| Arc::new(raw)),
            Err(raw) => Err(raw),
        };
        match mapped {
            Ok(raw) => {
                self.raw = Arc::new(raw);
                self.sharing = Some(sharing);
                Ok(())
            }
            Err(raw) => {
                self.raw = raw;
                Err(NoFrame)
            }
        }
    }

    /// Returns whether parts of it are, or were, shared with other memories: it is not in one
    /// place.
    pub fn is_mapped(&self) -> bool {
        self.sharing.is_some()
    }

    /// Returns the physical address of the byte at `offset`. The rest of its page follows.
    pub fn address_of(&self, offset: usize) -> u64 {
        self.raw.address_of(offset)
    }

    /// Returns which pages of the block with the byte at `offset` are not where the rest of it is.
    pub fn moved_of_block(&self, offset: usize) -> PageBits {
        self.sharing.as_ref().map_or(PageBits::NONE, |sharing| sharing.moved.of_block(offset))
    }

    /// Returns the physical address of the block with the byte at `offset`, but for pages that have
    /// [moved](Self::moved_of_block); `None` if all have.
    pub fn address_of_block(&self, offset: usize) -> Option<u64> {
        let start = offset - offset % BLOCK_SIZE;
        let moved = self.moved_of_block(offset);
        let page = PageBits(moved.0.map(|word| !word)).pages().next()?;
        let within = page * PAGE_SIZE;
        Some(self.raw.address_of(start + within) - within as u64)
    }

    /// Returns whether the guest may write all of the block with the byte at `offset` without a
    /// fault.
    pub fn is_block_writable(&self, offset: usize) -> bool {
        let is_own = |sharing: &Sharing| {
            sharing.own.contains_block(offset) && sharing.moved.is_block_without(offset)
        };
        self.is_block_changed(offset) && self.sharing.as_ref().is_none_or(is_own)
    }

    /// Returns how much of it is its own, and how much is shared: also what other memories have
    /// ceased to share, until it is written. What takes no memory, as it was never written, is
    /// neither.
    pub fn usage(&self) -> Usage {
        let len = self.raw.len() as u64;
        let (Some(sharing), Some(map)) = (&self.sharing, self.raw.map()) else {
            return Usage { own: len, shared: 0 };
        };
        let of_block = |at: usize| {
            let (moved, own) = (sharing.moved.of_block(at), sharing.own.of_block(at));
            let in_frames = PageBits(core::array::from_fn(|n| moved.0[n] & own.0[n])).count();
            let in_base = if map.has_block_alone(at) { BLOCK_PAGES - moved.count() } else { 0 };
            ((in_frames + in_base) * PAGE_SIZE) as u64
        };
        let own = (0..self.raw.len()).step_by(BLOCK_SIZE).map(of_block).sum();
        Usage { own, shared: if map.is_of_zeros() { 0 } else { len - own } }
    }

    /// Makes the page at `offset` one that no other memory uses. It moves if others do.
    #[inline]
    pub(super) fn make_own(&mut self, offset: usize) -> Result<Alone, NoFrame> {
        match self.sharing {
            None => Ok(Alone::Block),
            Some(_) => self.make_mapped_own(offset),
        }
    }

    /// Makes the page at `offset` of memory that has a map one that no other memory uses.
    fn make_mapped_own(&mut self, offset: usize) -> Result<Alone, NoFrame> {
        let Some(sharing) = &mut self.sharing else { return Ok(Alone::Block) };
        let is_together = sharing.moved.is_block_without(offset);
        if !sharing.own.contains(offset) {
            // Before the page moves, so that the frame that it leaves can be noted.
            sharing.left.try_reserve(1).map_err(|_| NoFrame)?;
            match self.raw.make_own(offset)? {
                Own::Block => {
                    sharing.own.insert_block(offset);
                    return Ok(Alone::Block);
                }
                Own::Page => {}
                Own::Moved(left) => {
                    sharing.moved.insert(offset);
                    sharing.left.extend(left);
                }
            }
            sharing.own.insert(offset);
        } else if is_together && sharing.own.contains_block(offset) {
            return Ok(Alone::Block);
        }
        Ok(Alone::Page(self.raw.address_of(offset - offset % PAGE_SIZE)))
    }

    /// Makes all pages of bytes that the hypervisor will write its own. Those that move are [not
    /// seen](Self::take_unseen) by stage 2 yet.
    pub(super) fn make_all_own(&mut self, bytes: Range<usize>) -> Result<(), OutOfRange> {
        if self.sharing.is_none() {
            return Ok(());
        }
        let Range { start, end } = bytes;
        let outside = OutOfRange { start, end, size: self.raw.len() };
        OutOfRange::check(&bytes, self.raw.len())?;
        for offset in (start - start % PAGE_SIZE..end).step_by(PAGE_SIZE) {
            let before = self.raw.address_of(offset);
            let made = self.make_own(offset);
            if made.is_err()
                && let Some(sharing) = &mut self.sharing
            {
                (sharing.lacks_frame, sharing.is_any_unseen) = (true, true);
            }
            made.map_err(|NoFrame| outside)?;
            // Whatever becomes of the other pages.
            self.mark_changed(offset..offset + 1);
            if let Some(sharing) = &mut self.sharing
                && self.raw.address_of(offset) != before
            {
                sharing.unseen.insert(offset);
                sharing.is_any_unseen = true;
            }
        }
        Ok(())
    }

    /// Notes that stage 2 has the page that has moved last where it is. What the page has left goes
    /// back, if stage 2 has all others where they are.
    ///
    /// # Safety
    ///
    /// Stage 2 leads to that page where it is now, or to nothing, and no core has a copy of an
    /// entry that leads to where it was. Of each other page that has moved, this holds, too, or it
    /// is [unseen](Self::unseen_pages).
    #[allow(unsafe_code, reason = "what stage 2 has, the caller knows")]
    pub unsafe fn seen(&mut self) {
        if let Some(sharing) = &mut self.sharing
            && !sharing.is_any_unseen
        {
            sharing.left.clear();
        }
    }

    /// Notes that stage 2 does not have the page at `offset` where it is, as there is no memory for
    /// that. What it has left is kept.
    pub fn unseen(&mut self, offset: usize) {
        if let Some(sharing) = &mut self.sharing {
            sharing.unseen.insert(offset);
            sharing.is_any_unseen = true;
        }
    }

    /// Notes that the guest waits for the frame that the hypervisor has [not
    /// found](crate::GuestMemory::lacks_frame). Returns false if it lacked none.
    pub fn take_lack(&mut self) -> bool {
        self.sharing.as_mut().is_some_and(|sharing| core::mem::take(&mut sharing.lacks_frame))
    }

    /// Returns whether pages have moved because the hypervisor has written them, and stage 2 has
    /// them elsewhere; or whether there was no frame for one.
    #[inline]
    pub fn has_unseen(&self) -> bool {
        self.sharing.as_ref().is_some_and(|sharing| sharing.is_any_unseen)
    }

    /// Returns the offsets of the pages that have moved because the hypervisor has written them,
    /// and that stage 2 has elsewhere.
    pub fn unseen_pages(&self) -> impl Iterator<Item = usize> {
        let unseen = self.sharing.iter().map(|sharing| &sharing.unseen);
        unseen.flat_map(|set| set.runs(0..set.memory_len())).flat_map(|run| run.step_by(PAGE_SIZE))
    }

    /// Notes that stage 2 has all pages where they are. What they have left goes back.
    ///
    /// # Safety
    ///
    /// Stage 2 leads to each page that has moved where it is now, or to nothing, and no core has a
    /// copy of an entry that leads to where it was.
    #[allow(unsafe_code, reason = "what stage 2 has, the caller knows")]
    pub unsafe fn all_seen(&mut self) {
        if let Some(sharing) = &mut self.sharing {
            sharing.unseen.clear();
            sharing.is_any_unseen = sharing.lacks_frame;
            sharing.left.clear();
        }
    }
}

#[cfg(test)]
#[allow(unsafe_code, reason = "tests own the memory that they hand over")]
mod tests;
