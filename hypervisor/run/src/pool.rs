//! The pool of RAM that no guest has.

use crate::el2::GuestRam;
use core::mem;
use core::ptr::{self, NonNull};
use spin::mutex::SpinMutex;
use stasis_devices::machine::RAM_UNIT;
use stasis_memory::pages::NoMemory;
use stasis_memory::range::{NoRam, Pool, Range};

/// The pool; `None` before the machine's RAM is known.
static FREE: SpinMutex<Option<Pool>> = SpinMutex::new(None);

/// Puts the machine's free RAM into the pool, once.
///
/// # Safety
///
/// 1. The RAM is normal memory, mapped one to one for reading and writing for as long as the
///    machine is on, in whole pages.
/// 2. Nobody has a reference to the RAM, or uses it without having taken it from here.
pub unsafe fn init(free: Pool) {
    *FREE.lock() = Some(free);
}

/// Returns the bytes that are free.
pub fn free_bytes() -> u64 {
    FREE.lock().as_ref().map_or(0, Pool::free_bytes)
}

/// A range of the pool's RAM, which nobody uses but whoever has this. It goes back when it is
/// dropped.
#[derive(Debug)]
pub(crate) struct Taken(Range);

impl Taken {
    /// Returns a range that was [kept](Self::keep), for it goes back now.
    ///
    /// # Safety
    ///
    /// The range, or all ranges that it is made of, came from [`Self::keep`] and did not come back
    /// since. Nobody uses them any more.
    pub unsafe fn back(range: Range) -> Self {
        Self(range)
    }

    /// Returns the addresses, which do not go back: they are the caller's.
    pub fn keep(self) -> Range {
        let range = self.0;
        mem::forget(self);
        range
    }

    /// Returns the addresses.
    pub fn range(&self) -> Range {
        self.0
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(pool) = FREE.lock().as_mut() {
            pool.add(self.0);
        }
    }
}

/// Takes `len` bytes at `lowest` or above, and makes them zeros. Calls `pause` between pieces of
/// the clearing.
///
/// # Errors
///
/// [`NoRam`] says what there is instead.
pub fn take(lowest: u64, len: u64, pause: &mut dyn FnMut()) -> Result<GuestRam, NoRam> {
    let (taken, start, len) = at(take_range(lowest, len)?)?;
    // SAFETY: 1. `init`'s caller promised that the pool's RAM is mapped as normal memory for ever.
    // Nobody else has this range, which `taken` says, and it is kept for what is made of it. Its
    // length is whole pages, as `RAM_UNIT` is. 2. `init`'s caller promised that nobody has a
    // reference to the RAM or uses it otherwise. 3. A guest, and a device of a guest's, access
    // memory by what the architecture calls single-copy atomic accesses.
    let ram = unsafe { GuestRam::new(start, len, pause) }.map_err(|NoMemory| NoRam::Unnoted)?;
    taken.keep();
    Ok(ram)
}

/// Takes `len` bytes at `lowest` or above, as they are: see [`GuestRam::uncleared`].
///
/// # Errors
///
/// [`NoRam`] says what there is instead.
pub fn take_uncleared(lowest: u64, len: u64) -> Result<GuestRam, NoRam> {
    let (taken, start, len) = at(take_range(lowest, len)?)?;
    // SAFETY: 1. `init`'s caller promised that the pool's RAM is mapped as normal memory for ever.
    // Nobody else has this range, which `taken` says, and it is kept for what is made of it. Its
    // length is whole pages, as `RAM_UNIT` is. 2. `init`'s caller promised that nobody has a
    // reference to the RAM or uses it otherwise. 3. A guest, and a device of a guest's, access
    // memory by what the architecture calls single-copy atomic accesses.
    let ram = unsafe { GuestRam::uncleared(start, len) }.map_err(|NoMemory| NoRam::Unnoted)?;
    taken.keep();
    Ok(ram)
}

/// Takes `len` bytes at `lowest` or above, which are zeros, and are cleared as they are touched:
/// see [`GuestRam::stale`].
///
/// # Errors
///
/// [`NoRam`] says what there is instead.
pub fn take_stale(lowest: u64, len: u64) -> Result<GuestRam, NoRam> {
    let (taken, start, len) = at(take_range(lowest, len)?)?;
    // SAFETY: 1. `init`'s caller promised that the pool's RAM is mapped as normal memory for ever.
    // Nobody else has this range, which `taken` says, and it is kept for what is made of it. Its
    // length is whole pages, as `RAM_UNIT` is. 2. `init`'s caller promised that nobody has a
    // reference to the RAM or uses it otherwise. 3. A guest, and a device of a guest's, access
    // memory by what the architecture calls single-copy atomic accesses.
    let ram = unsafe { GuestRam::stale(start, len) }.map_err(|NoMemory| NoRam::Unnoted)?;
    taken.keep();
    Ok(ram)
}

/// Takes a range of `len` bytes at `lowest` or above; an error says what there is instead.
fn take_range(lowest: u64, len: u64) -> Result<Taken, NoRam> {
    FREE.lock().as_mut().ok_or(NoRam::Unknown)?.take(lowest, len, RAM_UNIT).map(Taken)
}

/// Returns a range with its first byte, and its length. A range at address 0 stays taken: nobody
/// can have it.
fn at(taken: Taken) -> Result<(Taken, NonNull<u8>, usize), NoRam> {
    let range = taken.range();
    match NonNull::new(ptr::with_exposed_provenance_mut(range.start as usize)) {
        Some(start) => Ok((taken, start, range.len() as usize)),
        None => {
            taken.keep();
            Err(NoRam::AtZero)
        }
    }
}

/// Takes a block of 2 MiB, as it is, if at least `kept` bytes are left.
///
/// # Errors
///
/// [`NoRam`] says what there is instead.
pub(crate) fn take_block(kept: u64) -> Result<Taken, NoRam> {
    let mut free = FREE.lock();
    let pool = free.as_mut().ok_or(NoRam::Unknown)?;
    let least = kept + RAM_UNIT;
    if pool.free_bytes() < least {
        // This is refused, with the sizes of what is free.
        return pool.take(0, least, RAM_UNIT).map(Taken);
    }
    pool.take(0, RAM_UNIT, RAM_UNIT).map(Taken)
}

/// Takes a block of 2 MiB for ever, and makes it zeros. Returns its address.
///
/// # Errors
///
/// [`NoRam`] says what there is instead.
pub(crate) fn take_zeros(pause: &mut dyn FnMut()) -> Result<u64, NoRam> {
    let mut block = take(0, RAM_UNIT, pause)?;
    block.finish_writing(pause);
    let start = block.range().start;
    // Nobody gives the block back: what is dropped is its owner alone.
    drop(block);
    Ok(start)
}

/// Puts memory back into the pool. Memory that a snapshot may still read is lost instead.
pub fn give_back(memory: GuestRam) {
    give_back_in_pieces(memory, &mut || ());
}

/// Puts memory back into the pool, as [`give_back`] does. Calls `pause` between pieces, of which
/// memory in one place is one.
pub fn give_back_in_pieces(memory: GuestRam, pause: &mut dyn FnMut()) {
    let range = memory.into_range(pause);
    debug_assert!(range.is_some(), "a snapshot ends before its memory goes");
    if let Some(range) = range.filter(|range| !range.is_empty()) {
        // SAFETY: `take`, `take_stale` and `take_uncleared` alone make a `GuestRam` that is in one
        // place, of a range that they keep. Whoever gave it up has nothing of it any more, by
        // `into_range`.
        drop(unsafe { Taken::back(range) });
    }
}
