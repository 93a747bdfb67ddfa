//! Numbers that a guest counts up, and what a resume may do to them.

use anyhow::{Result, ensure};

/// Numbers that follow one another, each once; behind a resume they may begin again at an earlier
/// one.
#[derive(Clone, Debug)]
pub struct Sequence {
    step: u64,
    last: u64,
    back_behind: Option<u64>,
}

impl Sequence {
    /// Returns numbers that grow by `step`, from `step` on.
    pub fn new(step: u64) -> Self {
        Self { step, last: 0, back_behind: None }
    }

    /// Returns the last number.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Notes that the guest was resumed from a checkpoint that was made after it had said `number`.
    /// The line that it was about to say then may be in pieces, of which nobody can make a line.
    pub fn resumed_behind(&mut self, number: u64) {
        self.back_behind = Some(number);
    }

    /// Returns whether no number was heard since the guest was resumed.
    pub fn is_to_go_back(&self) -> bool {
        self.back_behind.is_some()
    }

    /// Looks at a number that the guest says.
    pub fn look_at(&mut self, number: u64) -> Result<()> {
        let Self { step, last, .. } = *self;
        match self.back_behind.take() {
            None => ensure!(number == last + step, "{number} follows {last}"),
            Some(least) => ensure!(
                number.is_multiple_of(step) && (least + 1..=last + 2 * step).contains(&number),
                "the guest was resumed between {least} and {last}, and goes on with {number}"
            ),
        }
        self.last = number;
        Ok(())
    }
}
