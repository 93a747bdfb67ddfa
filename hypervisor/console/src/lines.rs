//! What guests print, for a machine without a console: [`Lines`] keeps it, and hands it out line by
//! line, each with its guest's name; a [`Line`] is sent in pieces.
//!
//! A guest's exit adds a byte to [`Lines`], which takes no longer when the UART is slow. Whoever
//! has time for that sends the lines.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};

use crate::terminal::{Terminal, say};
use crate::text::{Harmless, is_harmless};

/// The most bytes that are shown of a line, with its escapes. A longer line goes on in a second
/// one.
const LONGEST: usize = 256;
/// The most bytes that are looked at for a line. So many are more than [`LONGEST`] when they are
/// shown, whatever they are, even without the character that the last of them may begin.
const WINDOW: usize = LONGEST + 3;
/// Bytes that are kept of each guest until they are shown.
pub const KEPT: usize = 8 << 10;

/// A line that is being shown.
#[derive(Debug, Default)]
pub struct Line {
    bytes: Vec<u8>,
    /// Number of bytes, from the first on, that were sent.
    sent: usize,
}

impl Line {
    /// Returns a line of which nothing is left to send.
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), sent: 0 }
    }

    /// Returns whether all of it was sent.
    pub fn is_sent(&self) -> bool {
        self.sent == self.bytes.len()
    }

    /// Sends the next bytes, at most `most`. Returns whether there are more.
    pub fn send(&mut self, most: usize, terminal: &mut impl Terminal) -> bool {
        let rest = &self.bytes[self.sent..];
        let piece = &rest[..rest.len().min(most)];
        terminal.send(piece);
        self.sent += piece.len();
        !self.is_sent()
    }
}

/// What guests have printed and was not shown yet, by the guests' numbers.
#[derive(Debug, Default)]
pub struct Lines {
    guests: Vec<Printed>,
    /// The guest whose line was handed out last.
    last: usize,
    /// Whether it was said that lines wait, and not all of them were handed out since.
    is_said: bool,
}

impl Lines {
    /// Returns no lines.
    pub const fn new() -> Self {
        Self { guests: Vec::new(), last: 0, is_said: false }
    }

    /// Keeps a byte that the guest with this number and name has sent; the oldest is lost if there
    /// are too many. Carriage returns are left out. Returns whether [`Self::next`] must be called
    /// soon, until it returns `false`.
    pub fn output(&mut self, number: usize, name: &str, byte: u8) -> bool {
        if byte == b'\r' {
            return false;
        }
        if self.guests.len() <= number {
            self.guests.resize_with(number + 1, Printed::default);
        }
        let guest = &mut self.guests[number];
        guest.push(name, byte);
        let is_line = byte == b'\n' || guest.bytes.len() >= WINDOW;
        is_line && !core::mem::replace(&mut self.is_said, true)
    }

    /// Puts the next whole line into `line`, of one guest after the other. What `line` had is gone.
    /// Returns `false` if there is none.
    pub fn next(&mut self, line: &mut Line) -> bool {
        let count = self.guests.len();
        let mut others = (1..=count).map(|n| (self.last + n) % count);
        let next = others.find(|number| self.guests[*number].has_line());
        self.is_said = next.is_some();
        let Some(number) = next else { return false };
        self.last = number;
        self.guests[number].put(line);
        true
    }

    /// Puts the next line of the guest with this number into `line`, be it whole or only begun: for
    /// a guest that has stopped. What `line` had is gone. Returns `false` if there is none.
    pub fn next_of(&mut self, number: usize, line: &mut Line) -> bool {
        let guest = self.guests.get_mut(number).filter(|guest| !guest.bytes.is_empty());
        guest.map(|guest| guest.put(line)).is_some()
    }

    /// Shows all that was not shown, and allocates nothing: for a machine that is about to end.
    pub fn show_all(&mut self, terminal: &mut impl Terminal) {
        for guest in &mut self.guests {
            while !guest.bytes.is_empty() {
                guest.show_line(terminal);
            }
        }
    }

