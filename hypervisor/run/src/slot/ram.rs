//! A guest's RAM, as EL2 sees it.

use crate::{pool, turns};
use alloc::string::String;
use stasis_arch::cache;
use stasis_memory::range::Range;
use stasis_state::Written;
use stasis_state::written::BLOCK_SIZE;

/// A range of guest RAM as bytes. The range is borrowed for as long, so there is one such slice.
pub fn ram_of(ram: &mut Range) -> &mut [u8] {
    // SAFETY: 1. The range is the guest's alone, RAM, mapped one to one; the borrow is exclusive.
    // 2. The guest, the only other one that accesses it, is not loaded: its cores would hold locks that
    // the caller has.
    unsafe { core::slice::from_raw_parts_mut(ram.start as *mut u8, ram.len() as usize) }
}

/// A guest's RAM.
pub struct Ram {
    pub(super) range: Range,
    /// Where it may hold anything but zeros: where stage 2 allows writes.
    pub(super) written: Written,
}

impl Ram {
    /// All of it, and where it may hold anything but zeros.
    pub fn contents(&mut self) -> (&mut [u8], &mut Written) {
        (ram_of(&mut self.range), &mut self.written)
    }

    /// Makes all of it zeros.
    pub fn clear(&mut self) {
        let (ram, written) = self.contents();
        for offset in written.blocks() {
            clear(&mut ram[offset..][..BLOCK_SIZE]);
        }
    }

    /// Makes what was written to it what the guest sees, with its caches on or off.
    pub(super) fn finish_writing(&self) {
        self.leave_caches();
        cache::invalidate_instructions();
    }

    /// Has nothing of it be in the caches: see [`leave_caches`].
    pub(super) fn leave_caches(&self) {
        for offset in self.written.blocks() {
            leave_caches(Range::new(self.range.start + offset as u64, BLOCK_SIZE as u64));
        }
    }
}

/// RAM of a guest that does not exist yet. It goes back to the pool if none comes to be.
pub struct FreshRam(Ram);

impl FreshRam {
    /// Takes `len` bytes at `lowest` or above from the pool, and clears them.
    pub fn take(lowest: u64, len: u64) -> Result<Self, String> {
        let range = pool::take(lowest, len)?;
        let mut fresh = Self(Ram { range, written: Written::nowhere(len as usize) });
        clear(fresh.bytes());
        Ok(fresh)
    }

    /// All of it.
    pub fn bytes(&mut self) -> &mut [u8] {
        self.contents().0
    }

    /// All of it, and where it may hold anything but zeros: to be kept up by whoever writes a guest's.
    pub fn contents(&mut self) -> (&mut [u8], &mut Written) {
        self.0.contents()
    }

    /// What it will be.
    pub(super) fn ram(&self) -> &Ram {
        &self.0
    }

    /// Where it is.
    pub fn range(&self) -> Range {
        self.0.range
    }

    /// It is guests' from now on: what was written to it is what a guest sees, with its caches on or off.
    pub fn keep_clean(self) -> Range {
        finish_writing(self.0.range);
        self.keep().range
    }

    /// It is some guest's from now on.
    pub(super) fn keep(mut self) -> Ram {
        let Ram { range, written } = &mut self.0;
        let ram = Ram { range: *range, written: core::mem::take(written) };
        core::mem::forget(self);
        ram
    }
}

impl Drop for FreshRam {
    fn drop(&mut self) {
        pool::give_back(self.0.range);
    }
}

/// RAM is cleared and cleaned in pieces of this many bytes, between which others run.
const PIECE: usize = 256 << 10;

/// Makes all of it zeros.
pub fn clear(ram: &mut [u8]) {
    for piece in ram.chunks_mut(PIECE) {
        piece.fill(0);
        turns::breathe();
    }
}

/// Copies memory to other memory of the same size.
pub fn copy(from: &[u8], to: &mut [u8]) {
    for (from, to) in from.chunks(PIECE).zip(to.chunks_mut(PIECE)) {
        to[..from.len()].copy_from_slice(from);
        turns::breathe();
    }
}

/// Makes what was written to RAM what the guest sees, with its caches on or off.
pub fn finish_writing(ram: Range) {
    leave_caches(ram);
    cache::invalidate_instructions();
}

/// Has nothing of RAM be in the caches: what is loaded next is what was stored last, with caches on or off. A guest whose caches are off
/// stores past what EL2 has loaded into them, and so do both sides of a guest's memory that is not cacheable.
pub fn leave_caches(ram: Range) {
    let (start, len) = (ram.start as usize, ram.len() as usize);
    for offset in (0..len).step_by(PIECE) {
        cache::clean_and_invalidate_to_poc(start + offset, PIECE.min(len - offset));
        turns::breathe();
    }
}
