//! Where all that is said goes: a [`Terminal`], by [`Text`] if it may hold what came from outside.

use alloc::vec::Vec;
use core::fmt::{self, Write};

use crate::text::Escape;

/// Where bytes go: the UART.
pub trait Terminal {
    /// Sends all of `bytes`.
    fn send(&mut self, bytes: &[u8]);
}

impl Terminal for Vec<u8> {
    fn send(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Lines for a [`Terminal`]: the one way for all that Stasis says. What a terminal would obey is [escaped](Escape), whoever
/// it came from, but for the line feed, which becomes a carriage return and a line feed.
#[derive(Debug)]
pub struct Text<'a, T: ?Sized>(pub &'a mut T);

impl<T: Terminal + ?Sized> Write for Text<'_, T> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        Escape { out: &mut Echo(self.0), but: Some('\n') }.write_str(text)
    }
}

/// What the line editor says to a [`Terminal`], which obeys it.
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

/// Says something to a terminal.
pub(crate) fn say(terminal: &mut impl Terminal, what: fmt::Arguments<'_>) {
    // Text never fails; a Display that does has nothing more to say.
    let _ = Text(terminal).write_fmt(what);
}
