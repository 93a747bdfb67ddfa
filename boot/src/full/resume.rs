//! Resuming guests from checkpoints, each in the place of the guest of its name or beside the
//! others.
//!
//! First, every checkpoint is read and checked: without the pages, which are
//! [loaded](crate::loading) and checked while the guest runs; or with them, which are loaded at the
//! same time, into memory that nobody uses yet ([`whole`]), if there is such. Then [`incoming`]
//! takes what the guests need, loads the memory that must be there and is not, and makes them run.

pub mod error;
mod incoming;
mod regions;
mod taking;
pub mod way;
mod whole;

use crate::answer::Answer;
use crate::guests::GuestError;
use crate::loading::origin::{Origin, OriginError};
use crate::storage::disk::Disk;
use crate::stream::open;
use crate::stream::progress::Progress;
use crate::stream::routines::routines;
use crate::work::Work;
use crate::{loading, meanwhile, notes, originals, registry};

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use error::{CheckpointReadError, ResumeError};
use incoming::{Kept, Resumable};
use stasis_arch::timer;
use stasis_host::admission::frames::Plan;
use stasis_host::sets;
use stasis_run::clock;
use stasis_run::domain::Ram;
use stasis_state::guest::GuestPowerState;
use stasis_state::{Baseline, Checkpoint, GuestState, LoadError};
use stasis_store::Store;
use way::{Disks, Way};

/// A checkpoint that was read and found good.
struct Found {
    number: u64,
    checkpoint: Checkpoint,
    /// Where its memory is, if the memory was not read.
    origin: Option<Origin>,
    /// The memory, if it was loaded.
    loaded: Option<Ram>,
    /// What its guest was called when it was stored.
    stored_name: String,
    /// Whether its guest takes memory as it writes.
    overcommits: bool,
}

/// Resumes a guest, beside the stored one under the name `copy` if that is given, or all guests of
/// a set. Nothing is changed before every checkpoint was read and found good, and the machine has
/// what the guests need.
///
/// # Errors
///
/// Why no guest was resumed.
pub fn resume(
    work: &mut Work,
    which: &str,
    copy: Option<&str>,
    way: Way,
    out: &mut Answer,
) -> Result<(), ResumeError> {
    let start = timer::counter();
    if let Some(name) = copy {
        let guests = registry::all();
        let guests = guests.iter().map(|domain| domain.name.as_str());
        sets::check_copy(which, name, guests)?;
    }
    work.with_store(|store| {
        let mut found = Vec::new();
        for number in store.meant_whole(which)? {
            found.push(find(store, number, copy, way, out)?);
        }
        if way.whole {
            load_all(store, &mut found, way, out)?;
        }
        let loaded = found.iter_mut().map(|one| one.loaded.take()).collect();
        let stored: Vec<Resumable> = found.iter().map(|one| one.stored(store)).collect();
        let mut kept = Kept::new();
        let resumed = incoming::resume(
            store,
            &stored,
            loaded,
            way,
            &mut kept,
            |store, n, target, can_give_up| {
                let Found { number, checkpoint, .. } = &found[n];
                let mut source = open(store, *number)?;
                source.allow_giving_up(can_give_up);
                let mut progress = Progress::new("loaded", out);
                let report = &mut |done, total| progress.report(done, total);
                stasis_state::read_memory(&mut source, checkpoint, target, routines(), report)?;
                Ok(())
            },
        );
        // Also of a resume that has failed after that: nobody else says where the content is.
        tell(&kept, way, out);
        for line in resumed? {
            let _ = writeln!(out, "{line}");
        }
        for Found { number, checkpoint, origin, stored_name, .. } in found {
            let domain = registry::named(checkpoint.state.guest.name_text());
            if let Some(domain) = &domain {
                originals::note(store.device_mut().task(), domain, &stored_name);
            }
            if let (Some(domain), Some(origin)) = (domain, origin) {
                loading::begin(store.device_mut().task(), domain, origin);
            }
            note(number, &checkpoint, start, out);
        }
        Ok(())
    })
}

