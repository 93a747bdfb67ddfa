//! The destination of everything that Stasis says: a [`Terminal`], through [`Text`] if the text may
//! contain words from outside.

use alloc::vec::Vec;
use core::fmt::{self, Write};

use crate::text::Escape;

/// The destination of bytes: the UART.
pub trait Terminal {
    /// Sends all of `bytes`.
    fn send(&mut self, bytes: &[u8]);
}

impl Terminal for Vec<u8> {
    fn send(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Writes lines to a [`Terminal`]: everything that Stasis says goes this way. Each character that
/// would control the terminal is [escaped](Escape), wherever it came from. Only the line feed is
/// not: it becomes a carriage return and a line feed.
#[derive(Debug)]
pub struct Text<'a, T: ?Sized>(pub &'a mut T);

impl<T: Terminal + ?Sized> Write for Text<'_, T> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        Escape { out: &mut Echo(self.0), but: Some('\n') }.write_str(text)
    }
}

/// Writes the line editor's echo to a [`Terminal`], with the characters that control it.
pub(crate) struct Echo<'a, T: ?Sized>(pub(crate) &'a mut T);

impl<T: Terminal + ?Sized> Write for Echo<'_, T> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (index, line) in text.split('\n').enumerate() {
            if index > 0 {
                self.0.send(b"\r\n");
            }
            self.0.send(line.as_bytes());
        }
        Ok(())
    }
}

/// Writes text to a terminal.
pub(crate) fn say(terminal: &mut impl Terminal, what: fmt::Arguments<'_>) {
    // `Text` never fails. If a `Display` fails, it has nothing more to say.
    let _ = Text(terminal).write_fmt(what);
}
