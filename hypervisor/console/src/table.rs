//! The console's lists of guests and of checkpoints, for a person and for a program.
//!
//! A [`Table`] has columns and typed cells. As text, its columns line up, and its numbers are
//! rounded for a person. As JSON, each row is a line with an object, and nothing is rounded.

mod cell;
mod room;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::{self, Write};

pub use self::cell::{Cell, json_text};
pub use self::room::{Room, StoreEnd};

/// A row of the list of guests.
#[derive(Clone, Debug)]
pub struct GuestRow<'a> {
    /// The guest's number.
    pub number: usize,
    /// The guest's name.
    pub name: &'a str,
    /// `running`, `paused`, `waiting`, `off` or `crashed`.
    pub state: &'a str,
    /// Number of vCPUs.
    pub vcpus: u8,
    /// Bytes of RAM.
    pub memory: u64,
    /// Bytes of memory that the guest alone uses.
    pub own: u64,
    /// Bytes of RAM that the guest shares with clones.
    pub shared: u64,
    /// Bytes of RAM that are still to be loaded from the guest's checkpoint.
    pub to_load: u64,
    /// Bytes of RAM that the guest has written since its last checkpoint.
    pub changed: u64,
    /// The numbers of the physical cores on which the vCPUs run.
    pub cores: &'a [u32],
}

/// A row of the list of checkpoints.
#[derive(Clone, Debug)]
pub struct StoreRow<'a> {
    /// The checkpoint's number.
    pub number: u64,
    /// The checkpoint's name.
    pub name: &'a str,
    /// The guest whose state it is; `None` if the checkpoint can't be read.
    pub guest: Option<&'a str>,
    /// Bytes of the checkpoint's file.
    pub size: u64,
    /// Bytes of the disk that would be free without it.
    pub frees: u64,
    /// The number of the checkpoint that it was made after; `None` if there was none, or it is not
    /// there.
    pub parent: Option<u64>,
    /// Number of pages of memory in the file; `None` if it is not known.
    pub pages: Option<u64>,
    /// The time at which the checkpoint was made, in seconds since 1970, or 0 if the host had no
    /// clock.
    pub when: u64,
    /// Index of the checkpoint in its set, from 0, and the number of checkpoints that the set had
    /// at first; `None` if it is in no set.
    pub member: Option<(u8, u8)>,
}