    /// Forgets what the guest with this number has printed.
    pub fn forget(&mut self, number: usize) {
        if let Some(guest) = self.guests.get_mut(number) {
            *guest = Printed::default();
        }
    }
}

/// What one guest has printed and was not shown yet.
#[derive(Debug, Default)]
struct Printed {
    name: String,
    /// At most [`KEPT`] bytes.
    bytes: VecDeque<u8>,
    /// Number of bytes before them that were lost.
    lost: u64,
    /// Whether the last one that was lost was in the midst of a line.
    is_cut: bool,
}

impl Printed {
    fn push(&mut self, name: &str, byte: u8) {
        if self.bytes.capacity() == 0 {
            // Allocate the whole buffer at once, so that a guest's output allocates no more.
            self.bytes.reserve_exact(KEPT);
            self.name = name.into();
        }
        if self.bytes.len() == KEPT {
            self.lose();
        }
        self.bytes.push_back(byte);
    }

    fn lose(&mut self) {
        if let Some(byte) = self.bytes.pop_front() {
            self.is_cut = byte != b'\n';
            self.lost += 1;
        }
    }

    /// Returns whether there is a line that can be shown, whatever comes next.
    fn has_line(&self) -> bool {
        self.bytes.len() >= WINDOW || self.bytes.contains(&b'\n')
    }

    /// Puts the next line into `line`.
    fn put(&mut self, line: &mut Line) {
        line.bytes.clear();
        line.sent = 0;
        self.show_line(&mut line.bytes);
    }

    /// Shows the next line, or how much was lost before it.
    fn show_line(&mut self, terminal: &mut impl Terminal) {
        if self.lost > 0 {
            // The rest of a line that was cut would be taken for a whole one.
            if self.bytes.contains(&b'\n') {
                while self.is_cut {
                    self.lose();
                }
            }
            self.is_cut = false;
            let lost = core::mem::take(&mut self.lost);
            return say(
                terminal,
                format_args!("{}| [{lost} bytes are lost]\n", Harmless(&self.name)),
            );
        }
        let (mut window, mut len) = ([0; WINDOW], 0);
        for byte in self.bytes.iter().take(WINDOW).take_while(|byte| **byte != b'\n') {
            window[len] = *byte;
            len += 1;
        }
        let fitting = fitting(&window[..len]);
        say(terminal, format_args!("{}| {}\n", Harmless(&self.name), Shown(&window[..fitting])));
        let ends = fitting == len && self.bytes.get(len) == Some(&b'\n');
        self.bytes.drain(..fitting + usize::from(ends));
    }
}

/// Returns how many of the bytes, from the first on, are at most [`LONGEST`] bytes when they are
/// [`Shown`], with the escapes. No character is cut.
fn fitting(bytes: &[u8]) -> usize {
    let (mut fitting, mut shown) = (0, 0);
    for chunk in bytes.utf8_chunks() {
        let valid = chunk.valid().chars().map(|c| (c.len_utf8(), shown_len(c)));
        let invalid = (chunk.invalid().len(), char::REPLACEMENT_CHARACTER.len_utf8());
        for (len, shown_len) in valid.chain((invalid.0 > 0).then_some(invalid)) {
            shown += shown_len;
            if shown > LONGEST {
                return fitting;
            }
            fitting += len;
        }
    }
    fitting
}

/// Returns how many bytes a character is when it is [`Harmless`].
fn shown_len(character: char) -> usize {
    if is_harmless(character) { character.len_utf8() } else { character.escape_default().len() }
}

/// Bytes of a guest, written as text. What is no UTF-8 becomes U+FFFD. What a terminal obeys is
/// escaped by [`say`].
struct Shown<'a>(&'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            out.write_str(chunk.valid())?;
            if !chunk.invalid().is_empty() {
                out.write_char(char::REPLACEMENT_CHARACTER)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
