//! Keeps the last bytes that a guest has sent while nobody looked.

use alloc::collections::VecDeque;

use super::Terminal;

/// Bytes kept of each guest.
pub(super) const CAPACITY: usize = 16 << 10;

/// The last [`CAPACITY`] bytes, and how many were lost before them.
#[derive(Debug, Default)]
pub(super) struct Ring {
    bytes: VecDeque<u8>,
    lost: u64,
}

impl Ring {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.bytes.capacity() < CAPACITY {
            // Once and for all, so that a guest's output allocates no more.
            self.bytes.reserve_exact(CAPACITY - self.bytes.len());
        }
        let kept = &bytes[bytes.len().saturating_sub(CAPACITY)..];
        let surplus = (self.bytes.len() + kept.len()).saturating_sub(CAPACITY);
        self.bytes.drain(..surplus);
        self.bytes.extend(kept);
        self.lost = self.lost.saturating_add((bytes.len() - kept.len() + surplus) as u64);
    }

    /// Sends what is kept, and forgets it. Returns how many bytes before it were lost.
    pub(super) fn drain(&mut self, terminal: &mut impl Terminal) {
        let (first, second) = self.bytes.as_slices();
        terminal.send(first);
        terminal.send(second);
        self.bytes.clear();
        self.lost = 0;
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost
    }
}
