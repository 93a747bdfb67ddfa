//! Log lines that come while a command is under way. They wait until its answer is complete, so
//! that the answer stays in one piece.

use alloc::vec::Vec;
use core::fmt::{self, Write};

use crate::terminal::{Terminal, Text, say};

/// Bytes of the lines that can wait.
pub const CAPACITY: usize = 16 << 10;

/// Waiting lines, the oldest first, as the bytes that the terminal gets. Lines that find no room
/// are only counted.
#[derive(Debug)]
pub(super) struct Backlog {
    bytes: Vec<u8>,
    /// Number of bytes, from the first on, that were sent.
    shown: usize,
    /// Number of lines that found no room.
    lost: usize,
}

impl Backlog {
    /// Returns a backlog without a line.
    pub(super) const fn new() -> Self {
        Self { bytes: Vec::new(), shown: 0, lost: 0 }
    }

    /// Adds a line. If it finds no room, it is lost, and so is every further line until all bytes
    /// were sent.
    pub(super) fn push(&mut self, line: fmt::Arguments<'_>) {
        if self.lost == 0 {
            let before = self.bytes.len();
            // Allocate the whole buffer at once, so that a flood of lines allocates no more.
            self.bytes.reserve_exact(CAPACITY.saturating_sub(before));
            // Writing to a vector does not fail.
            let _ = writeln!(Text(&mut self.bytes), "{line}");
            if self.bytes.len() <= CAPACITY {
                return;
            }
            self.bytes.truncate(before);
        }
        self.lost += 1;
    }

    /// Sends the next bytes, at most `most`. Behind the last byte, says how many lines were lost.
    /// Returns whether more bytes wait.
    pub(super) fn show(&mut self, most: usize, terminal: &mut impl Terminal) -> bool {
        let rest = &self.bytes[self.shown..];
        let piece = &rest[..rest.len().min(most)];
        terminal.send(piece);
        self.shown += piece.len();
        if self.shown < self.bytes.len() {
            return true;
        }
        self.bytes.clear();
        self.shown = 0;
        match core::mem::take(&mut self.lost) {
            0 => {}
            lost => say(terminal, format_args!("[{lost} lines more came, and are lost]\n")),
        }
        false
    }
}
