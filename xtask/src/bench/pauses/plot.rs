//! Draws how long guests stand still over their memory, as SVG. Both scales are logarithmic.

use std::fmt::Write;

use super::Pauses;
use crate::bench::svg::{self, text};

/// Width and height of the picture, in pixels.
const SIZE: (f64, f64) = (800.0, 390.0);
/// Where the lowest memory and the lowest cost are.
const ORIGIN: (f64, f64) = (90.0, 350.0);
/// Pixels for twice as much memory.
const DOUBLE: f64 = 120.0;
/// Pixels for ten times as many instructions.
const TENFOLD: f64 = 95.0;
/// Height of a line of text, in pixels.
const LETTER: f64 = 13.0;
/// The smallest memory in the picture, in MiB.
const LEAST_MIB: u64 = 64;

/// A line of the picture: what it shows, its color, and its value in thousands of instructions.
type Line = (&'static str, &'static str, fn(&Pauses) -> u64);

/// The lines, the highest first.
const LINES: [Line; 4] = [
    ("until a clone runs", "#b8b8b8", |pauses| pauses.cloned),
    ("still for a clone", "#d09030", |pauses| pauses.clone),
    ("still for the first checkpoint", "#3a6ea5", |pauses| pauses.first.pause),
    ("still for another one", "#4c9a5b", |pauses| pauses.later.pause),
];

/// Returns the picture: a line for the guests `pages`, a square for Linux.
pub fn draw(all: &[Pauses]) -> String {
    let (width, height) = SIZE;
    let title =
        "Thousands of instructions, by the MiB of a guest's memory; the squares are an idle Linux";
    let mut svg = svg::begin(width, height, title);
    for thousands in [1, 10, 100, 1000] {
        let y = y(thousands);
        let right = x(1 << 30);
        // Writing to a String does not fail.
        let _ = writeln!(
            svg,
            "<line x1=\"{}\" y1=\"{y:.1}\" x2=\"{right:.1}\" y2=\"{y:.1}\" stroke=\"#e0e0e0\"/>",
            ORIGIN.0
        );
        text(&mut svg, 30.0, y + 4.0, &thousands.to_string());
    }
    for mib in [64, 128, 256, 512, 1024] {
        text(&mut svg, x(mib << 20) - 10.0, ORIGIN.1 + 20.0, &mib.to_string());
    }
    // The lines come from the highest to the lowest: no name may be written over the one before.
    let mut lowest = 0.0_f64;
    for (name, color, value) in LINES {
        if let Some((x, y)) = line(&mut svg, all, color, value) {
            lowest = (y + 4.0).max(lowest + LETTER);
            text(&mut svg, x + 8.0, lowest, name);
        }
    }
    svg::end(svg)
}

/// Draws a line, and returns where it ends; `None` if it has no points.
fn line(
    svg: &mut String,
    all: &[Pauses],
    color: &str,
    value: fn(&Pauses) -> u64,
) -> Option<(f64, f64)> {
    let (linux, pages): (Vec<&Pauses>, Vec<&Pauses>) =
        all.iter().partition(|pauses| pauses.guest == "linux");
    let at = |pauses: &&Pauses| (x(pauses.memory), y(value(pauses)));
    let points: Vec<_> = pages.iter().map(at).collect();
    let path: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    // Writing to a String does not fail.
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>",
        path.join(" ")
    );
    for (x, y) in linux.iter().map(at) {
        let (left, top) = (x - 4.0, y - 4.0);
        let _ = writeln!(
            svg,
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"8\" height=\"8\" fill=\"{color}\"/>"
        );
    }
    points.last().copied()
}

/// Returns the horizontal position of this many bytes of memory.
fn x(memory: u64) -> f64 {
    ORIGIN.0 + DOUBLE * ((memory >> 20).max(1) as f64 / LEAST_MIB as f64).log2()
}

/// Returns the vertical position of this many thousands of instructions.
fn y(thousands: u64) -> f64 {
    ORIGIN.1 - TENFOLD * (thousands.max(1) as f64).log10()
}

#[cfg(test)]
mod tests {
    use super::super::Stored;
    use super::*;

    #[test]
    fn a_cost_that_does_not_grow_is_a_level_line_and_linux_a_square() {
        let first = Stored { pause: 10, written: 1 };
        let of = |guest: &str, memory, cloned| Pauses {
            guest: guest.to_owned(),
            memory,
            first,
            later: first,
            clone: 100,
            cloned,
        };
        let all =
            [of("pages", 64 << 20, 100), of("pages", 128 << 20, 1000), of("linux", 64 << 20, 10)];
        let svg = draw(&all);
        assert_eq!(svg.matches("points=\"90.0,255.0 210.0,255.0\"").count(), 2, "{svg}");
        assert!(svg.contains("points=\"90.0,160.0 210.0,65.0\""), "{svg}");
        assert_eq!(svg.matches("<rect x").count(), 4, "{svg}");
    }
}
