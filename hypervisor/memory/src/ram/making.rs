//! How a [`GuestRam`] is made of memory, in three ways, and gives it back. What is in the memory
//! before decides which: it is cleared at once, as it is touched, or by whoever has the owner.

use alloc::sync::Arc;
use core::ptr::NonNull;
use stasis_state::written::{BLOCK_SIZE, Written};

use super::stale::Stale;
use super::{GuestRam, pieces};
use crate::machine::Machine;
use crate::pages::{NoMemory, PageSet};
use crate::range;
use crate::raw::Raw;

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
    pub(super) fn of(raw: Raw<M>, is_fresh: bool, changed: PageSet, written: Written) -> Self {
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
}
