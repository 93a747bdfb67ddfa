//! What the real-time guests print, and whether it is right.

use anyhow::{Context, Result, ensure};
use stasis_guests::pace::Beat;
use stasis_guests::workload::{Model, SMALL};

use crate::guests::sound;
use crate::sequence::Sequence;

/// A deadline that is missed by more means that the guest's time ran while the guest did not. A host with much else to
/// do keeps a machine waiting, and the machine's time runs; but not for so long.
const LATE_US: u64 = 5_000_000;
/// The same for a guest in windows, of which a host that is busy lets only some be there: a window of 1 ms in 5 made 1.5 s
/// of it, on a host with seven for each of its cores.
const WINDOW_LATE_US: u64 = 60_000_000;

/// The lines of a real-time guest, from its first on. They must all be there, each once, each with the right hash.
#[derive(Clone)]
pub struct Beats {
    model: Model,
    sequence: Sequence,
    last: Option<Beat>,
    latest_us: u64,
    /// No deadline may be missed by more than this.
    limit_us: u64,
    /// None may be lost: over when the next was.
    all_met: bool,
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
        Self { model, sequence, last: None, latest_us: 0, limit_us: LATE_US, all_met: false }
    }

    /// Each deadline must be met within this time: for a machine whose time is its own.
    pub fn within(self, limit_us: u64) -> Self {
        Self { limit_us, all_met: true, ..self }
    }

    /// The guest has windows, or shares a core, on a machine whose time is the host's.
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
