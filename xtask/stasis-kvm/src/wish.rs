//! [`Wish`]: what a person wants of this program, by the keys behind Ctrl-A.

use std::fmt;

/// The keys, for a person.
pub const HELP: &str = "Ctrl-A S: checkpoint; Ctrl-A Q: checkpoint and end; Ctrl-A X: end; Ctrl-A B: send a break; Ctrl-A Ctrl-A: send Ctrl-A";

/// What a person wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A checkpoint of the guest, which goes on.
    Checkpoint,
    /// A checkpoint of the guest, and the end.
    CheckpointAndEnd,
    /// The end, without a checkpoint.
    End,
    /// A break, for the guest's UART.
    Break,
    /// The keys.
    Help,
    /// This key, in lower case, means nothing.
    Nothing(u8),
}

impl Wish {
    /// Returns what a key behind Ctrl-A means, which is in lower case.
    pub fn of(key: u8) -> Self {
        match key {
            b's' => Self::Checkpoint,
            b'q' => Self::CheckpointAndEnd,
            b'x' => Self::End,
            b'b' => Self::Break,
            b'h' | b'?' => Self::Help,
            _ => Self::Nothing(key),
        }
    }

    /// Returns whether nothing that is typed behind it counts any more.
    pub fn is_last(&self) -> bool {
        matches!(self, Self::CheckpointAndEnd | Self::End)
    }
}

/// What is said of a key that means nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoKey(pub u8);

impl fmt::Display for NoKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = char::from(self.0.to_ascii_uppercase()).escape_default();
        write!(out, "Ctrl-A {key} means nothing. {HELP}")
    }
}

#[cfg(test)]
mod tests {
    use stasis_tool::console::keys::Keys;

    use super::*;

    /// Returns what the guest gets of what is typed, and what is wanted.
    fn typed(keys: &[u8]) -> (Vec<u8>, Vec<Wish>) {
        let mut guest = Vec::new();
        let wishes = Keys::default().take(keys, &mut guest, Wish::of, Wish::is_last);
        (guest, wishes)
    }

    #[test]
    fn a_key_that_means_nothing_is_named_and_does_nothing_else() {
        let (guest, wishes) = typed(b"a\x01zb\x01\x1b\x01Sc");
        assert_eq!(guest, b"abc");
        assert_eq!(wishes, [Wish::Nothing(b'z'), Wish::Nothing(0x1b), Wish::Checkpoint]);
        let said = NoKey(b'z').to_string();
        assert!(said.starts_with("Ctrl-A Z means nothing. Ctrl-A S: checkpoint;"), "{said}");
        let said = NoKey(0x1b).to_string();
        assert!(said.starts_with("Ctrl-A \\u{1b} means nothing."), "{said}");
    }

    #[test]
    fn the_help_has_every_key_that_means_something() {
        let means = |key: &u8| !matches!(Wish::of(*key), Wish::Nothing(_) | Wish::Help);
        for key in (0..=255).filter(means) {
            let key = format!("Ctrl-A {}:", char::from(key).to_ascii_uppercase());
            assert!(HELP.contains(&key), "{key}");
        }
        assert_eq!((Wish::of(b'h'), Wish::of(b'?')), (Wish::Help, Wish::Help));
    }
}
