//! [`Answer`]: the lines that answer a command. They are first written into memory, and then sent in pieces, between which others run.
//!
//! Whoever formats an answer may hold locks, and a UART is slow: so an answer is formatted first and sent later.

use crate::output;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use stasis_console::{PIECE, Text};
use stasis_run::turns::Task;

/// The part of an answer that is written and not sent yet.
pub struct Answer {
    bytes: Vec<u8>,
    /// Whether anybody has asked. If not, what is written is dropped.
    is_wanted: bool,
}

impl Answer {
    /// Returns the answer to a command of the console.
    pub const fn to_console() -> Self {
        Self { bytes: Vec::new(), is_wanted: true }
    }

    /// Returns an answer that nobody has asked for: what is written into it is dropped.
    pub const fn to_nobody() -> Self {
        Self { bytes: Vec::new(), is_wanted: false }
    }

    /// Sends what was written. That may be much, so the task yields before each piece.
    pub fn send(&mut self, task: &mut Task) {
        for piece in self.bytes.chunks(PIECE) {
            task.yield_now();
            output::write_bytes(piece);
        }
        self.bytes.clear();
    }

    /// Sends what was written at once, without yielding: it must be only a line or two.
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

/// Turns an error of writing an answer into the text for its last line.
pub fn written(result: fmt::Result) -> Result<(), String> {
    result.map_err(|error| error.to_string())
}
