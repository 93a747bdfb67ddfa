//! Checkpoints: storing guests, alone or several at one instant. [`crate::resume`] brings them back, [`crate::catalog`] has the commands about
//! what is stored.

use crate::answer::Answer;
use crate::instant::{self, Instant, InstantError, Stored, Taken};
use crate::loading::{self, Unfinished};
use crate::storage::{Disk, DiskError, NoStore};
use crate::stream::{Progress, StreamError, ToStore, routines};
use crate::typed::{self, GivenUp};
use crate::work::Work;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use stasis_arch::timer;
use stasis_guest::given::Unstorable;
use stasis_host::sets::{self, SetNameError};
use stasis_host::stored::{self, Keep};
use stasis_memory::ram::Since;
use stasis_run::clock;
use stasis_run::domain::Domain;
use stasis_state::{Baseline, Plan, ReadRam, SaveError};
use stasis_store::{Error, Store};

/// Identity of a checkpoint that has none: nothing is shared with it.
const NO_IDENTITY: u128 = 0;

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
    /// Stasis itself has written to the guest's memory after the instant, and could not keep what it was.
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

/// Stores guests as they are at one instant. The guests stand still for that instant, and run while their checkpoints are written. One guest is stored under
/// `name`. Several are a set, each under `name/` and its own name, and the store gets either all of them or none. `keep` says which older checkpoints
/// are deleted.
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
        let taken = instant::take(store.device_mut().task(), domains, Since::Ever)?;
        let result = store_all(store, &names, taken, keep, out);
        if result.is_err() {
            store.discard_staged();
        }
        result
    })
}

/// Writes the guests, commits them, and says which numbers the checkpoints have got. Numbers are known only after the commit.
fn store_all(
    store: &mut Store<Disk>,
    names: &[String],
    taken: Taken,
    keep: Option<Keep>,
    out: &mut Answer,
) -> Result<(), CheckpointError> {
    if let (Some(keep), [name]) = (keep, names) {
        let needed = loading::newest_needed(store.device_mut().task());
        let keep = Keep { spared: keep.spared.max(needed), ..keep };
        stored::make_way(store, name, keep)?;
    }
    store.check_room_for(names.len())?;
    let Taken { mut guests, mut regions, instant } = taken;
    regions.begin_reading(&mut || store.device_mut().task().yield_now());
    let mut lines = Vec::new();
    let mut last = 0;
    for (name, guest) in names.iter().zip(&mut guests) {
        let domain = guest.domain;
        let regions = regions.of(domain);
        let shared: Vec<&dyn ReadRam> = regions.iter().map(|one| one as &dyn ReadRam).collect();
        let member = Member { name, guest, is_last: lines.len() + 1 == names.len() };
        let (number, line) =
            store_one(store, member, &shared, &instant, out).map_err(|error| match names {
                [_] => error,
                _ => CheckpointError::Member { guest: domain.name.clone(), error: Box::new(error) },
            })?;
        last = number;
        lines.push(line);
    }
    for ((number, line), guest) in sets::numbers(last, lines.len()).zip(lines).zip(guests) {
        let _ = writeln!(out, "checkpoint {number} {line}");
        guest.ram.committed(Baseline { number, identity: NO_IDENTITY }, store.device_mut().task());
    }
    Ok(())
}

/// A guest that is written.
struct Member<'m, 'd> {
    name: &'m str,
    guest: &'m mut Stored<'d>,
    /// Whether it is the last one of those that are stored together.
    is_last: bool,
}

/// Writes one guest and the regions that it shares. With the last one, this checkpoint and all that were staged before it are in the store then.
/// Returns the number of the checkpoint, which is 0 before the commit, and the line that describes it.
fn store_one(
    store: &mut Store<Disk>,
    member: Member,
    shared: &[&dyn ReadRam],
    instant: &Instant,
    out: &mut Answer,
) -> Result<(u64, String), CheckpointError> {
    let start = timer::counter();
    let Stored { ran, state, ram, .. } = member.guest;
    let pause = &mut || store.device_mut().task().yield_now();
    ram.begin_reading(pause);
    let plan = Plan::new(state.records(), ram, shared, routines(), pause)?;
    let stats = plan.stats();
    typed::check_given_up()?;
    let mut writer = store.begin(member.name, stats.bytes, instant.wall_time)?;
    writer.set_pages(stats.pages_stored);
    let mut sink = ToStore(writer);
    let mut progress = Progress::new("stored", out);
    plan.write(&mut sink, &mut |done, total| progress.report(done, total))?;
    if !ram.is_true() {
        return Err(CheckpointError::Overwritten);
    }
    let number = if member.is_last {
        sink.0.commit()?.number
    } else {
        sink.0.stage()?;
        0
    };
    let mut line = format!(
        "\"{}\": {} pages stored, {} zero, {} bytes, {} ms",
        member.name,
        stats.pages_stored,
        stats.pages_zero,
        stats.bytes,
        clock::millis_since(start)
    );
    // Whatever becomes of the other members: this guest may write all it likes without a copy.
    ram.end_reading();
    if *ran {
        let _ = write!(line, "; guest stood still {} us", instant.pause_micros);
    }
    Ok((number, line))
}
