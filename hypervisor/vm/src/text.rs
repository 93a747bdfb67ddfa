//! Text for people: words that came from outside, and sizes.
//!
//! Words are in quotes, cut short, with nothing in them that a terminal would obey. [`Size`] is how the machine and the host's tool say bytes.

use alloc::string::String;
use core::fmt;

/// Longer words are cut.
const SHOWN: usize = 40;

/// `word` for an error line.
pub fn quoted(word: &str) -> String {
    let mut shown = String::from("\"");
    shown.extend(word.chars().take(SHOWN).flat_map(char::escape_debug));
    if word.chars().nth(SHOWN).is_some() {
        shown.push_str("...");
    }
    shown.push('"');
    shown
}

/// Bytes as people say them, `1.5 KiB`, with one decimal that is rounded down: of what is free there is never less than is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
        let bytes = self.0;
        // The exponent of 1024 that leaves a number below 1024, as far as there are units.
        let power = (bytes.max(1).ilog2() / 10).min(UNITS.len() as u32);
        let Some(name) = power.checked_sub(1).and_then(|n| UNITS.get(n as usize)) else {
            return write!(out, "{bytes} bytes");
        };
        // Without floating point, which EL2 does not use.
        let unit = 1 << (10 * power);
        write!(out, "{}.{} {name}", bytes / unit, bytes % unit * 10 / unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

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
}