/// Says which volumes were brought back, and what has what they had become.
fn tell(kept: &Kept, way: Way, out: &mut Answer) {
    for (volume, kept) in kept {
        let line = format!(
            "volume \"{volume}\" is as it was then; what it had become is volume \"{kept}\""
        );
        match way.disks {
            // Nobody has asked, so nobody reads an answer.
            Disks::Recovered => log::info!("{line}"),
            _ => drop(writeln!(out, "{line}")),
        }
    }
}

/// Loads and checks all of the guests' memory, as far as there is room for it beside what is in
/// use, and checks the rest. Guests that come beside others need that room in any case, so they
/// come first.
fn load_all(
    store: &mut Store<Disk>,
    found: &mut [Found],
    way: Way,
    out: &mut Answer,
) -> Result<(), ResumeError> {
    for in_place in [false, true] {
        let is_next = |one: &&mut Found| one.is_in_place() == in_place;
        found.iter_mut().filter(is_next).try_for_each(|one| one.load(store, way, out))?;
    }
    Ok(())
}

impl Found {
    /// Returns whether the guest takes the place of another one.
    fn is_in_place(&self) -> bool {
        registry::named(self.checkpoint.state.guest.name_text()).is_some()
    }

    /// Loads and checks all of the guest's memory; checks it alone if there is no room beside what
    /// is in use. Does nothing if that was checked.
    ///
    /// # Errors
    ///
    /// What is wrong with the checkpoint, or why the machine can't have its guest, which is known
    /// before the guest's memory is read.
    fn load(
        &mut self,
        store: &mut Store<Disk>,
        way: Way,
        out: &mut Answer,
    ) -> Result<(), ResumeError> {
        let Some(mut origin) = self.origin.take() else { return Ok(()) };
        let (number, state) = (self.number, &self.checkpoint.state);
        incoming::look(state, way, self.overcommits)?;
        if self.overcommits {
            return self.load_taking(store, origin, way, out);
        }
        match whole::take(state) {
            Some(mut ram) => {
                let baseline = baseline(store, number, state);
                whole::load(store, &mut origin, &mut ram, state, baseline, out)?;
                self.loaded = Some(ram);
            }
            None => {
                let name = Some(state.guest.name_text());
                read(store, number, name, way, out)?;
            }
        }
        Ok(())
    }

    /// Does as [`Self::load`] says of a guest that takes memory as it is loaded. If not all fits
    /// beside the guest in whose place this one comes, it is checked alone, and loaded when that
    /// has given its memory back: a checkpoint is not worse because it is large.
    fn load_taking(
        &mut self,
        store: &mut Store<Disk>,
        mut origin: Origin,
        way: Way,
        out: &mut Answer,
    ) -> Result<(), ResumeError> {
        let (number, state) = (self.number, &self.checkpoint.state);
        if taking::plan(state, origin.index()).map_err(GuestError::from)? == Plan::Beside {
            let task = store.device_mut().task();
            let mut ram = taking::beside(state, origin.index(), task).map_err(GuestError::from)?;
            let baseline = baseline(store, number, state);
            match whole::load(store, &mut origin, &mut ram, state, baseline, out) {
                Ok(()) => {
                    self.loaded = Some(ram);
                    return Ok(());
                }
                // Others have taken memory meanwhile.
                Err(why) if why.lacks_memory() && self.is_in_place() => {
                    ram.give_back(&mut || meanwhile::yield_now(store.device_mut().task()));
                }
                Err(why) => return Err(why.into()),
            }
        }
        read(store, number, Some(state.guest.name_text()), way, out)?;
        self.origin = Some(origin);
        Ok(())
    }

    /// Returns what is needed of it to resume the guest.
    fn stored(&self, store: &Store<Disk>) -> Resumable<'_> {
        let state = &self.checkpoint.state;
        let index = self.origin.as_ref().map(Origin::index);
        let (number, baseline) = (self.number, baseline(store, self.number, state));
        let overcommits = self.overcommits;
        Resumable { number, state, index, baseline, overcommits }
    }
}

