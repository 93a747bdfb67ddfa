//! The console's lists: of the guests, and of the checkpoints.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Write};

const MIB: u64 = 1 << 20;

/// A guest in the list.
#[derive(Clone, Debug)]
pub struct GuestRow<'a> {
    /// Its number.
    pub number: usize,
    /// Its name.
    pub name: &'a str,
    /// `running`, `paused`, `off` or `crashed`.
    pub state: &'a str,
    /// Number of vCPUs.
    pub vcpus: u8,
    /// Bytes of RAM.
    pub memory: u64,
    /// The physical cores of its vCPUs.
    pub cores: &'a [u32],
}

/// A checkpoint in the list.
#[derive(Clone, Debug)]
pub struct StoreRow<'a> {
    /// Its number.
    pub number: u64,
    /// Its name.
    pub name: &'a str,
    /// Bytes of its file.
    pub size: u64,
    /// Pages of memory in it, where that is known.
    pub pages: Option<u64>,
    /// When it was made: seconds since 1970, or 0 where the host has no clock.
    pub when: u64,
}

/// Writes the list of guests.
pub fn write_guests(out: &mut impl Write, guests: &[GuestRow<'_>]) -> fmt::Result {
    if guests.is_empty() {
        return writeln!(out, "no guests");
    }
    let rows = guests.iter().map(|guest| {
        let cores: Vec<String> = guest.cores.iter().map(u32::to_string).collect();
        [
            guest.number.to_string(),
            guest.name.to_string(),
            guest.state.to_string(),
            guest.vcpus.to_string(),
            alloc::format!("{} MiB", guest.memory / MIB),
            or_dash(cores.join(",")),
        ]
    });
    let columns = [
        Column::number("number"),
        Column::text("name"),
        Column::text("state"),
        Column::number("vCPUs"),
        Column::number("memory"),
        Column::text("core"),
    ];
    write_table(out, columns, rows.collect())
}

/// Writes the list of checkpoints.
pub fn write_store(out: &mut impl Write, checkpoints: &[StoreRow<'_>]) -> fmt::Result {
    if checkpoints.is_empty() {
        return writeln!(out, "no checkpoints");
    }
    let rows = checkpoints.iter().map(|checkpoint| {
        [
            checkpoint.number.to_string(),
            checkpoint.name.to_string(),
            Size(checkpoint.size).to_string(),
            or_dash(checkpoint.pages.map(|pages| pages.to_string()).unwrap_or_default()),
            When(checkpoint.when).to_string(),
        ]
    });
    let columns = [
        Column::number("number"),
        Column::text("name"),
        Column::number("size"),
        Column::number("pages"),
        Column::text("when (UTC)"),
    ];
    write_table(out, columns, rows.collect())
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_string() } else { text }
}

struct Column {
    title: &'static str,
    right: bool,
}

impl Column {
    const fn text(title: &'static str) -> Self {
        Self { title, right: false }
    }

    const fn number(title: &'static str) -> Self {
        Self { title, right: true }
    }
}

fn write_table<const N: usize>(
    out: &mut impl Write,
    columns: [Column; N],
    rows: Vec<[String; N]>,
) -> fmt::Result {
    let width = |index: usize| {
        let cells = rows.iter().map(|row| row[index].len());
        cells.chain([columns[index].title.len()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = core::array::from_fn(width);
    let titles = columns.each_ref().map(|column| column.title.to_string());
    for row in [&titles].into_iter().chain(&rows) {
        let mut line = String::new();
        for ((cell, column), width) in row.iter().zip(&columns).zip(widths) {
            match column.right {
                true => write!(line, "  {cell:>width$}")?,
                false => write!(line, "  {cell:width$}")?,
            }
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A number of bytes, for a person.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Tenths without floating point, which EL2 does not use.
        let tenths = |unit: u64| (self.0 / unit, self.0 % unit * 10 / unit);
        match self.0 {
            0..1024 => write!(out, "{} B", self.0),
            1024..MIB => {
                let (whole, tenth) = tenths(1024);
                write!(out, "{whole}.{tenth} KiB")
            }
            MIB.. => {
                let (whole, tenth) = tenths(MIB);
                write!(out, "{whole}.{tenth} MiB")
            }
        }
    }
}

/// A time in seconds since 1970, as date and time.
struct When(u64);

impl fmt::Display for When {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return out.write_str("-");
        }
        let (days, seconds) = (self.0 / 86_400, self.0 % 86_400);
        let (year, month, day) = date(days);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(out, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
    }
}

/// The Gregorian date, so many days behind 1970-01-01. Years begin in March here, so that the leap day is the last;
/// after Howard Hinnant's "chrono-compatible low-level date algorithms".
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
