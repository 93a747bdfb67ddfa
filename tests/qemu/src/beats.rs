//! What the real-time guests print, and whether it is right.

use anyhow::{Context, Result, ensure};
use stasis_guests::pace::Beat;
use stasis_guests::workload::{Model, SMALL};

use crate::guests::sound;
use crate::sequence::Sequence;

/// A deadline that is missed by more means that the guest's time ran while the guest did not. A host with much else to
/// do keeps a machine waiting, and the machine's time runs; but not for so long.
const LATE_US: u64 = 5_000_000;

/// The lines of a real-time guest, from its first on. They must all be there, each once, each with the right hash.
#[derive(Clone)]
pub struct Beats {
    model: Model,
    sequence: Sequence,
    last: Option<Beat>,
    latest_us: u64,
    /// No deadline may be lost, and none missed by more than this.
    strict_us: Option<u64>,
}

impl Beats {
    /// Those of `pulse`.
    pub fn of_pulse() -> Self {
        Self::new(20)
    }

    /// Those of the application on ArceOS.
    pub fn of_arceos() -> Self {
        Self::new(10)
    }

    fn new(per_line: u64) -> Self {
        let (model, sequence) = (Model::of(SMALL), Sequence::new(per_line));
        Self { model, sequence, last: None, latest_us: 0, strict_us: None }
    }

    /// Each deadline must be met within this time: for a machine whose time is its own.
    pub fn within(self, late_us: u64) -> Self {
        Self { strict_us: Some(late_us), ..self }
    }

    /// The same without a limit.
    pub fn whenever(self) -> Self {
        Self { strict_us: None, ..self }
    }

    /// Looks at a line of the guest, which may be another one.
    pub fn look_at(&mut self, line: &str) -> Result<()> {
        sound(line)?;
        let Some(beat) = Beat::parse(line) else { return Ok(()) };
        self.sequence.look_at(beat.number).with_context(|| format!("\"{line}\""))?;
        let hash = self.model.hash_at(beat.number);
        ensure!(beat.hash == hash, "the hash should be {hash:016x}: \"{line}\"");
        ensure!(beat.late_us < LATE_US, "the guest's time has jumped: \"{line}\"");
        if let Some(limit) = self.strict_us {
            ensure!(beat.lost == 0, "a deadline is lost: \"{line}\"");
            ensure!(beat.late_us <= limit, "a deadline is missed by over {limit} us: \"{line}\"");
        }
        self.latest_us = self.latest_us.max(beat.late_us);
        self.last = Some(beat);
        Ok(())
    }

    /// The numbers of the beats.
    pub fn sequence(&mut self) -> &mut Sequence {
        &mut self.sequence
    }

    /// The last line.
    pub fn last(&self) -> Result<Beat> {
        self.last.context("the guest has not told of a beat yet")
    }

    /// The most that a deadline was missed by in all lines, in microseconds.
    pub fn latest_us(&self) -> u64 {
        self.latest_us
    }
}
