//! Keeps the last bytes that a guest has sent, and which of them nobody has seen.

use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::terminal::Terminal;
use crate::text::Harmless;

/// Bytes kept of each guest.
pub const CAPACITY: usize = 16 << 10;

/// The most bytes of a begun line that are shown again behind a line of the log.
const LONGEST_BEGUN: usize = 256;

/// The last [`CAPACITY`] bytes.
#[derive(Debug, Default)]
pub(super) struct Ring {
    bytes: VecDeque<u8>,
    /// How many of the last ones have not been shown.
    unseen: usize,
    /// How many before them were lost without having been shown.
    lost: u64,
}

impl Ring {
    /// Keeps what was sent while nobody looked.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.keep(bytes);
        let unseen = self.unseen + bytes.len();
        self.unseen = unseen.min(self.bytes.len());
        self.lost = self.lost.saturating_add((unseen - self.unseen) as u64);
    }

    /// Keeps what was shown as it came.
    pub(super) fn push_seen(&mut self, bytes: &[u8]) {
        self.keep(bytes);
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.bytes.capacity() < CAPACITY {
            // Once and for all, so that a guest's output allocates no more.
            self.bytes.reserve_exact(CAPACITY - self.bytes.len());
        }
        let kept = &bytes[bytes.len().saturating_sub(CAPACITY)..];
        // Mostly it is one byte, which a range and its checks would take longer for.
        for &byte in kept {
            if self.bytes.len() == CAPACITY {
                self.bytes.pop_front();
            }
            self.bytes.push_back(byte);
        }
    }

    /// Sends a piece of what has not been shown, of at most so many bytes. It has been, from then on.
    pub(super) fn show(&mut self, most: usize, terminal: &mut impl Terminal) {
        let seen = self.bytes.len() - self.unseen;
        let (first, second) = self.bytes.as_slices();
        let rest = first.get(seen..).filter(|rest| !rest.is_empty());
        let rest = rest.unwrap_or_else(|| &second[seen - first.len()..]);
        let piece = &rest[..rest.len().min(most)];
        terminal.send(piece);
        self.unseen -= piece.len();
        self.lost = 0;
    }

    /// The bytes behind the last line feed, of those that were shown: at most [`LONGEST_BEGUN`] of them.
    pub(super) fn begun(&self) -> Vec<u8> {
        let shown = self.bytes.range(..self.bytes.len() - self.unseen).rev();
        let begun = shown.take_while(|byte| **byte != b'\n').take(LONGEST_BEGUN);
        let mut begun: Vec<u8> = begun.copied().collect();
        begun.reverse();
        begun
    }

    /// Whether there is anything that has not been shown.
    pub(super) fn has_unseen(&self) -> bool {
        self.unseen > 0
    }

    /// Passes over what was not shown. Returns how many bytes are lost by that, with those that were before.
    pub(super) fn skip(&mut self) -> u64 {
        core::mem::take(&mut self.lost).saturating_add(core::mem::take(&mut self.unseen) as u64)
    }

    /// How many bytes before those of [`Self::show`] were lost.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// The last `count` lines, as text.
    pub(super) fn last_lines(&self, count: usize) -> Vec<String> {
        let bytes: Vec<u8> = self.bytes.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(count)..];
        last.iter().map(|line| shown(line)).collect()
    }
}

/// A line with nothing in it that a terminal would obey.
fn shown(line: &str) -> String {
    Harmless(line.trim_end_matches('\r').replace('\t', " ")).to_string()
}
