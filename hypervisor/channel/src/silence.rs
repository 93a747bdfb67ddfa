//! [`Silence`]: whose a carriage return is on a line that a console and the channel share.
//!
//! A client that has gone without a word leaves the line to the channel. A person who finds it so
//! presses Enter; but the same byte may be one of a frame.

use crate::frame::DELIMITER;

/// Seconds without a frame after which a carriage return is a person's.
const SILENCE_SECONDS: u64 = 5;

/// When the channel was heard on the line last. All times are in ticks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silence {
    /// When the last frame came, or the console's line became the channel's.
    heard: u64,
    /// When the last delimiter came.
    delimited: u64,
    /// Whether the console's line is known to be the channel's.
    has_console: bool,
}

impl Silence {
    /// Notes that a frame came whole at `now`.
    pub fn hear(&mut self, now: u64) {
        self.heard = now;
    }

    /// Returns whether a byte that comes at `now` is a carriage return of a person's, who wants the
    /// console's line back. `has_console` says whether the channel has that line, `second` how many
    /// ticks a second has. In the midst of a frame it is not: each has begun with a delimiter, less
    /// than a second before.
    pub fn is_persons(&mut self, byte: u8, has_console: bool, now: u64, second: u64) -> bool {
        if !core::mem::replace(&mut self.has_console, has_console) {
            (self.heard, self.delimited) = (now, now);
        }
        if byte == DELIMITER {
            self.delimited = now;
        }
        let is_silent = now - self.heard > SILENCE_SECONDS * second;
        byte == b'\r' && has_console && is_silent && now - self.delimited > second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1000;

    /// Returns whose a carriage return is at a time in ms, on a line that became the channel's
    /// at 0.
    fn is_persons(silence: &mut Silence, now: u64) -> bool {
        silence.is_persons(b'\r', true, now, SECOND)
    }

    #[test]
    fn a_person_gets_the_line_back_after_five_seconds_of_silence() {
        let mut silence = Silence::default();
        assert!(!is_persons(&mut silence, 100), "the line has just become the channel's");
        assert!(!is_persons(&mut silence, 5100));
        assert!(is_persons(&mut silence, 5101));
        assert!(!silence.is_persons(b'\n', true, 6000, SECOND));
        silence.hear(6000);
        assert!(!is_persons(&mut silence, 11_000));
        assert!(is_persons(&mut silence, 11_001));
    }

    #[test]
    fn a_carriage_return_in_the_midst_of_a_frame_is_the_channels() {
        let mut silence = Silence::default();
        assert!(!is_persons(&mut silence, 0));
        assert!(!silence.is_persons(DELIMITER, true, 9000, SECOND));
        assert!(!is_persons(&mut silence, 10_000), "the frame has begun a second before");
        assert!(is_persons(&mut silence, 10_001));
    }

    #[test]
    fn nothing_is_given_back_that_the_channel_does_not_have() {
        let mut silence = Silence::default();
        assert!(!silence.is_persons(b'\r', false, 60_000, SECOND));
        // Now a client takes the line: the silence before counts for nothing.
        assert!(!silence.is_persons(b'\r', true, 120_000, SECOND));
        assert!(is_persons(&mut silence, 125_001));
        // The client has left the line again.
        assert!(!silence.is_persons(b'\r', false, 200_000, SECOND));
    }
}
