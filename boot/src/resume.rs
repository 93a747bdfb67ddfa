//! Resuming guests from checkpoints, each in the place of the guest of its name or beside the others.
//!
//! First, every checkpoint is read and checked. Then [`incoming`] takes what the guests need, loads their memory, and makes them run.

mod incoming;

use crate::answer::Answer;
use crate::guests::GuestError;
use crate::storage::{Disk, DiskError, NoStore};
use crate::stream::{Progress, StreamError, open, routines};
use crate::typed::GivenUp;
use crate::work::Work;
use crate::{notes, registry};
use alloc::vec::Vec;
use core::fmt::Write;
use stasis_arch::timer;
use stasis_host::admission::{LoadFailed, Refusal};
use stasis_host::sets::{self, CopyError};
use stasis_run::clock;
use stasis_state::guest::GuestPowerState;
use stasis_state::{Checkpoint, GuestState, LoadError};
use stasis_store::{Error, Store};

/// Why no guest was resumed.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// The guest can't be resumed under another name.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// There is no store.
    #[error(transparent)]
    NoStore(#[from] NoStore),
    /// The store has failed, or has no such checkpoint.
    #[error(transparent)]
    Store(#[from] Error<DiskError>),
    /// A checkpoint is not good. Nothing was changed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A guest was refused. Nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The machine lacks memory or cores for a guest, or can't have one more guest.
    #[error(transparent)]
    NoRoom(#[from] GuestError),
    /// The memory of a guest was not loaded to its end.
    #[error("{0}")]
    Load(LoadFailed<ReadError>),
}

/// Why a checkpoint was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store has failed.
    #[error(transparent)]
    Store(#[from] Error<DiskError>),
    /// The command was given up.
    #[error(transparent)]
    GivenUp(GivenUp),
    /// The checkpoint was not read, or breaks a rule of the format.
    #[error(transparent)]
    Load(LoadError<StreamError>),
}

impl From<LoadFailed<ReadError>> for ResumeError {
    fn from(failed: LoadFailed<ReadError>) -> Self {
        Self::Load(failed)
    }
}

impl From<LoadError<StreamError>> for ReadError {
    fn from(error: LoadError<StreamError>) -> Self {
        match error {
            LoadError::Source(StreamError::GivenUp(given_up)) => Self::GivenUp(given_up),
            other => Self::Load(other),
        }
    }
}

/// Resumes a guest, beside the stored one under the name `copy` if that is given, or all guests of a set. Nothing is changed before every
/// checkpoint was read and found good, and the machine has what the guests need. With `any_speed`, their counter may have any frequency.
///
/// # Errors
///
/// Why no guest was resumed.
pub fn resume(
    work: &mut Work,
    which: &str,
    copy: Option<&str>,
    any_speed: bool,
    out: &mut Answer,
) -> Result<(), ResumeError> {
    let start = timer::counter();
    if let Some(name) = copy {
        let guests = registry::all();
        let guests = guests.iter().map(|domain| domain.name.as_str());
        sets::check_copy(which, name, guests)?;
    }
    work.with_store(|store| {
        let mut checkpoints = Vec::new();
        for number in store.meant_whole(which)? {
            checkpoints.push((number, read(store, number, copy, any_speed, out)?));
        }
        let states: Vec<&GuestState> =
            checkpoints.iter().map(|(_, checkpoint)| &checkpoint.state).collect();
        let kept =
            incoming::resume(store, &states, any_speed, |store, index, target, can_give_up| {
                let (number, checkpoint) = &checkpoints[index];
                let mut source = open(store, *number)?;
                source.allow_giving_up(can_give_up);
                let mut progress = Progress::new("loaded", out);
                let report = &mut |done, total| progress.report(done, total);
                stasis_state::read_memory(&mut source, checkpoint, target, routines(), report)?;
                Ok(())
            })?;
        for line in kept {
            let _ = writeln!(out, "{line}");
        }
        for (number, checkpoint) in &checkpoints {
            note(*number, checkpoint, start, out);
        }
        Ok(())
    })
}

/// Reads a whole checkpoint and checks it. Gives its guest the name `copy` if there is one.
///
/// # Errors
///
/// What is wrong with the checkpoint, or why the machine can't have its guest, which is known before the guest's memory is read.
fn read(
    store: &mut Store<Disk>,
    number: u64,
    copy: Option<&str>,
    any_speed: bool,
    out: &mut Answer,
) -> Result<Checkpoint, ResumeError> {
    let mut source = open(store, number)?;
    let mut progress = Progress::new("checked", out);
    let admits = &mut |state: &GuestState| {
        let mut state = state.clone();
        if let Some(name) = copy {
            state.guest.set_name(name);
        }
        Ok(incoming::look(&state, any_speed)?)
    };
    let report = &mut |done, total| progress.report(done, total);
    let mut checkpoint =
        stasis_state::read_if(&mut source, routines(), admits, report).map_err(ReadError::from)?;
    if !checkpoint.skipped.is_empty() {
        let _ = writeln!(
            out,
            "checkpoint {number} has {}: the guest goes on without",
            checkpoint.skipped
        );
    }
    if let Some(name) = copy {
        checkpoint.state.guest.set_name(name);
    }
    Ok(checkpoint)
}

/// Notes that a guest was resumed, and says so. `start` is what the counter read when the command began.
fn note(number: u64, checkpoint: &Checkpoint, start: u64, out: &mut Answer) {
    let Checkpoint { state, stats, .. } = checkpoint;
    let name = state.guest.name_text();
    let is_on = state.power_state() == GuestPowerState::On;
    if let Some(domain) = registry::named(name) {
        notes::resumed(&domain, number, is_on);
    }
    let (pages, bytes, millis) = (stats.pages_stored, stats.bytes, clock::millis_since(start));
    let (does, then) = match is_on {
        true => ("goes on", ""),
        false => ("is off, as it was when it was stored", "; start starts it"),
    };
    let _ = writeln!(
        out,
        "guest \"{name}\" {does}: {pages} pages loaded, {bytes} bytes, {millis} ms{then}"
    );
}
