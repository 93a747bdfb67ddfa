//! A cell of a table, as a person and as a program reads it.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Write};

use crate::text::Size;

const MIB: u64 = 1 << 20;

/// The content of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Text.
    Text(String),
    /// A number.
    Number(u64),
    /// Several numbers.
    List(Vec<u32>),
    /// A number of bytes, shown with a unit that fits.
    Size(u64),
    /// A number of bytes, shown in whole MiB.
    WholeMib(u64),
    /// A number of bytes that are still to come, shown with a unit that fits, or as nothing.
    Left(u64),
    /// A time in seconds since 1970, shown as a date in UTC.
    When(u64),
    /// A share in thousandths, shown as a percentage.
    Share(u64),
    /// Several values, which a program finds by their names, and a person as this text.
    Object(String, Vec<(&'static str, Self)>),
    /// A value that is not known.
    Unknown,
}

impl Cell {
    /// Returns a cell with text.
    pub fn text(text: &str) -> Self {
        Self::Text(text.to_string())
    }

    /// Writes the cell as a value of JSON.
    pub(super) fn write_json(&self, out: &mut dyn Write) -> fmt::Result {
        match self {
            Self::Text(text) => out.write_str(&json_text(text)),
            Self::Number(number)
            | Self::Size(number)
            | Self::Left(number)
            | Self::WholeMib(number)
            | Self::When(number) => {
                write!(out, "{number}")
            }
            Self::List(numbers) => write!(out, "[{}]", commas(numbers)),
            Self::Share(thousandths) => {
                write!(out, "{}.{:03}", thousandths / 1000, thousandths % 1000)
            }
            Self::Object(_, fields) => {
                for (index, (key, cell)) in fields.iter().enumerate() {
                    let before = if index == 0 { '{' } else { ',' };
                    write!(out, "{before}{}:", json_text(key))?;
                    cell.write_json(out)?;
                }
                out.write_char('}')
            }
            Self::Unknown => out.write_str("null"),
        }
    }
}

/// Writes the cell for a person.
impl fmt::Display for Cell {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) | Self::Object(text, _) => out.write_str(text),
            Self::Number(number) => write!(out, "{number}"),
            Self::List(numbers) if !numbers.is_empty() => out.write_str(&commas(numbers)),
            Self::Left(0) => out.write_str("-"),
            Self::Size(bytes) | Self::Left(bytes) => Size(*bytes).fmt(out),
            Self::WholeMib(bytes) => write!(out, "{} MiB", bytes / MIB),
            Self::When(seconds) => write_date(out, *seconds),
            Self::Share(thousandths) => write!(out, "{}.{}%", thousandths / 10, thousandths % 10),
            Self::List(_) | Self::Unknown => out.write_str("-"),
        }
    }
}

fn commas(numbers: &[u32]) -> String {
    let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
    numbers.join(",")
}

/// Returns `text` as a string of JSON (RFC 8259, section 7).
pub fn json_text(text: &str) -> String {
    let mut json = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => json.extend(['\\', character]),
            // Writing to a String does not fail.
            c if c.is_control() => drop(write!(json, "\\u{:04x}", u32::from(c))),
            c => json.push(c),
        }
    }
    json.push('"');
    json
}

fn write_date(out: &mut dyn Write, since_1970: u64) -> fmt::Result {
    let (days, seconds) = (since_1970 / 86_400, since_1970 % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    write!(out, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// Returns year, month and day of the Gregorian date that is `days` days after 1970-01-01. Years
/// begin in March here, so that the leap day is the last; after Howard Hinnant's "chrono-compatible
/// low-level date algorithms".
fn date(days: u64) -> (u64, u64, u64) {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    let days = days + 719_468;
    let (era, day) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = match month {
        0..10 => (year, month + 3),
        _ => (year + 1, month - 9),
    };
    (era * 400 + year, month, day)
}
