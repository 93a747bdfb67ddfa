//! Draws how long guests stand still over their memory, and how much their checkpoints write, as
//! SVG: two panels, whose scales are logarithmic. An earlier build's lines are dashed.

use std::fmt::Write;

use super::Pauses;
use crate::bench::svg::{self, text};

/// Width and height of the picture, in pixels.
const SIZE: (f64, f64) = (1080.0, 440.0);
/// Where a panel's lowest memory is, in pixels from its left.
const LEFT: f64 = 60.0;
/// Where the lowest cost is.
const BOTTOM: f64 = 400.0;
/// Pixels from one panel to the next.
const PANEL: f64 = 540.0;
/// Pixels for twice as much memory.
const DOUBLE: f64 = 75.0;
/// Pixels for ten times as many instructions.
const TENFOLD: f64 = 58.0;
/// Height of a line of text, in pixels.
const LETTER: f64 = 13.0;
/// The memory in the picture, in MiB.
const MIB: [u64; 5] = [64, 128, 256, 512, 1024];
/// The costs that have a name, in thousands of instructions or bytes.
const COSTS: [(u64, &str); 7] = [
    (1, "1k"),
    (10, "10k"),
    (100, "100k"),
    (1000, "1M"),
    (10_000, "10M"),
    (100_000, "100M"),
    (1_000_000, "1000M"),
];

/// A line of a panel: what it shows, its color, and its value in thousands of instructions or
/// bytes.
type Line = (&'static str, &'static str, fn(&Pauses) -> Option<u64>);

const BLUE: &str = "#3a6ea5";
const GREEN: &str = "#4c9a5b";
const BROWN: &str = "#d09030";
const GREY: &str = "#9a9a9a";

/// The panels: a title, and the lines.
const PANELS: [(&str, &[Line]); 2] = [
    (
        "instructions that a guest stands still",
        &[
            ("first checkpoint", BLUE, |pauses| Some(pauses.first.pause)),
            ("another one", GREEN, |pauses| Some(pauses.later.pause)),
            ("clone", BROWN, |pauses| Some(pauses.clone?.pause)),
            ("until a clone runs", GREY, |pauses| Some(pauses.clone?.took)),
        ],
    ),
    (
        "bytes that a checkpoint writes",
        &[
            ("first checkpoint", BLUE, |pauses| Some(pauses.first.written / 1000)),
            ("another one", GREEN, |pauses| Some(pauses.later.written / 1000)),
        ],
    ),
];

/// Returns the picture: a line for the guests `pages`, a square for Linux.
pub fn draw(now: &[Pauses], before: Option<&[Pauses]>) -> String {
    let (width, height) = SIZE;
    let title = "By the MiB of a guest's memory; squares: an idle Linux; dashed: the earlier build";
    let mut svg = svg::begin(width, height, title);
    for (number, (title, lines)) in PANELS.iter().enumerate() {
        let mut panel = Place { svg: &mut svg, left: LEFT + PANEL * number as f64 };
        panel.scales(title);
        // The highest line first: no name may be written over the one before.
        let dashed = lines.iter().map(|line| (line, before.unwrap_or(&[]), true));
        let solid = lines.iter().map(|line| (line, now, false));
        let mut ends: Vec<_> = dashed
            .chain(solid)
            .filter_map(|((name, color, value), all, dashed)| {
                let (x, y) = panel.line(all, color, dashed, *value)?;
                Some((x, y, if dashed { format!("{name}, before") } else { (*name).to_owned() }))
            })
            .collect();
        ends.sort_by(|(_, one, _), (_, other, _)| one.total_cmp(other));
        let mut lowest = 0.0_f64;
        for (x, y, name) in ends {
            lowest = (y + 4.0).max(lowest + LETTER);
            text(panel.svg, x + 8.0, lowest, &name);
        }
    }
    svg::end(svg)
}

/// A panel's place in the picture.
struct Place<'s> {
    svg: &'s mut String,
    /// Where the lowest memory is, in pixels.
    left: f64,
}

