//! The RAM that no guest has.

use alloc::format;
use alloc::string::String;
use spin::mutex::SpinMutex;
use stasis_devices::machine::RAM_UNIT;
use stasis_memory::range::{Pool, Range};

/// None before the machine's RAM is known.
static FREE: SpinMutex<Option<Pool>> = SpinMutex::new(None);

/// Hands over the machine's free RAM.
pub fn init(free: Pool) {
    *FREE.lock() = Some(free);
}

/// How much there is, in bytes.
pub fn free_bytes() -> u64 {
    FREE.lock().as_ref().map_or(0, Pool::free_bytes)
}

/// Takes `len` bytes at `lowest` or above, or says why it can't.
pub fn take(lowest: u64, len: u64) -> Result<Range, String> {
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

/// Gives RAM back.
pub fn give_back(ram: Range) {
    if let Some(pool) = FREE.lock().as_mut() {
        pool.add(ram);
    }
}