/// Returns the list of guests as a table.
pub fn guests(guests: &[GuestRow<'_>]) -> Table {
    const COLUMNS: &[Column] = &[
        Column::number("number"),
        Column::text("name"),
        Column::text("state"),
        Column::number("vCPUs").key("vcpus"),
        Column::number("memory"),
        Column::number("own"),
        Column::number("shared"),
        Column::number("to load").key("to_load"),
        Column::text("core").key("cores"),
        Column::for_programs("changed"),
    ];
    let rows = guests.iter().map(|guest| {
        vec![
            Cell::Number(guest.number as u64),
            Cell::text(guest.name),
            Cell::text(guest.state),
            Cell::Number(guest.vcpus.into()),
            Cell::WholeMib(guest.memory),
            Cell::Size(guest.own),
            Cell::Left(guest.shared),
            Cell::Left(guest.to_load),
            Cell::List(guest.cores.to_vec()),
            Cell::Size(guest.changed),
        ]
    });
    Table { columns: COLUMNS, rows: rows.collect(), nothing: "no guests" }
}

/// Returns the list of checkpoints as a table.
pub fn store(checkpoints: &[StoreRow<'_>]) -> Table {
    const COLUMNS: &[Column] = &[
        Column::number("number"),
        Column::text("name"),
        Column::text("guest"),
        Column::number("size"),
        Column::number("frees"),
        Column::number("pages"),
        Column::number("parent"),
        Column::text("when (UTC)").key("when"),
        Column::text("of set").key("member"),
    ];
    let rows = checkpoints.iter().map(|checkpoint| {
        vec![
            Cell::Number(checkpoint.number),
            Cell::text(checkpoint.name),
            checkpoint.guest.map_or(Cell::Unknown, Cell::text),
            Cell::Size(checkpoint.size),
            Cell::Size(checkpoint.frees),
            checkpoint.pages.map_or(Cell::Unknown, Cell::Number),
            checkpoint.parent.map_or(Cell::Unknown, Cell::Number),
            if checkpoint.when == 0 { Cell::Unknown } else { Cell::When(checkpoint.when) },
            checkpoint.member.map_or(Cell::Unknown, |(index, count)| {
                Cell::text(&format!("{} of {count}", u16::from(index) + 1))
            }),
        ]
    });
    Table { columns: COLUMNS, rows: rows.collect(), nothing: "no checkpoints" }
}

/// A row of the list of volumes.
#[derive(Clone, Debug)]
pub struct VolumeRow<'a> {
    /// The volume's name.
    pub name: &'a str,
    /// Bytes of the volume.
    pub size: u64,
    /// Bytes of the disk that would be free without it.
    pub frees: u64,
    /// The time at which it was created, in seconds since 1970, or 0 if the host had no clock.
    pub when: u64,
    /// The guest that has it as a disk; `None` if none has.
    pub guest: Option<String>,
    /// What a resume has set aside here; `None` if the name is not one that a resume makes.
    pub set_aside: Option<SetAsideRow>,
}

/// Of what and by what a volume was set aside.
#[derive(Clone, Debug)]
pub struct SetAsideRow {
    /// The name of the volume that was brought back.
    pub volume: String,
    /// The number of the checkpoint that was resumed; `None` if it is not known.
    pub checkpoint: Option<u64>,
    /// The guest that was resumed; `None` if it is not known.
    pub guest: Option<String>,
}

impl SetAsideRow {
    fn cell(&self) -> Cell {
        let guest = self.guest.as_ref().map_or(String::new(), |guest| format!(" of {guest}"));
        let number = self.checkpoint.map_or(String::new(), |n| format!(", checkpoint {n}"));
        let fields = vec![
            ("volume", Cell::text(&self.volume)),
            ("checkpoint", self.checkpoint.map_or(Cell::Unknown, Cell::Number)),
            ("guest", self.guest.as_deref().map_or(Cell::Unknown, Cell::text)),
        ];
        Cell::Object(format!("{}{guest}{number}", self.volume), fields)
    }
}

/// Returns the list of volumes as a table.
pub fn volumes(volumes: &[VolumeRow<'_>]) -> Table {
    const COLUMNS: &[Column] = &[
        Column::text("name"),
        Column::number("size"),
        Column::number("frees"),
        Column::text("when (UTC)").key("when"),
        Column::text("guest"),
        Column::text("set aside").key("set_aside"),
    ];
    let rows = volumes.iter().map(|volume| {
        vec![
            Cell::text(volume.name),
            Cell::Size(volume.size),
            Cell::Size(volume.frees),
            if volume.when == 0 { Cell::Unknown } else { Cell::When(volume.when) },
            volume.guest.as_deref().map_or(Cell::Unknown, Cell::text),
            volume.set_aside.as_ref().map_or(Cell::Unknown, SetAsideRow::cell),
        ]
    });
    Table { columns: COLUMNS, rows: rows.collect(), nothing: "no volumes" }
}

/// A row of the list of network cards.
#[derive(Clone, Debug)]
pub struct CardRow<'a> {
    /// The network's name.
    pub network: &'a str,
    /// The guest that has the card, or what the card is otherwise, in a form that no guest's name
    /// has.
    pub guest: &'a str,
    /// The card's address.
    pub address: [u8; 6],
    /// Whether its link is up.
    pub is_up: bool,
    /// Frames that the guest has sent.
    pub sent: u64,
    /// Frames that the guest has received.
    pub received: u64,
    /// Frames that came for the guest and were lost.
    pub lost: u64,
}

/// Returns the list of network cards as a table.
pub fn cards(cards: &[CardRow<'_>]) -> Table {
    const COLUMNS: &[Column] = &[
        Column::text("network"),
        Column::text("guest"),
        Column::text("address"),
        Column::text("link"),
        Column::number("sent"),
        Column::number("received"),
        Column::number("lost"),
    ];
    let rows = cards.iter().map(|card| {
        let [a, b, c, d, e, f] = card.address;
        let address = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
        vec![
            Cell::text(card.network),
            Cell::text(card.guest),
            Cell::text(&address),
            Cell::text(if card.is_up { "up" } else { "down" }),
            Cell::Number(card.sent),
            Cell::Number(card.received),
            Cell::Number(card.lost),
        ]
    });
    Table { columns: COLUMNS, rows: rows.collect(), nothing: "no network cards" }
}

/// A row of the list of weights.
#[derive(Clone, Debug)]
pub struct WeightRow<'a> {
    /// The guest.
    pub guest: &'a str,
    /// The weight of its vCPUs.
    pub weight: u64,
    /// The numbers of the physical cores of its vCPUs.
    pub cores: &'a [u32],
}

/// Returns the list of weights as a table.
pub fn weights(weights: &[WeightRow<'_>]) -> Table {
    const COLUMNS: &[Column] =
        &[Column::text("guest"), Column::number("weight"), Column::text("core").key("cores")];
    let rows = weights.iter().map(|row| {
        vec![Cell::text(row.guest), Cell::Number(row.weight), Cell::List(row.cores.to_vec())]
    });
    Table { columns: COLUMNS, rows: rows.collect(), nothing: "no guests" }
}

/// A row of the list of windows.
#[derive(Clone, Debug)]
pub struct WindowRow<'a> {
    /// Number of the physical core.
    pub core: u32,
    /// Microseconds of the core's frame.
    pub frame_us: u64,
    /// The guest.
    pub guest: &'a str,
    /// Microseconds from the frame's beginning to the window's.
    pub at_us: u64,
    /// Microseconds that it lasts.
    pub length_us: u64,
    /// Number of windows that the guest has missed on the core.
    pub missed: u64,
    /// Microseconds by which the last of them was late; `None` if there was none.
    pub late_us: Option<u64>,
}

/// Returns the list of windows as a table.
pub fn windows(windows: &[WindowRow<'_>]) -> Table {
    const COLUMNS: &[Column] = &[
        Column::number("core"),
        Column::number("frame us").key("frame_us"),
        Column::text("guest"),
        Column::number("at us").key("at_us"),
        Column::number("length us").key("length_us"),
        Column::number("missed"),
        Column::number("late us").key("late_us"),
    ];
    let rows = windows.iter().map(|row| {
        vec![
            Cell::Number(row.core.into()),
            Cell::Number(row.frame_us),
            Cell::text(row.guest),
            Cell::Number(row.at_us),
            Cell::Number(row.length_us),
            Cell::Number(row.missed),
            row.late_us.map_or(Cell::Unknown, Cell::Number),
        ]
    });
    Table { columns: COLUMNS, rows: rows.collect(), nothing: "no windows" }
}

/// The title of a column, its name in JSON, and how its cells are aligned.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    title: &'static str,
    key: &'static str,
    right: bool,
    is_text: bool,
}

impl Column {
    /// Returns a column of text.
    pub const fn text(title: &'static str) -> Self {
        Self { title, key: title, right: false, is_text: true }
    }

    /// Returns a column of numbers.
    pub const fn number(title: &'static str) -> Self {
        Self { title, key: title, right: true, is_text: true }
    }

    /// Returns a column that only JSON has: a person's line has no room for it.
    pub const fn for_programs(key: &'static str) -> Self {
        Self { title: "", key, right: false, is_text: false }
    }

    /// Returns this column with `key` as its name in JSON.
    #[must_use]
    pub const fn key(self, key: &'static str) -> Self {
        Self { key, ..self }
    }
}

/// Rows of cells under titles.
#[derive(Clone, Debug)]
pub struct Table {
    /// The columns, from the left.
    pub columns: &'static [Column],
    /// The rows. Each has a cell for each column.
    pub rows: Vec<Vec<Cell>>,
    /// The sentence that a person reads if there are no rows.
    pub nothing: &'static str,
}

impl Table {
    /// Writes the table to `out`: as text for a person, or as JSON if `json` is true.
    pub fn write(&self, out: &mut dyn Write, json: bool) -> fmt::Result {
        if json { self.write_json(out) } else { self.write_columns(out) }
    }

    fn write_columns(&self, out: &mut dyn Write) -> fmt::Result {
        if self.rows.is_empty() {
            return writeln!(out, "{}", self.nothing);
        }
        let columns: Vec<&Column> = self.columns.iter().filter(|column| column.is_text).collect();
        let mut lines: Vec<Vec<String>> =
            vec![columns.iter().map(|column| column.title.to_string()).collect()];
        lines.extend(self.rows.iter().map(|row| {
            let shown = row.iter().zip(self.columns).filter(|(_, column)| column.is_text);
            shown.map(|(cell, _)| cell.to_string()).collect()
        }));
        let mut widths = vec![0; columns.len()];
        for line in &lines {
            for (widest, cell) in widths.iter_mut().zip(line) {
                *widest = width(cell).max(*widest);
            }
        }
        for cells in &lines {
            let mut line = String::new();
            for ((cell, column), &width) in cells.iter().zip(&columns).zip(&widths) {
                match column.right {
                    true => write!(line, "  {cell:>width$}")?,
                    false => write!(line, "  {cell:width$}")?,
                }
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    fn write_json(&self, out: &mut dyn Write) -> fmt::Result {
        for row in &self.rows {
            for (index, (cell, column)) in row.iter().zip(self.columns).enumerate() {
                let before = if index == 0 { '{' } else { ',' };
                write!(out, "{before}{}:", json_text(column.key))?;
                cell.write_json(out)?;
            }
            writeln!(out, "}}")?;
        }
        Ok(())
    }
}

fn width(cell: &str) -> usize {
    cell.chars().count()
}
