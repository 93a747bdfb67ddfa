//! What a person sees while something goes on: one line for each step, on standard error.

use std::fmt::Display;
use std::io::IsTerminal;
use std::time::Duration;

/// Says what is done now.
pub fn step(what: impl Display) {
    line("==>", "1;32", what);
}

/// Says something about the step.
pub fn note(what: impl Display) {
    line("   ", "0", what);
}

/// Says something that a person should know though the work goes on.
pub fn warn(what: impl Display) {
    line("warning:", "1;33", what);
}

/// Says what went wrong.
pub fn error(what: impl Display) {
    line("error:", "1;31", what);
}

fn line(label: &str, colour: &str, what: impl Display) {
    if std::io::stderr().is_terminal() {
        eprintln!("\x1b[{colour}m{label}\x1b[0m {what}");
    } else {
        eprintln!("{label} {what}");
    }
}

/// A time as people say it.
pub fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// A size as people say it.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Reads a size as people write it: `512M`, `1G`, `4096`.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim().to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KIB" => 10,
        "M" | "MIB" => 20,
        "G" | "GIB" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn sizes_are_said_as_people_say_them() {
        assert_eq!(size(100), "100 bytes");
        assert_eq!(size(20_987_456), "20.0 MiB");
    }
}
