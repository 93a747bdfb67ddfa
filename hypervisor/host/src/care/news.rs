//! How a periodic checkpoint has ended, and what of that a person hears.

use core::fmt;

use super::Care;
use crate::periodic::Behind;

/// An attempt at a guest's periodic checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<E> {
    /// When it began, in microseconds.
    pub began_us: u64,
    /// When it ended, in microseconds.
    pub ended_us: u64,
    /// Why there is no checkpoint, if there is none.
    pub failure: Option<E>,
    /// Whether it was told to make room for a command.
    pub was_told: bool,
}

/// What a person hears of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptReport<E> {
    /// How it has ended, if the one before has ended otherwise.
    pub outcome: Option<Outcome<E>>,
    /// Why checkpoints can't be made as often as is configured, the first time that they can't.
    pub behind: Option<Behind>,
}

/// How periodic checkpoints end from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<E> {
    /// The periodic checkpoints fail.
    Fails(E),
    /// The periodic checkpoints succeed again: the last one failed.
    SucceedsAgain,
}

impl<E: fmt::Display> fmt::Display for Outcome<E> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fails(why) => write!(out, "no periodic checkpoint: {why}"),
            Self::SucceedsAgain => out.write_str("periodic checkpoints succeed again"),
        }
    }
}

impl<G, E: Clone + PartialEq> Care<G, E> {
    /// Notes how a guest's periodic checkpoint has ended. Returns what is to be said of it: a
    /// failure once as long as it is the same, and nothing of a checkpoint that was given up for a
    /// command.
    pub fn stored(&mut self, number: usize, attempt: Attempt<E>) -> AttemptReport<E> {
        let Attempt { began_us, ended_us, failure, was_told } = attempt;
        self.courtesy.made(ended_us);
        let record = self.record(number);
        if was_told && failure.is_some() {
            if let Some(table) = &mut record.checkpoints {
                table.given_up(began_us, ended_us);
            }
            return AttemptReport { outcome: None, behind: None };
        }
        let behind = record.checkpoints.as_mut().and_then(|table| table.made(began_us, ended_us));
        let is_new = record.failure != failure;
        record.failure.clone_from(&failure);
        let outcome = is_new.then(|| failure.map_or(Outcome::SucceedsAgain, Outcome::Fails));
        AttemptReport { outcome, behind }
    }
}
