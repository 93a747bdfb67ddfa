//! [`LastWords`]: what Stasis says before it stops for ever. Nothing that a test waits for comes behind them.

use std::time::{Duration, Instant};

use super::text::{clean, find};

/// What is in the first line of last words, and in no other line: of a panic, of an exception at
/// EL2, of a machine that Stasis can't run on. `boot/src/panic.rs` says them.
const SIGNS: [&str; 3] =
    ["*** Stasis panicked on core ", " at EL2 on core ", "error: Stasis can't run on this machine"];
/// Length of the longest of [`SIGNS`], in bytes.
const LONGEST: usize = SIGNS[2].len();
/// The time that Stasis has for the rest of its report.
const REPORT_TIME: Duration = Duration::from_secs(1);
/// Number of lines of the report that are shown, at the most. That of an exception has twelve.
const REPORT_LINES: usize = 30;

/// Where Stasis's last words are in what was received, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LastWords {
    /// Offset of the first line.
    start: usize,
    /// When they were found.
    found: Instant,
}

impl LastWords {
    /// Looks for last words in `bytes`, of which those before `old` were looked at before.
    pub(super) fn find(bytes: &[u8], old: usize) -> Option<Self> {
        let from = old.saturating_sub(LONGEST);
        let sign =
            SIGNS.iter().filter_map(|sign| find(&bytes[from..], sign.as_bytes())).min()? + from;
        let start = bytes[..sign].iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        Some(Self { start, found: Instant::now() })
    }

    /// Returns how long to wait for the rest of the report; zero if it is complete.
    pub(super) fn time_left(&self) -> Duration {
        super::transcript::scaled(REPORT_TIME).saturating_sub(self.found.elapsed())
    }

    /// Returns the lines of the report.
    pub(super) fn report(&self, bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(&bytes[self.start..]);
        text.lines().take(REPORT_LINES).map(|line| format!("    | {}\n", clean(line))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_found_in_whatever_pieces_they_come() {
        let all = b"[1.0] hello\r\n*** Stasis panicked on core 1\r\npanicked at boot";
        for cut in 0..=all.len() {
            let first = LastWords::find(&all[..cut], 0);
            let words = first.or_else(|| LastWords::find(all, cut)).unwrap();
            assert_eq!(words.start, 13, "cut at {cut}");
        }
        assert_eq!(LastWords::find(b"[1.0] Stasis at EL2, 2 cores\r\n", 0), None);
    }

    #[test]
    fn the_image_says_its_last_words_as_they_are_looked_for() {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../boot/src/panic.rs");
        let source = std::fs::read_to_string(source).unwrap();
        for sign in SIGNS {
            assert!(source.contains(sign), "{sign}");
            assert!(sign.len() <= LONGEST, "{sign} has {} bytes", sign.len());
        }
    }
}
