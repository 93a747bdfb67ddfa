//! What has failed of guests' disks, such that the log says it and a guest that tries again and
//! again does not fill the log: [`Failures`].

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Display;

/// Microseconds for which nothing like a line that was said is said again.
const PAUSE_US: u64 = 60_000_000;

/// A failure that was said.
#[derive(Debug)]
struct Said {
    disk: String,
    what: &'static str,
    at_us: u64,
    /// The number of such failures since, which nobody was told of.
    since: u64,
}

/// The failures of guests' disks that were said in the last minute.
#[derive(Debug, Default)]
pub struct Failures(Vec<Said>);

impl Failures {
    /// Returns an empty list.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Takes note that `what` was asked of a disk and has failed. Returns what the log says; `None`
    /// if it has said so of this disk less than a minute before, whatever the reason was.
    pub fn note(
        &mut self,
        disk: &str,
        what: &'static str,
        why: &dyn Display,
        now_us: u64,
    ) -> Option<String> {
        let is_recent = |said: &Said| now_us.saturating_sub(said.at_us) < PAUSE_US;
        let place = self.0.iter().position(|said| said.disk == disk && said.what == what);
        if let Some(said) = place.map(|place| &mut self.0[place])
            && is_recent(said)
        {
            said.since += 1;
            return None;
        }
        let more = match place.map_or(0, |place| self.0.swap_remove(place).since) {
            0 => String::new(),
            since => format!("; {since} more since the last such line"),
        };
        // What is left is as many as there are disks that fail now.
        self.0.retain(is_recent);
        self.0.push(Said { disk: disk.to_string(), what, at_us: now_us, since: 0 });
        Some(format!("disk \"{disk}\": {what} has failed: {why}{more}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_said_once_in_a_minute_for_each_disk_and_kind() {
        let mut failures = Failures::new();
        let mut note = |disk, what, now_us| failures.note(disk, what, &"it is full", now_us);
        let line = "disk \"root\": a write has failed: it is full";
        assert_eq!(note("root", "a write", 5).as_deref(), Some(line));
        assert_eq!(note("root", "a write", 6), None);
        assert!(note("root", "a flush", 6).is_some());
        assert!(note("data", "a write", 6).is_some());
        assert_eq!(note("root", "a write", PAUSE_US + 4), None);
        let more = format!("{line}; 2 more since the last such line");
        assert_eq!(note("root", "a write", PAUSE_US + 5), Some(more));
        assert_eq!(note("root", "a write", 3 * PAUSE_US).as_deref(), Some(line));
    }

    #[test]
    fn what_is_long_ago_takes_no_memory() {
        let mut failures = Failures::new();
        for n in 0..1000 {
            let _ = failures.note(&n.to_string(), "a write", &"it is full", n * PAUSE_US);
        }
        assert_eq!(failures.0.len(), 1);
    }
}
