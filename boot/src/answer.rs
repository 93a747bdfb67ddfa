//! What a command answers: written into memory first, and then sent in pieces, between which others run.
//!
//! Whoever formats an answer may hold locks, and a UART is slow: so formatting and sending are apart.

use crate::output;
use alloc::vec::Vec;
use core::fmt;
use stasis_console::{PIECE, Text};
use stasis_run::turns::Task;

/// An answer as far as it is written and not sent.
pub struct Answer {
    bytes: Vec<u8>,
    /// Somebody has asked.
    is_wanted: bool,
}

impl Answer {
    /// Returns the answer to a command of the console.
    pub const fn to_console() -> Self {
        Self { bytes: Vec::new(), is_wanted: true }
    }

    /// Returns the answer to what nobody has asked for: what is written there is not shown.
    pub const fn to_nobody() -> Self {
        Self { bytes: Vec::new(), is_wanted: false }
    }

    /// Sends what was written. It may be much: others run meanwhile.
    pub fn send(&mut self, task: &mut Task) {
        for piece in self.bytes.chunks(PIECE) {
            task.yield_now();
            output::write_bytes(piece);
        }
        self.bytes.clear();
    }

    /// Sends what was written, which is a line or two, at once.
    pub fn send_lines(&mut self) {
        output::write_bytes(&self.bytes);
        self.bytes.clear();
    }
}

impl fmt::Write for Answer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        match self.is_wanted {
            true => Text(&mut self.bytes).write_str(text),
            false => Ok(()),
        }
    }
}
