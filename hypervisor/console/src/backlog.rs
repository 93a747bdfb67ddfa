//! Lines that come while a command is under way. They wait until its answer is complete: an answer is one piece.

use alloc::vec::Vec;
use core::fmt::{self, Write};

use crate::terminal::{Terminal, Text, say};

/// The most bytes that wait.
pub const CAPACITY: usize = 16 << 10;

/// Waiting lines, the oldest first, as the terminal gets them. Of those that find no room, their number is kept.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    bytes: Vec<u8>,
    /// How many of the bytes were shown.
    shown: usize,
    /// Lines that found no room.
    lost: usize,
}

impl Backlog {
    /// Keeps a line. The first one that finds no room is lost, and so are all behind it until everything was shown.
    pub(super) fn push(&mut self, line: fmt::Arguments<'_>) {
        if self.lost == 0 {
            let before = self.bytes.len();
            // Once and for all, so that a flood of lines allocates no more.
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

    /// Sends the next bytes, at most `most`, and behind the last ones how many lines were lost. Returns whether more wait.
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
