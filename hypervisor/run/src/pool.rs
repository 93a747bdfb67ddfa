//! The RAM that no guest has.

use crate::el2::GuestRam;
use alloc::format;
use alloc::string::String;
use core::ptr::{self, NonNull};
use spin::mutex::SpinMutex;
use stasis_devices::machine::RAM_UNIT;
use stasis_memory::ReadRam;
use stasis_memory::range::{Pool, Range};

/// None before the machine's RAM is known.
static FREE: SpinMutex<Option<Pool>> = SpinMutex::new(None);

/// Hands over the machine's free RAM, once.
///
/// # Safety
///
/// 1. It is normal memory, mapped one to one for reading and writing for as long as the machine is on, in whole pages.
/// 2. Nobody has a reference to it, or uses it without having taken it from here.
pub unsafe fn init(free: Pool) {
    *FREE.lock() = Some(free);
}

/// Returns how much there is, in bytes.
pub fn free_bytes() -> u64 {
    FREE.lock().as_ref().map_or(0, Pool::free_bytes)
}

/// Takes `len` bytes at `lowest` or above, which are zeros then. Calls `pause` between pieces of their clearing.
///
/// # Errors
///
/// What there is instead, in words.
pub fn take(lowest: u64, len: u64, pause: &mut dyn FnMut()) -> Result<GuestRam, String> {
    let range = take_range(lowest, len)?;
    let start = ptr::with_exposed_provenance_mut(range.start as usize);
    let start = NonNull::new(start).ok_or("there is no RAM at address 0")?;
    // SAFETY: 1. `init` was told that it is mapped, and whole pages, as `RAM_UNIT` is. The pool has handed it out to nobody else, and gets it back
    // from its owner alone. 2. By the same, nobody has a reference to it. 3. A guest, and a device of a guest's, access memory by what the
    // architecture calls single-copy atomic accesses.
    Ok(unsafe { GuestRam::new(start, range.len() as usize, pause) })
}

/// Takes a range of `len` bytes at `lowest` or above, or says why it can't.
fn take_range(lowest: u64, len: u64) -> Result<Range, String> {
    let mut pool = FREE.lock();
    let pool = pool.as_mut().ok_or("there is no RAM yet")?;
    pool.allocate(lowest, len, RAM_UNIT).ok_or_else(|| {
        let mib = |bytes: u64| bytes >> 20;
        let usable =
            pool.free().iter().map(|piece| piece.end.saturating_sub(piece.start.max(lowest)));
        let place = if lowest > 0 { format!(" at {lowest:#x} or above") } else { String::new() };
        format!(
            "it needs {} MiB of RAM; {} MiB are free, {} MiB of them in one piece{place}",
            mib(len),
            mib(pool.free_bytes()),
            mib(usable.max().unwrap_or(0))
        )
    })
}

/// Takes memory back from its owner.
pub fn give_back(memory: GuestRam) {
    if let Some(pool) = FREE.lock().as_mut()
        && !memory.is_empty()
    {
        pool.add(memory.range());
    }
}
