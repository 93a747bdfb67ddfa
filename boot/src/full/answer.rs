//! [`Answer`]: the lines that answer a command. They are first written into memory, and then sent
//! in pieces, between which others run.
//!
//! Whoever formats an answer may hold locks, and a UART is slow: so an answer is formatted first
//! and sent later.

use crate::channel::current::Ticket;
use crate::channel::line;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use stasis_console::text::Escape;
use stasis_console::{PIECE, Text};
use stasis_run::turns::Task;

/// The part of an answer that is written and not sent yet.
pub struct Answer {
    bytes: Vec<u8>,
    to: To,
}

/// The one who has asked, and gets the answer.
enum To {
    /// A person at the console.
    Console,
    /// A client of the channel.
    Channel(Ticket),
    /// Nobody: what is written is dropped.
    Nobody,
}

impl Answer {
    /// Returns the answer to a command of the console.
    pub const fn to_console() -> Self {
        Self { bytes: Vec::new(), to: To::Console }
    }

    /// Returns an answer that nobody has asked for: what is written into it is dropped.
    pub const fn to_nobody() -> Self {
        Self { bytes: Vec::new(), to: To::Nobody }
    }

    /// Returns the answer to a request of the channel.
    pub const fn to_channel(ticket: Ticket) -> Self {
        Self { bytes: Vec::new(), to: To::Channel(ticket) }
    }

    /// Sends what was written. That may be much, so the task yields before each piece.
    pub fn send(&mut self, task: &mut Task) {
        match self.to {
            To::Channel(ticket) => ticket.send(task, &self.bytes),
            To::Console | To::Nobody => {
                for piece in self.bytes.chunks(PIECE) {
                    task.yield_now();
                    line::say(piece);
                }
            }
        }
        self.bytes.clear();
    }

    /// Says how much of the work is done that `what` names, such as `stored`: to a person by a
    /// line, at once and without yielding, and only where `is_tenth` says that another tenth is
    /// done; to a client at the next pause.
    pub fn progress(&mut self, what: &'static str, done: u64, total: u64, is_tenth: bool) {
        match self.to {
            To::Channel(ticket) => ticket.progress(what, done, total),
            To::Console if is_tenth => {
                // Writing to a vector does not fail.
                let percent = (done * 10).checked_div(total).unwrap_or(0) * 10;
                let _ = writeln!(self, "... {what}: {percent}%");
                line::say(&self.bytes);
                self.bytes.clear();
            }
            To::Console | To::Nobody => {}
        }
    }
}

impl Write for Answer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        match self.to {
            To::Console => Text(&mut self.bytes).write_str(text),
            To::Channel(_) => {
                Escape { out: &mut Utf8(&mut self.bytes), but: Some('\n') }.write_str(text)
            }
            To::Nobody => Ok(()),
        }
    }
}

/// Bytes as the destination of text.
struct Utf8<'a>(&'a mut Vec<u8>);

impl Write for Utf8<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}
