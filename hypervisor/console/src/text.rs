//! Text for people: words that came from outside, and sizes.
//!
//! [`Harmless`] and [`is_harmless`] keep out of all lines what would control a terminal. [`quoted`]
//! puts a word into quotes and cuts it short. [`Size`] is how the machine and the host's tool write
//! a number of bytes, and [`parse_size`] how they read one; [`parse_time`] reads a time.

use alloc::string::String;
use core::fmt::{self, Write};

/// Returns whether a terminal only shows the character. That is false for a control character, for
/// one that changes the direction in which others are shown (Unicode Standard Annex 9), and for one
/// that nobody sees.
pub fn is_harmless(character: char) -> bool {
    let obeyed = matches!(
        character,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    );
    !character.is_control() && !obeyed
}

/// Text that is written with an escape in the place of each character that is not
/// [harmless](is_harmless), so that it is always one line.
#[derive(Clone, Copy, Debug)]
pub struct Harmless<T>(pub T);

impl<T: fmt::Display> fmt::Display for Harmless<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escape { out, but: None }, "{}", self.0)
    }
}

/// Writes to `out`, with an escape in the place of each character that is not harmless, except for
/// `but`.
pub struct Escape<'a, W: ?Sized> {
    /// The destination.
    pub out: &'a mut W,
    /// The character that is written as it is.
    pub but: Option<char>,
}

impl<W: Write + ?Sized> Write for Escape<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.split_inclusive(|c| !is_harmless(c)) {
            let last =
                piece.chars().next_back().filter(|c| !is_harmless(*c) && self.but != Some(*c));
            let Some(last) = last else {
                self.out.write_str(piece)?;
                continue;
            };
            self.out.write_str(&piece[..piece.len() - last.len_utf8()])?;
            write!(self.out, "{}", last.escape_default())?;
        }
        Ok(())
    }
}

/// Number of characters of a word that are shown; longer words are cut.
const SHOWN: usize = 40;

/// Returns `word` in quotes, as it stands in an error line.
pub fn quoted(word: &str) -> String {
    let mut shown = String::from("\"");
    shown.extend(word.chars().take(SHOWN).flat_map(char::escape_debug));
    if word.chars().nth(SHOWN).is_some() {
        shown.push_str("...");
    }
    shown.push('"');
    shown
}

/// A number of bytes, written for people as in `1.5 KiB`. The one decimal is rounded down, so that
/// free memory is never less than is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
        let bytes = self.0;
        // The exponent of 1024 that leaves a number below 1024, unless there is no greater unit.
        let power = (bytes.max(1).ilog2() / 10).min(UNITS.len() as u32);
        let Some(name) = power.checked_sub(1).and_then(|n| UNITS.get(n as usize)) else {
            return write!(out, "{bytes} bytes");
        };
        // EL2 does not use floating point, so this is done with integers.
        let unit = 1 << (10 * power);
        write!(out, "{}.{} {name}", bytes / unit, bytes % unit * 10 / unit)
    }
}

/// Returns the bytes of a size as people write it: `512M`, `1G`, `4096`.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim();
    let is = |names: &[&str]| names.iter().any(|name| unit.eq_ignore_ascii_case(name));
    const UNITS: [&[&str]; 5] =
        [&["", "B"], &["K", "KiB"], &["M", "MiB"], &["G", "GiB"], &["T", "TiB"]];
    let shift = 10 * UNITS.iter().position(|names| is(names))?;
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Returns the microseconds of a time as people write it: `10ms`, `500us`, `2 s`.
pub fn parse_time(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let us = match unit.trim() {
        "us" => 1,
        "ms" => 1000,
        "s" => 1_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(us)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn what_a_terminal_obeys_is_escaped_and_the_rest_is_as_it_was() {
        let text = "g\u{e4}st \"1\"\nok\r\u{1b}[2J\u{9b}1m\u{202e}x\u{7f}\t";
        assert_eq!(
            Harmless(text).to_string(),
            "g\u{e4}st \"1\"\\nok\\r\\u{1b}[2J\\u{9b}1m\\u{202e}x\\u{7f}\\t"
        );
        assert_eq!(Harmless(format_args!("{}", 7)).to_string(), "7");
        let mut lines = String::new();
        write!(Escape { out: &mut lines, but: Some('\n') }, "one\ntwo\r\x07").unwrap();
        assert_eq!(lines, "one\ntwo\\r\\u{7}");
    }

    #[test]
    fn sizes_are_rounded_down_in_the_largest_unit_that_they_fill() {
        for (bytes, said) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            ((1 << 20) - 1, "1023.9 KiB"),
            (1 << 20, "1.0 MiB"),
            (20_987_456, "20.0 MiB"),
            ((511 << 20) - 1, "510.9 MiB"),
            (1 << 30, "1.0 GiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), said);
        }
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!(parse_size("256M"), Some(256 << 20));
        assert_eq!(parse_size("1 GiB"), Some(1 << 30));
        assert_eq!(parse_size("4096"), Some(4096));
        assert_eq!(parse_size("64k"), Some(64 << 10));
        assert_eq!(parse_size("12 parsecs"), None);
        assert_eq!(parse_size("M"), None);
        assert_eq!(parse_size("99999999999999G"), None);
    }

    #[test]
    fn times_are_read_with_their_unit() {
        assert_eq!(parse_time("10ms"), Some(10_000));
        assert_eq!(parse_time("0us"), Some(0));
        assert_eq!(parse_time("2s"), Some(2_000_000));
        assert_eq!(parse_time("2 s"), Some(2_000_000));
        for wrong in ["10", "ms", "", "-1ms", "1.5ms", "99999999999999999s"] {
            assert_eq!(parse_time(wrong), None, "{wrong}");
        }
    }
}
