//! Memory of the pool, for as long as somebody has it: [`Ram`].

use crate::el2::GuestRam;
use crate::pool;
use crate::tables::PoolFrames;
use core::ops::{Deref, DerefMut};
use spin::mutex::SpinMutex;
use stasis_memory::frames::NoFrame;
use stasis_memory::range::NoRam;

/// The address of the block of zeros that memory which was never written is; `None` before somebody
/// has such memory. It stays for ever.
static ZEROS: SpinMutex<Option<u64>> = SpinMutex::new(None);

/// RAM of a guest, or memory that guests share. It goes back to the pool when it is dropped.
///
/// Whoever mapped the memory for a guest unmaps it before that: no vCPU may reach it afterwards.
#[derive(Debug)]
pub struct Ram(GuestRam);

impl Ram {
    /// Takes `len` bytes at `lowest` or above from the pool. They are zeros, and marked as never
    /// written. Calls `pause` between pieces of the clearing.
    ///
    /// # Errors
    ///
    /// [`NoRam`], with what the pool has instead, if there is no piece that large.
    pub fn take(lowest: u64, len: u64, pause: &mut dyn FnMut()) -> Result<Self, NoRam> {
        Ok(Self(pool::take(lowest, len, pause)?))
    }

    /// Takes `len` bytes at `lowest` or above from the pool, which are zeros, and are cleared as
    /// they are touched: see [`GuestRam::stale`](stasis_memory::GuestRam::stale).
    ///
    /// # Errors
    ///
    /// The errors of [`Self::take`].
    pub fn take_stale(lowest: u64, len: u64) -> Result<Self, NoRam> {
        Ok(Self(pool::take_stale(lowest, len)?))
    }

    /// Takes `len` bytes at `lowest` or above from the pool, as they are: see
    /// [`GuestRam::uncleared`](stasis_memory::GuestRam::uncleared).
    ///
    /// # Errors
    ///
    /// The errors of [`Self::take`].
    pub fn take_uncleared(lowest: u64, len: u64) -> Result<Self, NoRam> {
        Ok(Self(pool::take_uncleared(lowest, len)?))
    }

    /// Returns memory for a clone, with the same content: both share it until one of them writes.
    /// Nothing of the memory is missing, and no checkpoint of it is under way. Calls `pause`
    /// between pieces.
    ///
    /// # Errors
    ///
    /// [`NoRam`] if there is no memory for notes.
    ///
    /// # Safety
    ///
    /// Stage 2 lets nobody write what counts as changed any more, and no core has a copy of an
    /// entry that does.
    pub(super) unsafe fn share(&mut self, pause: &mut dyn FnMut()) -> Result<Self, NoRam> {
        // SAFETY: the caller promises what `share` asks for.
        let shared = unsafe { self.0.share(&PoolFrames, pause) };
        shared.map(Self).map_err(|NoFrame| NoRam::Unnoted)
    }

    /// Returns `len` bytes of zeros, which take frames of the pool as they are written.
    ///
    /// # Errors
    ///
    /// [`NoRam`] if there is no memory for notes.
    pub fn overcommitted(len: u64, pause: &mut dyn FnMut()) -> Result<Self, NoRam> {
        let zeros = ZEROS.lock().take();
        let zeros = match zeros {
            Some(zeros) => zeros,
            None => pool::take_zeros(pause)?,
        };
        *ZEROS.lock() = Some(zeros);
        // SAFETY: `take_zeros` returned a block of the pool, which is mapped one to one for ever,
        // and which it made zeros. It was noted for `ZEROS` alone, so nobody writes it.
        let ram = unsafe { GuestRam::of_zeros(zeros, len as usize, &PoolFrames) };
        ram.map(Self).map_err(|NoFrame| NoRam::Unnoted)
    }

    /// Gives the memory back to the pool, in pieces. Calls `pause` between them.
    pub fn give_back(mut self, pause: &mut dyn FnMut()) {
        pool::give_back_in_pieces(core::mem::replace(&mut self.0, GuestRam::none()), pause);
    }

    /// Returns memory without a byte, for the place of memory that was taken.
    pub fn none() -> Self {
        Self(GuestRam::none())
    }
}

impl Deref for Ram {
    type Target = GuestRam;

    fn deref(&self) -> &GuestRam {
        &self.0
    }
}

impl DerefMut for Ram {
    fn deref_mut(&mut self) -> &mut GuestRam {
        &mut self.0
    }
}

impl Drop for Ram {
    fn drop(&mut self) {
        pool::give_back(core::mem::replace(&mut self.0, GuestRam::none()));
    }
}
