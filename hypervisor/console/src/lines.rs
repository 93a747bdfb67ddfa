//! What guests print, line by line, each with its guest's name, for a machine without a console: [`Lines`].

use alloc::string::String;
use alloc::vec::Vec;

use crate::terminal::{Terminal, say};
use crate::text::Harmless;

/// Bytes of a line that are shown at once. A longer line goes on in a second one.
const LONGEST: usize = 256;

/// The lines that guests have begun, by the guests' numbers.
#[derive(Debug, Default)]
pub struct Lines {
    begun: Vec<Vec<u8>>,
}

impl Lines {
    /// Returns no lines.
    pub const fn new() -> Self {
        Self { begun: Vec::new() }
    }

    /// Takes a byte that the guest with this number and name has sent. Shows its line at a line feed, or when it is 256 bytes long. Carriage returns are left out.
    pub fn output(&mut self, number: usize, name: &str, byte: u8, terminal: &mut impl Terminal) {
        if self.begun.len() <= number {
            self.begun.resize_with(number + 1, Vec::new);
        }
        let line = &mut self.begun[number];
        match byte {
            b'\r' => return,
            b'\n' => {}
            _ => line.push(byte),
        }
        if byte == b'\n' || line.len() == LONGEST {
            let text = String::from_utf8_lossy(line);
            say(terminal, format_args!("{}| {}\n", Harmless(name), Harmless(text)));
            line.clear();
        }
    }

    /// Forgets what the guest with this number has begun.
    pub fn forget(&mut self, number: usize) {
        if let Some(line) = self.begun.get_mut(number) {
            line.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what is shown when guest 0, `a`, and guest 2, `b`, send these bytes in turns.
    fn shown(bytes: &[(usize, &[u8])]) -> String {
        let (mut lines, mut terminal) = (Lines::new(), Vec::new());
        for (number, bytes) in bytes {
            let name = if *number == 0 { "a" } else { "b" };
            bytes.iter().for_each(|byte| lines.output(*number, name, *byte, &mut terminal));
        }
        String::from_utf8(terminal).unwrap()
    }

    #[test]
    fn lines_of_several_guests_are_not_mixed() {
        let said = shown(&[(0, b"on"), (2, b"two\r\n"), (0, b"e\n"), (2, b"begun")]);
        assert_eq!(said, "b| two\r\na| one\r\n");
    }

    #[test]
    fn what_a_terminal_obeys_is_escaped() {
        assert_eq!(shown(&[(0, b"\x1b[2J\xff\n")]), "a| \\u{1b}[2J\u{fffd}\r\n");
    }

    #[test]
    fn a_long_line_goes_on_in_the_next() {
        let said = shown(&[(0, &[b'x'; LONGEST + 1]), (0, b"\n")]);
        let whole = "x".repeat(LONGEST);
        assert_eq!(said, std::format!("a| {whole}\r\na| x\r\n"));
    }

    #[test]
    fn a_guest_that_was_removed_has_begun_nothing() {
        let (mut lines, mut terminal) = (Lines::new(), Vec::new());
        lines.output(1, "old", b'x', &mut terminal);
        lines.forget(1);
        lines.forget(7);
        lines.output(1, "new", b'\n', &mut terminal);
        assert_eq!(terminal, b"new| \r\n");
    }
}
