//! What the real-time guests print, and whether it is right.

use anyhow::{Context, Result, ensure};
use stasis_guests::pace::Beat;
use stasis_guests::workload::{Model, SMALL};

use crate::guests::sound;
use crate::sequence::Sequence;

/// A deadline that is missed by more means that the guest's time ran while the guest did not. A
/// host with much else to do keeps a machine waiting, and the machine's time runs; but not for so
/// long.
const LATE_US: u64 = 5_000_000;
/// The most that a guest in windows may be late, of which a host that is busy lets only some be
/// there: a window of 1 ms in 5 made 1.5 s of it, on a host with seven for each of its cores.
const WINDOW_LATE_US: u64 = 60_000_000;

/// The lines of a real-time guest, from its first on. They must all be there, each once, each with
/// the right hash.
#[derive(Clone)]
pub struct Beats {
    model: Model,
    sequence: Sequence,
    last: Option<Beat>,
    latest_us: u64,
    /// No deadline may be missed by more than this.
    limit_us: u64,
    /// Whether no deadline may be lost, that is, over when the next one was.
    all_met: bool,
}

impl Beats {
    /// Returns the beats of `pulse`.
    pub fn of_pulse() -> Self {
        Self::new(20)
    }

    /// Returns the beats of the application on ArceOS.
    pub fn of_arceos() -> Self {
        Self::new(10)
    }

    fn new(per_line: u64) -> Self {
        let (model, sequence) = (Model::of(SMALL), Sequence::new(per_line));
        Self { model, sequence, last: None, latest_us: 0, limit_us: LATE_US, all_met: false }
    }

    /// Demands that each deadline is met within this time: for a machine whose time is its own.
    pub fn within(self, limit_us: u64) -> Self {
        Self { limit_us, all_met: true, ..self }
    }

    /// Allows what a guest may lose that has windows, or shares a core, on a machine whose time is
    /// the host's.
    pub fn now_and_then(self) -> Self {
        Self { limit_us: WINDOW_LATE_US, all_met: false, ..self }
    }

    /// Looks at a line of the guest, which may be another one.
    pub fn look_at(&mut self, line: &str) -> Result<()> {
        sound(line)?;
        let Some(beat) = Beat::parse(line) else { return Ok(()) };
        self.sequence.look_at(beat.number).with_context(|| format!("\"{line}\""))?;
        let hash = self.model.hash_at(beat.number);
        ensure!(beat.hash == hash, "the hash should be {hash:016x}: \"{line}\"");
        ensure!(beat.lost == 0 || !self.all_met, "a deadline is lost: \"{line}\"");
        let limit = self.limit_us;
        ensure!(beat.late_us <= limit, "a deadline is missed by over {limit} us: \"{line}\"");
        self.latest_us = self.latest_us.max(beat.late_us);
        self.last = Some(beat);
        Ok(())
    }

    /// Returns the numbers of the beats.
    pub fn sequence(&mut self) -> &mut Sequence {
        &mut self.sequence
    }

    /// Returns the last line.
    pub fn last(&self) -> Result<Beat> {
        self.last.context("the guest has not told of a beat yet")
    }

    /// Returns the most that a deadline was missed by in all lines, in microseconds.
    pub fn latest_us(&self) -> u64 {
        self.latest_us
    }
}
