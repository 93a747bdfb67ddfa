//! Draws a flame graph, as SVG: each function is as wide as its instructions, and stands above the
//! one that calls it.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Profile;
use crate::bench::svg::{self, escape};

/// Width of the picture, in pixels.
const WIDTH: f64 = 1200.0;
const LINE: f64 = 17.0;
const HEAD: f64 = 28.0;
/// Width of a letter, roughly, in pixels.
const LETTER: f64 = 6.6;
/// Width of the narrowest function that is drawn, in pixels.
const NARROWEST: f64 = 0.3;

/// A function at one place in the tree of calls.
#[derive(Default)]
struct Node<'a> {
    instructions: u64,
    callees: BTreeMap<&'a str, Node<'a>>,
}

impl<'a> Node<'a> {
    fn add(&mut self, stack: &'a [String], count: u64) {
        self.instructions += count;
        if let [first, rest @ ..] = stack {
            self.callees.entry(first).or_default().add(rest, count);
        }
    }

    fn depth(&self) -> usize {
        self.callees.values().map(|callee| 1 + callee.depth()).max().unwrap_or(0)
    }
}

/// Returns the flame graph of a profile of `rounds` rounds.
pub fn draw(profile: &Profile, rounds: u64, title: &str) -> String {
    let mut root = Node::default();
    for (stack, count) in &profile.stacks {
        root.add(stack, *count);
    }
    let height = HEAD + LINE * (root.depth() as f64 + 0.5);
    let rounds = rounds as f64;
    let title = format!("{}: {:.1} instructions", escape(title), root.instructions as f64 / rounds);
    let mut svg = svg::begin(WIDTH, height, &title);
    let scale = WIDTH / root.instructions.max(1) as f64;
    let mut picture = Picture { svg: &mut svg, scale, height, rounds };
    picture.callees(&root, 0.0, 0);
    svg::end(svg)
}

struct Picture<'a> {
    svg: &'a mut String,
    /// Pixels for each instruction.
    scale: f64,
    height: f64,
    rounds: f64,
}

impl Picture<'_> {
    fn callees(&mut self, node: &Node, mut x: f64, depth: usize) {
        for (name, callee) in &node.callees {
            self.function(name, callee, x, depth);
            x += callee.instructions as f64 * self.scale;
        }
    }

    fn function(&mut self, name: &str, node: &Node, x: f64, depth: usize) {
        let width = node.instructions as f64 * self.scale;
        if width < NARROWEST {
            return;
        }
        let y = self.height - LINE * (depth as f64 + 1.5);
        let count = node.instructions as f64 / self.rounds;
        let whole = escape(name);
        // Writing to a String does not fail.
        let _ = writeln!(
            self.svg,
            "<g><title>{whole}: {count:.1} instructions</title><rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
             height=\"{:.1}\" fill=\"{}\" stroke=\"white\" stroke-width=\"0.5\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text></g>",
            LINE - 1.0,
            color(name),
            x + 2.0,
            y + 12.0,
            escape(&fitting(name, width))
        );
        self.callees(node, x, depth + 1);
    }
}

/// Returns as much of the end of a name as fits.
fn fitting(name: &str, width: f64) -> String {
    let room = ((width - 4.0) / LETTER) as usize;
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= room {
        return name.to_owned();
    }
    if room < 4 {
        return String::new();
    }
    format!("..{}", letters[letters.len() - (room - 2)..].iter().collect::<String>())
}

/// Returns the color of a function's crate. There may be more crates than colors.
fn color(name: &str) -> &'static str {
    const COLORS: [&str; 8] =
        ["#f2a65a", "#e8c547", "#9ac26b", "#6fb7b7", "#8fa8d6", "#c39bd3", "#e59999", "#bfae94"];
    let name = name.trim_start_matches('<');
    let end = name.find("::").unwrap_or(name.len());
    let sum: usize = name[..end].bytes().map(usize::from).sum();
    COLORS[sum % COLORS.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::ROUNDS;

    #[test]
    fn a_function_is_drawn_once_for_all_that_it_does() {
        let stack = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let stacks = [(stack(&["a", "<b>"]), ROUNDS * 3), (stack(&["a"]), ROUNDS)];
        let svg = draw(&Profile { stacks: stacks.into() }, ROUNDS, "it");
        assert_eq!(svg.matches("<title>a: 4.0 instructions").count(), 1, "{svg}");
        assert_eq!(svg.matches("<title>&lt;b&gt;: 3.0 instructions").count(), 1, "{svg}");
        assert!(svg.contains("width=\"900.0\""), "three quarters of it: {svg}");
    }

    #[test]
    fn what_does_not_fit_loses_its_beginning() {
        assert_eq!(fitting("stasis_guest::exit", 200.0), "stasis_guest::exit");
        assert_eq!(fitting("stasis_guest::exit", 60.0), "..::exit");
        assert_eq!(fitting("stasis_guest::exit", 20.0), "");
    }
}
