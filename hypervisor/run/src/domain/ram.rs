//! Memory of the pool, for as long as somebody has it: [`Ram`].

use crate::el2::GuestRam;
use crate::pool;
use core::ops::{Deref, DerefMut};
use stasis_memory::range::NoRam;

/// RAM of a guest, or memory that guests share. It goes back to the pool when it is dropped.
///
/// Whoever mapped the memory for a guest unmaps it before that: no vCPU may reach it afterwards.
#[derive(Debug)]
pub struct Ram(GuestRam);

impl Ram {
    /// Takes `len` bytes at `lowest` or above from the pool. They are zeros, and marked as never written. Calls `pause` between pieces of the
    /// clearing.
    ///
    /// # Errors
    ///
    /// [`NoRam`], with what the pool has instead, if there is no piece that large.
    pub fn take(lowest: u64, len: u64, pause: &mut dyn FnMut()) -> Result<Self, NoRam> {
        Ok(Self(pool::take(lowest, len, pause)?))
    }

    /// Takes `len` bytes at `lowest` or above from the pool, as they are: see [`GuestRam::uncleared`](stasis_memory::GuestRam::uncleared).
    ///
    /// # Errors
    ///
    /// As of [`Self::take`].
    pub fn take_uncleared(lowest: u64, len: u64) -> Result<Self, NoRam> {
        Ok(Self(pool::take_uncleared(lowest, len)?))
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
