//! What the real-time guests print, and whether it is right.

use anyhow::{Context, Result, ensure};
use stasis_guests::pace::Beat;
use stasis_guests::workload::{Model, SMALL};

use crate::guests::sound;

/// A deadline that is missed by more means that the guest's time ran while the guest did not. A host with much else to
/// do keeps a machine waiting, and the machine's time runs; but not for so long.
const LATE_US: u64 = 5_000_000;

/// The lines of a real-time guest, from its first on. They must all be there, each once, each with the right hash.
pub struct Beats {
    model: Model,
    per_line: u64,
    last: Option<Beat>,
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
        Self { model: Model::of(SMALL), per_line, last: None }
    }

    /// Looks at a line of the guest, which may be another one.
    pub fn look_at(&mut self, line: &str) -> Result<()> {
        sound(line)?;
        let Some(beat) = Beat::parse(line) else { return Ok(()) };
        let expected = self.last.map_or(0, |last| last.number) + self.per_line;
        ensure!(beat.number == expected, "beat {expected} should come: \"{line}\"");
        let hash = self.model.hash_at(beat.number);
        ensure!(beat.hash == hash, "the hash of beat {expected} should be {hash:016x}: \"{line}\"");
        ensure!(beat.late_us < LATE_US, "the guest's time has jumped: \"{line}\"");
        self.last = Some(beat);
        Ok(())
    }

    /// The last line.
    pub fn last(&self) -> Result<Beat> {
        self.last.context("the guest has not told of a beat yet")
    }
}
