//! [`Shared`]: the channel on the console's line, where the machine has no other UART for it.
//!
//! The line is the console's until [`WAKE`] comes. From then on it is the channel's, and what the
//! console would show goes in frames of their own. So nothing that a guest sends can look like a
//! frame.

/// The bytes that make the console's line the channel's. Text never has the first one, in UTF-8 as
/// in ASCII.
pub const WAKE: [u8; 8] = *b"\xffSTASIS\xff";

/// Whose line it is, and how much of [`WAKE`] has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shared {
    is_on: bool,
    matched: usize,
}

impl Shared {
    /// Returns the state of a line that is the console's.
    pub const fn new() -> Self {
        Self { is_on: false, matched: 0 }
    }

    /// Returns whether the line is the channel's.
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Gives the line back to the console.
    pub fn leave(&mut self) {
        *self = Self::new();
    }

    /// Takes a byte of the line. Returns it if it is the channel's. Passes to `typed` what is the
    /// console's, with bytes that might have become [`WAKE`] and did not.
    pub fn take(&mut self, byte: u8, typed: &mut dyn FnMut(u8)) -> Option<u8> {
        if self.is_on {
            return Some(byte);
        }
        if byte != WAKE[self.matched] {
            WAKE[..core::mem::take(&mut self.matched)].iter().for_each(|held| typed(*held));
        }
        if byte != WAKE[self.matched] {
            typed(byte);
            return None;
        }
        self.matched += 1;
        if self.matched == WAKE.len() {
            *self = Self { is_on: true, matched: 0 };
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns what is the console's of these bytes, and what the channel's.
    fn divided(bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let (mut shared, mut typed, mut channel) = (Shared::new(), Vec::new(), Vec::new());
        for byte in bytes {
            channel.extend(shared.take(*byte, &mut |byte| typed.push(byte)));
        }
        (typed, channel)
    }

    #[test]
    fn the_line_is_the_channels_behind_the_wake() {
        let bytes = [&b"guests\r"[..], &WAKE, b"\0abc"].concat();
        assert_eq!(divided(&bytes), (b"guests\r".to_vec(), b"\0abc".to_vec()));
        let (typed, channel) = divided(b"\xffSTA\xff\xffSTASIS\xff1");
        assert_eq!((typed, channel), (b"\xffSTA\xff".to_vec(), b"1".to_vec()));
    }

    proptest! {
        #[test]
        fn what_does_not_wake_is_typed_byte_for_byte(
            bytes in proptest::collection::vec(prop_oneof![Just(0xff), Just(b'S'), Just(b'T')], 0..40)
        ) {
            // A beginning of the wake may still be held.
            let (typed, _) = divided(&[&bytes[..], b"x"].concat());
            prop_assert_eq!(typed, [&bytes[..], b"x"].concat());
        }
    }
}
