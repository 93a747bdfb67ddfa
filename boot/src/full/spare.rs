//! Memory of the pool that nobody would miss for a while: for what is read or sent beside the
//! guests.

use crate::registry;
use stasis_run::domain::Ram;
use stasis_run::tables;

/// Bytes in whose multiples memory is given.
const BLOCK: u64 = 2 << 20;

/// Returns whether nobody would miss `len` bytes of the pool for a while: a guest stands still if
/// it writes to memory that it shares, and none is free.
pub fn is_unwanted(len: u64) -> bool {
    tables::has_beside_kept(len) && !registry::all().iter().any(|domain| domain.shares_ram())
}

/// Returns memory with room for `len` bytes; `None` if there is none that nobody would miss.
pub fn take(len: u64) -> Option<Ram> {
    let len = len.checked_next_multiple_of(BLOCK).filter(|len| *len > 0)?;
    is_unwanted(len).then(|| Ram::take_uncleared(0, len).ok()).flatten()
}
