//! [`Ring`]: the last bytes that a guest has sent, and which of them were not shown yet; or the
//! last bytes of Stasis's own log.

use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use crate::terminal::Terminal;
use crate::text::Harmless;

/// Bytes that are kept of each guest.
pub const CAPACITY: usize = 16 << 10;

/// The most bytes of a begun line that are shown again behind a line of the log.
const LONGEST_BEGUN: usize = 256;

/// The last [`CAPACITY`] bytes that a guest has sent.
#[derive(Debug)]
pub(super) struct Ring {
    bytes: VecDeque<u8>,
    /// Number of bytes, the last ones, that were not shown.
    unseen: usize,
    /// Number of bytes before them that were lost without having been shown.
    lost: u64,
    /// Number of bytes that were ever sent.
    sent: u64,
}

impl Ring {
    /// Returns a ring without a byte.
    pub(super) const fn new() -> Self {
        Self { bytes: VecDeque::new(), unseen: 0, lost: 0, sent: 0 }
    }

    /// Keeps bytes that were not shown.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.keep(bytes);
        let unseen = self.unseen + bytes.len();
        self.unseen = unseen.min(self.bytes.len());
        self.lost = self.lost.saturating_add((unseen - self.unseen) as u64);
    }

    /// Keeps a byte, which was shown when it came, or not.
    #[inline(always)]
    pub(super) fn push_byte(&mut self, byte: u8, is_shown: bool) {
        if self.bytes.len() == CAPACITY {
            self.bytes.pop_front();
            // Nothing that is kept was shown: so this byte never will be.
            if self.unseen == CAPACITY {
                self.lost = self.lost.saturating_add(1);
                self.unseen -= 1;
            }
        } else if self.bytes.capacity() < CAPACITY {
            self.allocate();
        }
        self.bytes.push_back(byte);
        self.unseen += usize::from(!is_shown);
        self.sent += 1;
    }

    /// Allocates the whole buffer at once, so that a guest's output allocates no more.
    #[inline(never)]
    fn allocate(&mut self) {
        self.bytes.reserve_exact(CAPACITY - self.bytes.len());
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.bytes.capacity() < CAPACITY {
            self.allocate();
        }
        self.sent += bytes.len() as u64;
        let kept = &bytes[bytes.len().saturating_sub(CAPACITY)..];
        let surplus = (self.bytes.len() + kept.len()).saturating_sub(CAPACITY);
        self.bytes.drain(..surplus);
        self.bytes.extend(kept);
    }

    /// Sends the next bytes that were not shown, at most `most`. They count as shown from then on.
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

    /// Returns the bytes behind the last line feed, of those that were shown: at most
    /// [`LONGEST_BEGUN`] bytes.
    pub(super) fn begun(&self) -> Vec<u8> {
        let shown = self.bytes.range(..self.bytes.len() - self.unseen).rev();
        let begun = shown.take_while(|byte| **byte != b'\n').take(LONGEST_BEGUN);
        let mut begun: Vec<u8> = begun.copied().collect();
        begun.reverse();
        begun
    }

    /// Returns whether there are bytes that were not shown.
    pub(super) fn has_unseen(&self) -> bool {
        self.unseen > 0
    }

    /// Marks all bytes as shown. Returns how many were not shown, with those that were lost before.
    pub(super) fn skip(&mut self) -> u64 {
        core::mem::take(&mut self.lost).saturating_add(core::mem::take(&mut self.unseen) as u64)
    }

    /// Returns how many bytes were lost before those that [`Self::show`] sends next.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Forgets all bytes, and gives their memory back. Those that come next have the positions
    /// behind them.
    pub(super) fn forget(&mut self) {
        *self = Self { sent: self.sent, ..Self::new() };
    }

    /// Returns the bytes from `position` on, at most `most`, and moves `position` behind them.
    /// Positions count all bytes that were ever sent; those that are not kept any more are passed
    /// over.
    pub(super) fn read_from(&self, position: &mut u64, most: usize) -> Vec<u8> {
        let oldest = self.sent - self.bytes.len() as u64;
        let at = (*position).clamp(oldest, self.sent);
        let skipped = (at - oldest) as usize;
        let bytes: Vec<u8> = self.bytes.range(skipped..).take(most).copied().collect();
        *position = at + bytes.len() as u64;
        bytes
    }

    /// Returns the last `count` lines as text.
    pub(super) fn last_lines(&self, count: usize) -> Vec<String> {
        let bytes: Vec<u8> = self.bytes.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(count)..];
        last.iter().map(|line| shown(line)).collect()
    }
}

/// Keeps text, as bytes that were shown when they came.
impl fmt::Write for Ring {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.keep(text.as_bytes());
        Ok(())
    }
}

/// Returns a line without anything in it that controls a terminal.
fn shown(line: &str) -> String {
    Harmless(line.trim_end_matches('\r').replace('\t', " ")).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_at_a_position_of_their_own_gets_each_byte_once() {
        let (mut ring, mut position) = (Ring::new(), 0);
        ring.push(b"abc");
        assert_eq!(ring.read_from(&mut position, 2), b"ab");
        b"de".iter().for_each(|byte| ring.push_byte(*byte, true));
        assert_eq!(ring.read_from(&mut position, 9), b"cde");
        assert_eq!(ring.read_from(&mut position, 9), b"");
        ring.push(&[7; CAPACITY + 3]);
        assert_eq!(ring.read_from(&mut position, 2), [7, 7]);
        assert_eq!((position, ring.unseen), (10, CAPACITY), "what is kept no more is passed over");
        // Of another guest, with the number of one that was forgotten.
        position = u64::MAX;
        assert_eq!(ring.read_from(&mut position, 9), b"");
        assert_eq!(position, CAPACITY as u64 + 8);
        ring.forget();
        ring.push(b"new");
        assert_eq!(ring.read_from(&mut position, 9), b"new", "it goes on where it was");
        assert_eq!(ring.read_from(&mut 0, 9), b"new", "who begins to read gets what is kept");
        assert_eq!(ring.unseen, 3);
    }
}
