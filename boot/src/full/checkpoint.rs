//! Checkpoints: storing guests, alone or several at one instant. [`crate::resume`] brings them
//! back, [`crate::catalog`] has the commands about what is stored.

mod base;

use crate::answer::Answer;
use crate::channel::events;
use crate::identity;
use crate::instant::{self, Instant, InstantError, Stored, Taken};
use crate::loading::{self, Unfinished};
use crate::storage::disk::Disk;
use crate::storage::error::{DiskError, NoStore};
use crate::stream::ToStore;
use crate::stream::error::StreamError;
use crate::stream::progress::Progress;
use crate::stream::routines::routines;
use crate::typed::{self, GivenUp};
use crate::work::Work;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use base::{Base, Origin};
use core::fmt::Write;
use stasis_arch::timer;
use stasis_guest::given::Unstorable;
use stasis_host::sets::{self, SetNameError};
use stasis_host::stored::{self, Keep};
use stasis_memory::ram::Since;
use stasis_run::clock;
use stasis_run::domain::Domain;
use stasis_state::guest::Lineage;
use stasis_state::{Baseline, Capture, Index, ReadRam, SaveError, Stats};
use stasis_store::{Error, Instant as Volume, Store};

/// Why no guest was stored.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A guest has a device of the machine, whose state can't be stored.
    #[error(transparent)]
    Unstorable(#[from] Unstorable),
    /// The guests could not be taken as they are.
    #[error(transparent)]
    Instant(#[from] InstantError),
    /// There is no store.
    #[error(transparent)]
    NoStore(#[from] NoStore),
    /// The set can't be called so.
    #[error(transparent)]
    Name(#[from] SetNameError),
    /// The store has failed, or has no room.
    #[error(transparent)]
    Store(#[from] Error<DiskError>),
    /// The guest's state breaks a rule of the format.
    #[error(transparent)]
    State(#[from] stasis_state::Error),
    /// The checkpoint was not written to its end.
    #[error(transparent)]
    Write(SaveError<StreamError>),
    /// The command was given up.
    #[error(transparent)]
    GivenUp(#[from] GivenUp),
    /// Stasis itself has written to the guest's memory after the instant, and could not keep what
    /// it was.
    #[error(
        "Stasis wrote to the guest's memory while it was stored, and had no room to keep what was there; try again"
    )]
    Overwritten,
    /// The rest of a guest's memory was not loaded.
    #[error(transparent)]
    Unfinished(#[from] Unfinished),
    /// One guest of several was not stored.
    #[error("guest \"{guest}\": {error}")]
    Member {
        /// The guest's name.
        guest: String,
        /// Why it was not stored.
        error: Box<CheckpointError>,
    },
}

impl From<SaveError<StreamError>> for CheckpointError {
    fn from(error: SaveError<StreamError>) -> Self {
        match error {
            SaveError::Sink(StreamError::GivenUp(given_up)) => Self::GivenUp(given_up),
            other => Self::Write(other),
        }
    }
}

impl CheckpointError {
    /// Returns whether the checkpoint that this one should have shared with is not what it should
    /// be, or was not read. The next one must not need it: a sector that stays bad would stop them
    /// all.
    fn is_of_base(&self) -> bool {
        let Self::Write(error) = self else { return false };
        match error {
            SaveError::Base(_) | SaveError::Sink(StreamError::Base(_)) => true,
            SaveError::Sink(StreamError::Store(error)) => {
                error.is_of_damage() || matches!(error, Error::NoSuchCheckpoint { .. })
            }
            _ => false,
        }
    }
}

/// Stores guests as they are at one instant. The guests stand still for that instant, and run while
/// their checkpoints are written. One guest is stored under `name`. Several are a set, each under
/// `name/` and its own name, and the store gets either all of them or none. `keep` says which older
/// checkpoints are deleted.
///
/// # Errors
///
/// Why nothing was stored, in one line.
pub fn store(
    work: &mut Work,
    domains: &[&Domain],
    name: Option<&str>,
    keep: Option<Keep>,
    out: &mut Answer,
) -> Result<(), CheckpointError> {
    for domain in domains {
        domain.given().check_storable(&domain.name)?;
    }
    work.with_store(|store| {
        let guests: Vec<&str> = domains.iter().map(|domain| domain.name.as_str()).collect();
        let is_taken = |set: &str| store.find_set(set).is_ok();
        let names = sets::names(&guests, name, store.next_number(), is_taken)?;
        for domain in domains {
            loading::finish(store, domain, out)?;
        }
        let result = store_all(store, domains, &names, keep, out);
        if result.is_err() {
            store.discard_staged();
        }
        result
    })
}

/// Takes the guests, writes them, commits them, and says which numbers the checkpoints have got.
/// Numbers are known only after the commit.
fn store_all(
    store: &mut Store<Disk>,
    domains: &[&Domain],
    names: &[String],
    keep: Option<Keep>,
    out: &mut Answer,
) -> Result<(), CheckpointError> {
    if let (Some(keep), [name]) = (keep, names) {
        let needed = loading::newest_needed(store.device_mut().task());
        let keep = Keep { spared: keep.spared.max(needed), ..keep };
        stored::make_way(store, name, keep)?;
    }
    store.check_room_for(names.len())?;
    let origins: Vec<Origin> = domains.iter().map(|domain| Origin::of(store, domain)).collect();
    let taken = instant::take(store.device_mut().task(), domains, Since::Baseline)?;
    let Taken { mut guests, mut regions, instant } = taken;
    // Before anybody's request of a disk is done: the volumes are as they were at the instant.
    let volumes = guests.iter().map(|guest| take_volumes(store, guest));
    let volumes: Vec<Vec<Volume>> = volumes.collect::<Result<_, _>>()?;
    regions.begin_reading(&mut || store.device_mut().task().yield_now());
    let mut lines = Vec::new();
    let mut identities = Vec::new();
    let mut indexes = Vec::new();
    let mut last = 0;
    let with_disks = guests.iter_mut().zip(volumes);
    for ((name, (guest, volumes)), origin) in names.iter().zip(with_disks).zip(origins) {
        let domain = guest.domain;
        let regions = regions.of(domain);
        let shared: Vec<&dyn ReadRam> = regions.iter().map(|one| one as &dyn ReadRam).collect();
        let lineage = Lineage::new(identity::make(), origin.parent, instant.set);
        identities.push(lineage.identity());
        guest.state.lineage = Some(lineage);
        let is_last = lines.len() + 1 == names.len();
        let member = Member { name, guest, volumes, base: origin.base, is_last };
        let (number, index, line) =
            store_one(store, member, &shared, &instant, out).map_err(|error| match names {
                [_] => error,
                _ => CheckpointError::Member { guest: domain.name.clone(), error: Box::new(error) },
            })?;
        last = number;
        lines.push(line);
        indexes.push(Arc::new(index));
    }
    let stored = sets::numbers(last, lines.len()).zip(lines).zip(identities).zip(indexes);
    for (((((number, line), identity), index), guest), name) in stored.zip(guests).zip(names) {
        let _ = writeln!(out, "checkpoint {number} {line}");
        let still_us = guest.ran.then_some(instant.pause_micros);
        events::checkpoint(&guest.domain.name, number, name, still_us);
        let (task, baseline) = (store.device_mut().task(), Baseline { number, identity });
        base::remember(task, &guest.domain.name, Base { baseline, index });
        guest.ram.committed(baseline, task);
    }
    Ok(())
}

/// Takes the volumes of a guest as they are. Nobody has written to them since the instant at which
/// the guest was taken.
fn take_volumes(store: &mut Store<Disk>, guest: &Stored) -> Result<Vec<Volume>, Error<DiskError>> {
    let names: Vec<&str> = guest.state.devices.virtio.volumes().collect();
    store.take_instants(&names)
}

/// A guest that is written.
struct Member<'m, 'd> {
    name: &'m str,
    guest: &'m mut Stored<'d>,
    /// The guest's volumes at the instant.
    volumes: Vec<Volume>,
    /// What the checkpoint shares with; `None` if all of the memory counts as changed.
    base: Option<Base>,
    /// Whether it is the last one of those that are stored together.
    is_last: bool,
}

/// Writes one guest and the regions that it shares. With the last one, this checkpoint and all that
/// were staged before it are in the store then. Returns the number of the checkpoint, which is 0
/// before the commit, the index of its memory, and the line that describes it.
fn store_one(
    store: &mut Store<Disk>,
    member: Member,
    shared: &[&dyn ReadRam],
    instant: &Instant,
    out: &mut Answer,
) -> Result<(u64, Index, String), CheckpointError> {
    let start = timer::counter();
    let written = write(store, &member, shared, instant.wall_time, out);
    let Member { name, guest: Stored { domain, ran, ram, .. }, base, .. } = member;
    // Whatever becomes of the other members: this guest may write all it likes without a copy.
    ram.end_reading();
    if base.is_some() && matches!(&written, Err(error) if error.is_of_base()) {
        domain.forget_baseline();
    }
    let (number, stats, index) = written?;
    let (pages, zero) = (stats.pages_with_content(), stats.pages_zero);
    let mut line = format!("\"{name}\": {pages} pages stored, {zero} zero, {} bytes", stats.bytes);
    if stats.bytes_shared > 0 {
        let _ = write!(line, ", {} of them shared", stats.bytes_shared);
    }
    let _ = write!(line, ", {} ms", clock::millis_since(start));
    if *ran {
        let _ = write!(line, "; guest stood still {} us", instant.pause_micros);
    }
    Ok((number, index, line))
}

/// Writes one guest to the store, and commits or stages it. Returns its number, which is 0 before
/// the commit, its size, and the index of its memory.
fn write(
    store: &mut Store<Disk>,
    member: &Member,
    shared: &[&dyn ReadRam],
    wall_time: u64,
    out: &mut Answer,
) -> Result<(u64, Stats, Index), CheckpointError> {
    let Member { name, guest: Stored { state, ram, .. }, volumes, base, is_last } = member;
    ram.begin_reading(&mut || store.device_mut().task().yield_now());
    let mut capture = Capture::new(state.records(), ram, shared, routines())?;
    if let Some(Base { baseline, index }) = base {
        capture = capture.since(*baseline, index);
    }
    typed::check_given_up()?;
    let mut writer = store.begin_open(name, wall_time)?;
    if let Some(lineage) = &state.lineage {
        writer.set_identity(*lineage.identity, *lineage.parent);
    }
    writer.set_instants(volumes.clone())?;
    let mut sink = ToStore { writer, base: base.as_ref().map(|base| base.baseline.number) };
    let mut progress = Progress::new("stored", out);
    let report = &mut |done, total| progress.report(done, total);
    let (stats, index) = capture.write_indexed(&mut sink, report)?;
    sink.writer.set_pages(stats.pages_with_content());
    if !ram.is_true() {
        return Err(CheckpointError::Overwritten);
    }
    if *is_last {
        return Ok((sink.writer.commit()?.number, stats, index));
    }
    sink.writer.stage()?;
    Ok((0, stats, index))
}