impl Place<'_> {
    /// Draws the title and the scales.
    fn scales(&mut self, title: &str) {
        text(self.svg, self.left, 40.0, title);
        let right = self.x(MIB[MIB.len() - 1] << 20);
        for (thousands, name) in COSTS {
            let y = y(thousands);
            // Writing to a String does not fail.
            let _ = writeln!(
                self.svg,
                "<line x1=\"{}\" y1=\"{y:.1}\" x2=\"{right:.1}\" y2=\"{y:.1}\" stroke=\"#e0e0e0\"/>",
                self.left
            );
            text(self.svg, self.left - 46.0, y + 4.0, name);
        }
        for mib in MIB {
            text(self.svg, self.x(mib << 20) - 10.0, BOTTOM + 20.0, &mib.to_string());
        }
    }

    /// Draws a line, and returns where it ends; `None` if it has no points.
    fn line(
        &mut self,
        all: &[Pauses],
        color: &str,
        dashed: bool,
        value: fn(&Pauses) -> Option<u64>,
    ) -> Option<(f64, f64)> {
        let place = |pauses: &Pauses| Some((self.x(pauses.memory), y(value(pauses)?)));
        let (linux, pages): (Vec<&Pauses>, Vec<&Pauses>) =
            all.iter().partition(|pauses| pauses.guest == "linux");
        let points: Vec<_> = pages.into_iter().filter_map(place).collect();
        let squares: Vec<_> = linux.into_iter().filter_map(place).collect();
        let path: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let dashes = if dashed { " stroke-dasharray=\"5 4\"" } else { "" };
        // Writing to a String does not fail.
        let _ = writeln!(
            self.svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"{dashes}/>",
            path.join(" ")
        );
        for (x, y) in squares {
            let (left, top) = (x - 4.0, y - 4.0);
            let fill = if dashed { "white" } else { color };
            let _ = writeln!(
                self.svg,
                "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"8\" height=\"8\" fill=\"{fill}\" stroke=\"{color}\"/>"
            );
        }
        points.last().copied()
    }

    /// Returns the horizontal position of this many bytes of memory.
    fn x(&self, memory: u64) -> f64 {
        self.left + DOUBLE * ((memory >> 20).max(1) as f64 / MIB[0] as f64).log2()
    }
}

/// Returns the vertical position of this many thousands of instructions or bytes.
fn y(thousands: u64) -> f64 {
    BOTTOM - TENFOLD * (thousands.max(1) as f64).log10()
}

#[cfg(test)]
mod tests {
    use super::super::{Cloned, Stored};
    use super::*;

    fn of(guest: &str, memory: u64, clone: Option<Cloned>) -> Pauses {
        let first = Stored { pause: 10, written: 100_000 };
        Pauses { guest: guest.to_owned(), memory, first, later: first, clone }
    }

    #[test]
    fn a_cost_that_does_not_grow_is_a_level_line_and_linux_a_square() {
        let clone = |took| Some(Cloned { pause: 100, took });
        let all = [
            of("pages", 64 << 20, clone(100)),
            of("pages", 128 << 20, clone(1000)),
            of("linux", 64 << 20, clone(10)),
        ];
        let svg = draw(&all, None);
        assert_eq!(svg.matches("points=\"60.0,342.0 135.0,342.0\"").count(), 2, "{svg}");
        assert!(svg.contains("points=\"60.0,284.0 135.0,226.0\""), "until a clone runs: {svg}");
        let written = "points=\"600.0,284.0 675.0,284.0\"";
        assert_eq!(svg.matches(written).count(), 2, "{svg}");
        assert_eq!(svg.matches("<rect x").count(), 6, "{svg}");
        assert!(!svg.contains("before"), "{svg}");
    }

    #[test]
    fn an_earlier_build_is_dashed_and_has_no_line_for_what_it_cannot_do() {
        let all = [of("pages", 64 << 20, None), of("pages", 128 << 20, None)];
        let svg = draw(&all, Some(&all));
        assert_eq!(svg.matches(", before</text>").count(), 4, "{svg}");
        assert!(!svg.contains("clone</text>"), "{svg}");
        assert!(!svg.contains("clone, before"), "{svg}");
    }
}
