//! The pool of RAM that no guest has.

use crate::el2::GuestRam;
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
/// 1. The RAM is normal memory, mapped one to one for reading and writing for as long as the machine is on, in whole pages.
/// 2. Nobody has a reference to the RAM, or uses it without having taken it from here.
pub unsafe fn init(free: Pool) {
    *FREE.lock() = Some(free);
}

/// Returns the bytes that are free.
pub fn free_bytes() -> u64 {
    FREE.lock().as_ref().map_or(0, Pool::free_bytes)
}

/// Takes `len` bytes at `lowest` or above, and makes them zeros. Calls `pause` between pieces of the clearing.
///
/// # Errors
///
/// [`NoRam`] says what there is instead.
pub fn take(lowest: u64, len: u64, pause: &mut dyn FnMut()) -> Result<GuestRam, NoRam> {
    let range = take_range(lowest, len)?;
    let (start, len) = at(range)?;
    // SAFETY: 1. `init`'s caller promised that the pool's RAM is mapped as normal memory for ever. The pool has handed this range out to nobody else,
    // and gets it back from its owner alone. Its length is whole pages, as `RAM_UNIT` is. 2. `init`'s caller promised that nobody has a reference to
    // the RAM or uses it otherwise. 3. A guest, and a device of a guest's, access memory by what the architecture calls single-copy atomic accesses.
    unsafe { GuestRam::new(start, len, pause) }.map_err(|NoMemory| unnoted(range))
}

/// Takes `len` bytes at `lowest` or above, as they are: see [`GuestRam::uncleared`].
///
/// # Errors
///
/// [`NoRam`] says what there is instead.
pub fn take_uncleared(lowest: u64, len: u64) -> Result<GuestRam, NoRam> {
    let range = take_range(lowest, len)?;
    let (start, len) = at(range)?;
    // SAFETY: 1. `init`'s caller promised that the pool's RAM is mapped as normal memory for ever. The pool has handed this range out to nobody else,
    // and gets it back from its owner alone. Its length is whole pages, as `RAM_UNIT` is. 2. `init`'s caller promised that nobody has a reference to
    // the RAM or uses it otherwise. 3. A guest, and a device of a guest's, access memory by what the architecture calls single-copy atomic accesses.
    unsafe { GuestRam::uncleared(start, len) }.map_err(|NoMemory| unnoted(range))
}

/// Takes `len` bytes at `lowest` or above, which are zeros, and are cleared as they are touched: see [`GuestRam::stale`].
///
/// # Errors
///
/// [`NoRam`] says what there is instead.
pub fn take_stale(lowest: u64, len: u64) -> Result<GuestRam, NoRam> {
    let range = take_range(lowest, len)?;
    let (start, len) = at(range)?;
    // SAFETY: 1. `init`'s caller promised that the pool's RAM is mapped as normal memory for ever. The pool has handed this range out to nobody else,
    // and gets it back from its owner alone. Its length is whole pages, as `RAM_UNIT` is. 2. `init`'s caller promised that nobody has a reference to
    // the RAM or uses it otherwise. 3. A guest, and a device of a guest's, access memory by what the architecture calls single-copy atomic accesses.
    unsafe { GuestRam::stale(start, len) }.map_err(|NoMemory| unnoted(range))
}

/// Takes a range of `len` bytes at `lowest` or above; an error says what there is instead.
fn take_range(lowest: u64, len: u64) -> Result<Range, NoRam> {
    FREE.lock().as_mut().ok_or(NoRam::Unknown)?.take(lowest, len, RAM_UNIT)
}

/// Puts a range back, and says that EL2's heap has no room for its marks.
fn unnoted(range: Range) -> NoRam {
    give_back_range(range);
    NoRam::Unnoted
}

/// Returns the first byte of a range, and its length.
fn at(range: Range) -> Result<(NonNull<u8>, usize), NoRam> {
    let start = ptr::with_exposed_provenance_mut(range.start as usize);
    Ok((NonNull::new(start).ok_or(NoRam::AtZero)?, range.len() as usize))
}

/// Takes a block of 2 MiB, as it is, if at least `kept` bytes are left.
///
/// # Errors
///
/// [`NoRam`] says what there is instead.
pub(crate) fn take_block(kept: u64) -> Result<Range, NoRam> {
    let mut free = FREE.lock();
    let pool = free.as_mut().ok_or(NoRam::Unknown)?;
    let least = kept + RAM_UNIT;
    if pool.free_bytes() < least {
        // This is refused, with the sizes of what is free.
        return pool.take(0, least, RAM_UNIT);
    }
    pool.take(0, RAM_UNIT, RAM_UNIT)
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

/// Puts a range back that was taken, and that nobody uses any more.
pub(crate) fn give_back_range(range: Range) {
    if let Some(pool) = FREE.lock().as_mut() {
        pool.add(range);
    }
}

/// Puts memory back into the pool. Memory that a snapshot may still read is lost instead.
pub fn give_back(memory: GuestRam) {
    give_back_in_pieces(memory, &mut || ());
}

/// Puts memory back into the pool, as [`give_back`] does. Calls `pause` between pieces, of which memory in one place is one.
pub fn give_back_in_pieces(memory: GuestRam, pause: &mut dyn FnMut()) {
    let range = memory.into_range(pause);
    debug_assert!(range.is_some(), "a snapshot ends before its memory goes");
    if let Some(range) = range.filter(|range| !range.is_empty()) {
        give_back_range(range);
    }
}
