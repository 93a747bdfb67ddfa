//! Messages for a person while a command runs: one line for each step, on the standard error.
//! [`print`] writes a command's results, to the standard output.
//!
//! Nothing else in this crate writes to either: the standard library's macros panic where nobody
//! reads to the end, as in `| head`.

use std::fmt::{Display, Write};
use std::io::{self, BufWriter, IsTerminal, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use stasis_console::text::{Escape, Size, parse_size};

/// Prints a command's results to the standard output. It is no error if the reader does not read to
/// the end, as in `| head`.
pub fn print(write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot print it")
        }
        _ => Ok(()),
    }
}

/// Prints a command's results for a program.
pub fn print_json(value: &impl Serialize) -> Result<()> {
    print(|out| {
        serde_json::to_writer_pretty(&mut *out, value)?;
        out.write_all(b"\n")
    })
}

/// Says what is being done.
pub fn step(what: impl Display) {
    line("==>", "1;32", what);
}

/// Says a detail of the step.
pub fn note(what: impl Display) {
    line("   ", "0", what);
}

/// Says something that a person should know, although the work goes on.
pub fn warn(what: impl Display) {
    line("warning:", "1;33", what);
}

/// Says what went wrong.
pub fn error(what: impl Display) {
    line("error:", "1;31", what);
}

/// Why a command has failed, with an exit code that tells it from other reasons.
#[derive(Debug)]
pub struct Coded {
    /// The exit code.
    pub code: u8,
    /// The reason, in a line.
    pub why: String,
}

impl Coded {
    /// Returns the exit code of an error; `None` if it has none of its own.
    pub fn of(error: &anyhow::Error) -> Option<u8> {
        error.downcast_ref::<Self>().map(|coded| coded.code)
    }
}

impl Display for Coded {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.why)
    }
}

impl std::error::Error for Coded {}

/// Returns the exit code of the process for the result of a command. Says why the command has
/// failed, if it has.
pub fn exit(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            error(format_args!("{reason:#}"));
            Coded::of(&reason).map_or(ExitCode::FAILURE, ExitCode::from)
        }
    }
}

fn line(label: &str, colour: &str, what: impl Display) {
    let what = harmless(what);
    // https://no-color.org: set, and not empty.
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let mut out = io::stderr();
    // A command goes on where nobody hears what it says.
    let _ = if out.is_terminal() && !plain {
        writeln!(out, "\x1b[{colour}m{label}\x1b[0m {what}")
    } else {
        writeln!(out, "{label} {what}")
    };
}

/// Returns lines with escapes for what would control a terminal: a text may come from a file, a
/// disk or a machine's console.
fn harmless(what: impl Display) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write!(
        Escape { out: &mut text, but: Some('\n') },
        "{}",
        what.to_string().replace('\t', "    ")
    );
    text
}

/// Returns a time as people say it.
pub fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// Returns a size as people say it, and as a machine's console does.
pub fn size(bytes: u64) -> String {
    Size(bytes).to_string()
}

/// Returns the date of a time in seconds since 1970, in UTC. 0 is no date.
pub fn date(seconds: u64) -> String {
    if seconds == 0 {
        return "unknown".to_owned();
    }
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March have their leap day at the end (Hinnant, "chrono-Compatible
    // Low-Level Date Algorithms").
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// Returns the bytes of a size on the command line. Fails for a small number without a unit, which
/// is hardly meant as bytes.
pub fn size_from(text: &str) -> Result<u64, String> {
    const LEAST_BYTES: u64 = 1 << 20;
    let has_unit = !text.trim().ends_with(|c: char| c.is_ascii_digit());
    let size = parse_size(text).filter(|bytes| has_unit || *bytes >= LEAST_BYTES);
    size.ok_or_else(|| match text.trim().parse::<u64>() {
        Ok(number) => format!("a size needs its unit: \"{number}M\" in place of \"{text}\""),
        Err(_) => format!("\"{text}\" is no size such as \"512M\""),
    })
}

/// Returns the error of a command line that is wrong, with its exit code.
pub(crate) fn mistyped(why: String) -> anyhow::Error {
    Coded { code: 2, why }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(harmless("two\nlines\t\u{1b}[2J\r"), "two\nlines    \\u{1b}[2J\\r");
    }

    #[test]
    fn a_size_without_its_unit_is_answered_with_one() {
        assert_eq!(size_from("64M"), Ok(64 << 20));
        let error = size_from("64").unwrap_err();
        assert_eq!(error, "a size needs its unit: \"64M\" in place of \"64\"");
        assert!(size_from("much").unwrap_err().contains("is no size such as \"512M\""));
    }

    #[test]
    fn dates_are_right_around_leap_days() {
        assert_eq!(date(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(date(1_795_364_153), "2026-11-22 16:15:53 UTC");
        assert_eq!(date(1_709_251_199), "2024-02-29 23:59:59 UTC");
        assert_eq!(date(0), "unknown");
    }
}
