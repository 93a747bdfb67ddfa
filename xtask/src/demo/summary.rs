//! [`Summary`]: what the demo says at the end.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Step;
use crate::{disk, report};

/// Names and values, in the order in which they were added.
pub struct Summary {
    lines: Vec<(&'static str, String)>,
}

impl Summary {
    pub(super) fn new(guest: &str, memory: u64) -> Self {
        let lines = vec![("guest", format!("{guest}, {} of RAM", report::size(memory)))];
        Self { lines }
    }

    pub(super) fn add(&mut self, what: &'static str, value: String) {
        self.lines.push((what, value));
    }

    /// Adds the checkpoint: what Stasis says of it, such as `checkpoint 3 "linux": 5120 pages
    /// stored, 60416 zero, 20987456 bytes, 1234 ms; guest stood still 87 us`, and the size that the
    /// host finds on the disk.
    pub(super) fn checkpointed(
        &mut self,
        answer: &[String],
        took: Duration,
        image: &Path,
    ) -> Result<()> {
        let number = |unit: &str| answer.iter().rev().find_map(|line| number_before(line, unit));
        if let (Some(stored), Some(zero)) = (number(" pages stored"), number(" zero")) {
            self.add("pages stored", format!("{stored} of {} ({zero} are zero)", stored + zero));
        }
        let store = disk::store(image, false)?;
        let length = store.list().last().context("the disk has no checkpoint")?.length;
        self.add("size of the file", format!("{} ({length} bytes)", report::size(length)));
        self.add("time to checkpoint", time(number(" ms"), took));
        if let Some(pause) = number(" us") {
            self.add("it stood still for", format!("{pause} us"));
        }
        Ok(())
    }

    pub(super) fn resumed(&mut self, answer: &[String], took: Duration) {
        let own = answer.iter().rev().find_map(|line| number_before(line, " ms"));
        self.add("time to resume", time(own, took));
    }

    pub(super) fn compared(&mut self, last: u64, reference: &[Step], resumed: &[Step]) {
        let range = |steps: &[Step]| match steps {
            [(from, _), .., (to, _)] => format!("{from} to {to}"),
            _ => "none".to_owned(),
        };
        let same = resumed.iter().filter(|step| reference.contains(step)).count();
        self.add("before the checkpoint", format!("steps up to {last} were seen"));
        self.add("the guest that ran on", format!("steps {}", range(reference)));
        self.add(
            "the resumed guest",
            format!("steps {}, no gap; {same} of them as the other one's", range(resumed)),
        );
        self.add("hashes", "each as the host foretells it".to_owned());
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.lines.iter().map(|(what, _)| what.len()).max().unwrap_or(0);
        self.lines.iter().try_for_each(|(what, value)| writeln!(out, "    {what:width$}  {value}"))
    }
}

fn time(own: Option<u64>, took: Duration) -> String {
    match own {
        Some(own) => report::seconds(Duration::from_millis(own)),
        None => report::seconds(took),
    }
}

/// Returns the number before `unit` in `line`.
fn number_before(line: &str, unit: &str) -> Option<u64> {
    let before = &line[..line.find(unit)?];
    let start = before.rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1);
    before[start..].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_before_their_units() {
        let line = "checkpoint 3 \"linux\": 5120 pages stored, 60416 zero, 20987456 bytes, 1234 ms; guest stood still 87 us";
        assert_eq!(number_before(line, " pages stored"), Some(5120));
        assert_eq!(number_before(line, " zero"), Some(60416));
        assert_eq!(number_before(line, " ms"), Some(1234));
        assert_eq!(number_before(line, " us"), Some(87));
        assert_eq!(number_before(line, " kings"), None);
    }
}
