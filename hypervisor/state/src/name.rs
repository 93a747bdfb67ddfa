//! The rule for names of guests, and of memory regions that guests share. Files, configurations and
//! commands all use this rule.
//!
//! A name is typed at the console, printed in lines that programs read, and stored in [`NAME_LEN`]
//! bytes. So it has no character that controls a terminal or ends a line, and it is no number, no
//! list and no word of the console's.

use core::fmt;

use thiserror::Error;

/// Bytes of a name in a record. A shorter name is padded with 0.
pub const NAME_LEN: usize = 32;

/// The word for all guests at the console, and so the name of none.
const ALL: &str = "all";

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadName {
    /// The text is empty.
    #[error("the name is empty")]
    Empty,
    /// The text has more bytes than a record has room for.
    #[error("the name has {len} bytes, {NAME_LEN} at most are possible")]
    TooLong {
        /// Bytes of the text.
        len: usize,
    },
    /// The text has a character that could not be typed, or told apart, at the console.
    #[error(
        "the name has the character {0:?}; letters, digits, '-', '_' and '.' are possible, and a letter first"
    )]
    Character(char),
    /// The text is a word with another meaning at the console.
    #[error("\"{ALL}\" is what the console calls all guests")]
    Word,
    /// A byte that is not 0 follows the 0 that ends the name in a record.
    #[error("the name is not padded with 0")]
    Padding,
}

/// Checks that `name` can be a name.
///
/// # Errors
///
/// The rule that it breaks.
pub fn check(name: &str) -> Result<(), BadName> {
    let Some(first) = name.chars().next() else {
        return Err(BadName::Empty);
    };
    if name.len() > NAME_LEN {
        return Err(BadName::TooLong { len: name.len() });
    }
    if !first.is_ascii_alphabetic() {
        return Err(BadName::Character(first));
    }
    let odd = |c: &char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    match name.chars().find(odd) {
        Some(character) => Err(BadName::Character(character)),
        None if name == ALL => Err(BadName::Word),
        None => Ok(()),
    }
}

/// Returns the name that stands in a register of [`NAME_LEN`] bytes.
///
/// # Errors
///
/// The rule that the content of the register breaks.
pub fn stored(register: &[u8]) -> Result<&str, BadName> {
    let len = register.iter().position(|&byte| byte == 0).unwrap_or(register.len());
    let (name, padding) = register.split_at(len);
    let text =
        core::str::from_utf8(name).map_err(|_| BadName::Character(char::REPLACEMENT_CHARACTER))?;
    check(text)?;
    match padding.iter().all(|&byte| byte == 0) {
        true => Ok(text),
        false => Err(BadName::Padding),
    }
}

/// The content of a register that should hold a name, in a form that can be printed: without the
/// zeros at its end, and with escapes, as in a string of Rust's, for every byte that is no
/// printable ASCII character.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Shown([u8; NAME_LEN]);

impl Shown {
    /// Returns the form of the first [`NAME_LEN`] bytes of `register`.
    pub fn new(register: &[u8]) -> Self {
        let mut bytes = [0; NAME_LEN];
        let len = register.len().min(NAME_LEN);
        bytes[..len].copy_from_slice(&register[..len]);
        Self(bytes)
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zeros = self.0.iter().rev().take_while(|&&byte| byte == 0).count();
        write!(f, "\"{}\"", self.0[..NAME_LEN - zeros].escape_ascii())
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_be_typed_printed_and_stored() {
        for name in ["a", "linux-6.1_b", "allow", &"x".repeat(32)] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        assert_eq!(check(""), Err(BadName::Empty));
        assert_eq!(check(&"x".repeat(33)), Err(BadName::TooLong { len: 33 }));
        for (name, character) in
            [("two words", ' '), ("g\u{e4}st", '\u{e4}'), ("7", '7'), ("-h", '-'), ("a,b", ',')]
        {
            assert_eq!(check(name), Err(BadName::Character(character)), "{name}");
        }
        for (name, character) in [("a/b", '/'), ("x\nok", '\n'), ("a\u{1b}[2J", '\u{1b}')] {
            assert_eq!(check(name), Err(BadName::Character(character)), "{name:?}");
        }
        assert_eq!(check("all"), Err(BadName::Word));
    }

    #[test]
    fn a_register_holds_a_name_padded_with_0() {
        assert_eq!(stored(b"ring\0\0\0\0"), Ok("ring"));
        assert_eq!(stored(&[b'x'; 32]), Ok("x".repeat(32).as_str()));
        assert_eq!(stored(&[0; 32]), Err(BadName::Empty));
        assert_eq!(stored(b"ring\0x\0\0"), Err(BadName::Padding));
        assert_eq!(stored(b"r\xff\0\0"), Err(BadName::Character('\u{fffd}')));
    }

    #[test]
    fn what_is_no_name_is_shown_without_what_a_terminal_obeys() {
        let shown = |bytes: &[u8]| Shown::new(bytes).to_string();
        assert_eq!(shown(b"linux\0\0"), "\"linux\"");
        assert_eq!(shown(b"a\nok\x1b[2J\0\xff\"\0"), r#""a\nok\x1b[2J\x00\xff\"""#);
        assert_eq!(shown(b""), "\"\"");
    }
}