/// Reads a checkpoint and checks it: without its memory, if the guest can do without that at first.
/// Gives its guest the name `copy` if there is one.
///
/// # Errors
///
/// What is wrong with the checkpoint, or why the machine can't have its guest, if that is known
/// before the guest's memory is read.
fn find(
    store: &mut Store<Disk>,
    number: u64,
    copy: Option<&str>,
    way: Way,
    out: &mut Answer,
) -> Result<Found, ResumeError> {
    let (mut checkpoint, origin) = match look_up(store, number)? {
        Some((checkpoint, mut origin)) => {
            // All else is checked as it is loaded.
            regions::check(store, &mut origin, &checkpoint.state)
                .map_err(CheckpointReadError::Memory)?;
            (checkpoint, Some(origin))
        }
        None => (read(store, number, copy, way, out)?, None),
    };
    if !checkpoint.skipped.is_empty() {
        let _ = writeln!(
            out,
            "checkpoint {number} has {}: the guest goes on without",
            checkpoint.skipped
        );
    }
    let stored_name = String::from(checkpoint.state.guest.name_text());
    let task = store.device_mut().task();
    let overcommits = taking::overcommits(task, &stored_name, copy.unwrap_or(&stored_name));
    if let Some(name) = copy {
        checkpoint.state.guest.set_name(name);
    }
    Ok(Found { number, checkpoint, origin, loaded: None, stored_name, overcommits })
}

/// Reads and checks a checkpoint without its memory; `None` if its memory can't be loaded while the
/// guest runs, as the file has no directory.
fn look_up(
    store: &mut Store<Disk>,
    number: u64,
) -> Result<Option<(Checkpoint, Origin)>, OriginError> {
    match Origin::open(store, number) {
        Err(OriginError::Read(LoadError::Format(stasis_state::Error::NoDirectory))) => Ok(None),
        found => found.map(Some),
    }
}

/// Reads a whole checkpoint and checks it. Its guest will be called `copy` if that is given.
///
/// # Errors
///
/// What is wrong with the checkpoint, or why the machine can't have its guest, which is known
/// before the guest's memory is read.
fn read(
    store: &mut Store<Disk>,
    number: u64,
    copy: Option<&str>,
    way: Way,
    out: &mut Answer,
) -> Result<Checkpoint, ResumeError> {
    let mut source = open(store, number)?;
    let mut progress = Progress::new("checked", out);
    let admits = &mut |state: &GuestState| {
        let mut state = state.clone();
        if let Some(name) = copy {
            state.guest.set_name(name);
        }
        // All of its memory will be taken.
        Ok(incoming::look(&state, way, false)?)
    };
    let report = &mut |done, total| progress.report(done, total);
    let read = stasis_state::read_if(&mut source, routines(), admits, report);
    Ok(read.map_err(CheckpointReadError::from)?)
}

/// Returns what a guest that was loaded from a checkpoint counts its changes from; `None` if the
/// next checkpoint can't share with that.
fn baseline(store: &Store<Disk>, number: u64, state: &GuestState) -> Option<Baseline> {
    let lineage = state.lineage.as_ref().filter(|_| store.has_maps())?;
    Some(Baseline { number, identity: lineage.identity() })
}

/// Notes that a guest was resumed, and says so. `start` is what the counter read when the command
/// began.
fn note(number: u64, checkpoint: &Checkpoint, start: u64, out: &mut Answer) {
    let Checkpoint { state, stats, .. } = checkpoint;
    let name = state.guest.name_text();
    let is_on = state.power_state() == GuestPowerState::On;
    let mut is_whole = true;
    if let Some(domain) = registry::named(name) {
        notes::resumed(&domain, number, is_on);
        is_whole = domain.look().missing == 0;
    }
    let (pages, bytes) = (stats.pages_with_content(), stats.bytes);
    let (does, then) = match is_on {
        true => ("goes on", ""),
        false => ("is off, as it was when it was stored", "; start starts it"),
    };
    let loaded = match is_whole {
        true => format!("pages loaded, {bytes} bytes, {} ms", clock::millis_since(start)),
        false => format!("pages to load, {bytes} bytes, {} us", clock::micros_since(start)),
    };
    let _ = writeln!(out, "guest \"{name}\" {does}: {pages} {loaded}{then}");
}
