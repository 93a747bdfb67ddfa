//! [`Shared`]: what the threads of a machine have in common.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::board::{Board, Moment};
use crate::clock::Clock;
use crate::control::Control;
use crate::memory::Memory;

/// What the threads of a machine have in common.
pub struct Shared {
    /// Stands and ends.
    pub control: Control,
    pub(crate) board: Mutex<Board>,
    pub(crate) clock: Clock,
    pub(crate) memory: Memory,
    pub(crate) ram_base: u64,
}

impl Shared {
    /// Returns the devices. Waits for another vCPU that has them.
    pub fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the present moment, as devices see it.
    pub fn moment(&self) -> Moment {
        Moment {
            guest_time: self.clock.now(),
            wall_time: wall_time(),
            memory: self.memory.clone(),
            ram_base: self.ram_base,
        }
    }
}

/// Returns the seconds since 1970.
pub(crate) fn wall_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
