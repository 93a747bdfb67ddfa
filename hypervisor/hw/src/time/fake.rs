//! A clock for tests: it goes on by a tick with each look.

use super::Wait;
use core::cell::Cell;

/// The clock.
#[derive(Clone)]
pub(crate) struct Ticks {
    /// What it reads next.
    pub(crate) now: Cell<u64>,
    frequency: u64,
    /// Number of times that others could run.
    pub(crate) pauses: usize,
}

impl Ticks {
    /// Returns a clock that begins at 0 and has so many ticks in a second.
    pub(crate) fn per_second(frequency: u64) -> Self {
        Self { now: Cell::new(0), frequency, pauses: 0 }
    }
}

impl Wait for Ticks {
    fn now(&self) -> u64 {
        self.now.replace(self.now.get() + 1)
    }

    fn frequency(&self) -> u64 {
        self.frequency
    }

    fn pause(&mut self) {
        self.pauses += 1;
    }
}
