//! `cargo xtask bench --profile NAME`: shows where an operation spends its instructions.
//!
//! QEMU writes every instruction of the operation's rounds to its [`log`], between two stops of
//! [`debugger`]. [`functions`] knows for each address the function that it is in, together with
//! those that it was inlined into. Calls and returns in the [`trace`] give the rest of the stack.
//! [`Profile`] adds the instructions up, and [`flame`] draws them.

pub mod debugger;
pub mod flame;
pub mod functions;
pub mod log;
pub mod switched;
pub mod trace;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};

use super::ROUNDS;
use super::meter::Meter;
use crate::report;
use crate::workspace::{read, write};
use functions::Functions;
use log::Event;

/// Number of functions that are printed.
const LINES: usize = 40;

/// The number of instructions by the stack of functions that they are in: the outermost first, the
/// innermost last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    stacks: BTreeMap<Vec<String>, u64>,
}

impl Profile {
    /// Returns each stack with the number of its instructions.
    pub fn stacks(&self) -> impl Iterator<Item = (&[String], u64)> {
        self.stacks.iter().map(|(stack, count)| (&stack[..], *count))
    }

    /// Returns what this profile has more than another one, of each stack.
    pub fn beyond(mut self, other: &Self) -> Self {
        for (stack, count) in &mut self.stacks {
            *count = count.saturating_sub(other.stacks.get(stack).copied().unwrap_or_default());
        }
        self
    }

    fn total(&self) -> u64 {
        self.stacks.values().sum()
    }

    /// Returns for each function the number of its own instructions, and the number with those of
    /// everything that it calls.
    fn by_function(&self) -> Vec<(&str, u64, u64)> {
        let mut functions = BTreeMap::<&str, (u64, u64)>::new();
        for (stack, count) in &self.stacks {
            for (depth, name) in stack.iter().enumerate() {
                if depth + 1 == stack.len() {
                    functions.entry(name).or_default().0 += count;
                }
                // A function that calls itself counts only once.
                if !stack[..depth].contains(name) {
                    functions.entry(name).or_default().1 += count;
                }
            }
        }
        let mut list: Vec<_> =
            functions.into_iter().map(|(name, (own, all))| (name, own, all)).collect();
        list.sort_by_key(|(_, own, all)| std::cmp::Reverse((*own, *all)));
        list
    }

    /// Returns the table for a person: the instructions of one of `rounds` rounds.
    fn table(&self, rounds: u64) -> String {
        let round = |count: u64| count as f64 / rounds as f64;
        let mut text = format!(
            "Instructions of a round, {:.1} in all\n\n{:>8} {:>6} {:>10}  function\n",
            round(self.total()),
            "alone",
            "share",
            "with calls"
        );
        for (name, own, all) in self.by_function().into_iter().take(LINES) {
            let share = own as f64 / self.total().max(1) as f64 * 100.0;
            // Writing to a String does not fail.
            let _ =
                writeln!(text, "{:>8.1} {share:>5.1}% {:>10.1}  {name}", round(own), round(all));
        }
        text
    }

    /// Prints the table of `rounds` rounds, and draws the flame graph of `name` into the file
    /// `svg`.
    pub fn show(&self, rounds: u64, name: &str, svg: &Path) -> Result<()> {
        report::print(|out| write!(out, "{}", self.table(rounds)))?;
        write(svg, flame::draw(self, rounds, name).as_bytes())
    }
}

/// Profiles `operation`, prints the table, and draws the flame graph into the file `svg`.
pub fn main(meter: &Meter, elf: &Path, guest: &Path, operation: &str, svg: &Path) -> Result<()> {
    let names: Vec<_> = meter.alone()?.results.into_iter().map(|(name, _)| name).collect();
    let number = names.iter().position(|name| name == operation).with_context(|| {
        format!("the guest measures no \"{operation}\", but {}", names.join(", "))
    })?;
    let (elf, guest) = (read(elf)?, read(guest)?);
    let functions = Functions::new(&elf)?;
    let mark = functions::address_of(&guest, "bench_mark")?;
    let mut calls = trace::Calls::new(&functions);
    debugger::trace(meter.traced(operation), mark, number, 1, |event| {
        if let Event::Instruction(core, pc) = event {
            calls.step(core, pc);
        }
    })?;
    calls.profile().show(ROUNDS, operation, svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_has_its_own_instructions_and_those_of_what_it_calls() {
        let stack = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let stacks = [(stack(&["a", "b"]), 3), (stack(&["a"]), 2), (stack(&["a", "b", "a"]), 1)];
        let profile = Profile { stacks: stacks.into() };
        assert_eq!(profile.by_function(), [("a", 3, 6), ("b", 3, 4)]);
    }

    #[test]
    fn what_a_profile_has_more_than_another_is_told_by_stack() {
        let stack = |name: &str| vec![name.to_owned()];
        let more = [(stack("a"), 5), (stack("b"), 2), (stack("c"), 1)];
        let less = [(stack("a"), 3), (stack("b"), 4)];
        let beyond = Profile { stacks: more.into() }.beyond(&Profile { stacks: less.into() });
        assert_eq!(beyond.by_function(), [("a", 2, 2), ("c", 1, 1), ("b", 0, 0)]);
    }
}
