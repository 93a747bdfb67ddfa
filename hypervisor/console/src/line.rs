//! The line editor: bytes from a terminal become lines, with an echo.
//!
//! The editor knows backspace, Ctrl-U (start again), Ctrl-C (give up), and a history behind the
//! arrows up and down. A line that was not received whole and clean is refused, never carried out
//! in part.

use alloc::collections::VecDeque;
use alloc::string::String;
use core::fmt::Write;
use core::mem;

/// Characters of the longest line.
pub const MAX_LINE: usize = 256;
/// Number of lines that the history keeps.
const HISTORY: usize = 16;

const CTRL_C: u8 = 0x03;
const BACKSPACE: u8 = 0x08;
const CTRL_U: u8 = 0x15;
const ESCAPE: u8 = 0x1b;
const DELETE: u8 = 0x7f;
/// The bytes that remove the last character from the screen.
const RUB_OUT: &str = "\x08 \x08";
const BELL: &str = "\x07";

/// Why a line was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// The line has more than [`MAX_LINE`] characters.
    #[error("the line is longer than {MAX_LINE} characters")]
    TooLong,
    /// The line has this byte, which is not ASCII.
    #[error("the line has a character that is not ASCII (byte {0:#04x})")]
    NotAscii(u8),
}

/// The position of the input within a key's escape sequence (ECMA-48 5.4; the arrows: XTerm's
/// "Cursor Keys").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sequence {
    None,
    /// The last byte was ESC.
    Introduced,
    /// The input is behind ESC [.
    Control,
    /// The last bytes were ESC O.
    SingleShift,
}

/// The editor of one line after the other, with a history.
#[derive(Debug)]
pub struct Editor {
    line: String,
    fault: Option<LineError>,
    /// Whether the last byte was a CR that ended a line. An LF right behind it belongs to that CR.
    after_return: bool,
    sequence: Sequence,
    history: VecDeque<String>,
    /// Index of the line of the history that is shown; the length of the history if the new line is
    /// shown.
    shown: usize,
    /// The new line, while a line of the history is shown.
    draft: String,
}

impl Default for Editor {
    fn default() -> Self {
        Self::new()
    }
}

impl Editor {
    /// Returns an editor with an empty line and no history.
    pub const fn new() -> Self {
        Self {
            line: String::new(),
            fault: None,
            after_return: false,
            sequence: Sequence::None,
            history: VecDeque::new(),
            shown: 0,
            draft: String::new(),
        }
    }

    /// Takes text as if it were typed.
    pub fn append(&mut self, text: &str, echo: &mut impl Write) {
        text.bytes().for_each(|byte| self.insert(byte, echo));
    }

    /// Returns whether nothing is wrong with the line so far.
    pub fn is_sound(&self) -> bool {
        self.fault.is_none()
    }

    /// Returns the line as far as it was typed.
    pub fn typed(&self) -> &str {
        &self.line
    }

    /// Takes a byte and echoes it. Returns the line that the byte completes: an empty one if the
    /// line was given up.
    ///
    /// # Errors
    ///
    /// Why the line that the byte completes is refused.
    pub fn input(&mut self, byte: u8, echo: &mut impl Write) -> Option<Result<String, LineError>> {
        let after_return = mem::replace(&mut self.after_return, byte == b'\r');
        let sequence = mem::replace(&mut self.sequence, Sequence::None);
        match byte {
            b'\n' if after_return => None,
            b'\r' | b'\n' => Some(self.complete(echo)),
            BACKSPACE | DELETE => {
                if self.line.pop().is_some() {
                    print(echo, RUB_OUT);
                }
                None
            }
            CTRL_U => {
                self.replace(String::new(), echo);
                self.fault = None;
                None
            }
            CTRL_C => {
                self.line.clear();
                self.fault = None;
                print(echo, "^C");
                Some(self.complete(echo))
            }
            ESCAPE => {
                self.sequence = Sequence::Introduced;
                None
            }
            // No other control character has a meaning; they are ignored.
            0..b' ' => None,
            _ if sequence != Sequence::None => {
                self.continue_sequence(sequence, byte, echo);
                None
            }
            b' '..DELETE => {
                self.insert(byte, echo);
                None
            }
            0x80.. => {
                self.refuse(LineError::NotAscii(byte), echo);
                None
            }
        }
    }

    fn insert(&mut self, byte: u8, echo: &mut impl Write) {
        if self.line.len() >= MAX_LINE {
            self.refuse(LineError::TooLong, echo);
        } else if self.fault.is_none() {
            self.line.push(byte.into());
            let _ = echo.write_char(byte.into());
        }
    }

    /// Notes that the line must be refused when it ends. Ctrl-U and Ctrl-C start a new one.
    fn refuse(&mut self, fault: LineError, echo: &mut impl Write) {
        self.fault.get_or_insert(fault);
        print(echo, BELL);
    }

    fn complete(&mut self, echo: &mut impl Write) -> Result<String, LineError> {
        print(echo, "\n");
        let line = mem::replace(&mut self.line, String::with_capacity(MAX_LINE));
        let fault = self.fault.take();
        if fault.is_none() && !line.trim().is_empty() && self.history.back() != Some(&line) {
            if self.history.len() == HISTORY {
                self.history.pop_front();
            }
            self.history.push_back(line.clone());
        }
        self.draft.clear();
        self.shown = self.history.len();
        fault.map_or(Ok(line), Err)
    }

    fn continue_sequence(&mut self, sequence: Sequence, byte: u8, echo: &mut impl Write) {
        match (sequence, byte) {
            (Sequence::Introduced, b'[') => self.sequence = Sequence::Control,
            (Sequence::Introduced, b'O') => self.sequence = Sequence::SingleShift,
            (Sequence::Introduced, _) => {}
            (_, b'A') => self.recall(self.shown.checked_sub(1), echo),
            (_, b'B') => self.recall(self.shown.checked_add(1), echo),
            // Parameter bytes and intermediate bytes belong to the sequence; any other byte ends
            // it.
            (Sequence::Control, b' '..=b'?') => self.sequence = Sequence::Control,
            _ => {}
        }
    }

    fn recall(&mut self, wanted: Option<usize>, echo: &mut impl Write) {
        let Some(wanted) = wanted.filter(|&wanted| wanted <= self.history.len()) else {
            return;
        };
        let line = match self.history.get(wanted) {
            Some(line) => line.clone(),
            None => mem::take(&mut self.draft),
        };
        let left = self.replace(line, echo);
        if self.shown == self.history.len() {
            self.draft = left;
        }
        self.shown = wanted;
    }

    fn replace(&mut self, line: String, echo: &mut impl Write) -> String {
        for _ in 0..self.line.len() {
            print(echo, RUB_OUT);
        }
        print(echo, &line);
        mem::replace(&mut self.line, line)
    }
}

/// Echoes text. Nobody could be told that an echo fails, so errors are ignored.
fn print(echo: &mut impl Write, text: &str) {
    let _ = echo.write_str(text);
}
