//! Guests whose memory is loaded while they run, each from the checkpoint that it was resumed from.
//!
//! Everything here is done by the console's task: one unit in each of its turns ([`serve`]), and
//! what a vCPU waits for in the midst of other work with the store, too ([`serve_wanted`]).
//! [`stasis_host::loading`] makes a unit what the checkpoint says, [`Domain::arrive`] shows it to
//! the guest. While the disk can't be read, the guest waits; for a place that the disk refuses
//! again and again it waits for a while only. A guest whose memory is damaged, or can't be read, is
//! stopped, and cared for as one that has crashed. Where no frame is free for what is loaded of a
//! guest with `overcommit`, it runs on for as long as it does not want that, and
//! [stands still](starved) then.

pub mod origin;

use crate::answer::Answer;
use crate::lent::Lent;
use crate::storage::disk::Disk;
use crate::storage::error::NoStore;
use crate::stream::progress::Progress;
use crate::typed::GivenUp;
use crate::work::Work;
use crate::{disks, meanwhile, notes, starved, typed};
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use core::ops::Range;
use origin::{Origin, OriginError};
use stasis_arch::timer;
use stasis_console::text::Size;
use stasis_guest::stop::{Crash, Stopped};
use stasis_host::loading::{Kind, NotLoaded, Retry, Then, Why, fill};
use stasis_host::run_state::RunState;
use stasis_host::task::TaskLock;
use stasis_run::domain::{Domain, Lacking};
use stasis_run::turns::Task;
use stasis_state::PAGE_SIZE;
use stasis_store::Store;

/// Why the rest of a guest's memory was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum Unfinished {
    /// The unit can't be brought: for now, and the guest waits; or never, and the guest is stopped.
    #[error("{0}")]
    NotLoaded(NotLoaded<OriginError>),
    /// The guest is lost, and nobody loads it.
    #[error("the rest of its memory is not loaded, for it is lost: resume or restart it first")]
    Lost,
    /// The command was given up.
    #[error(transparent)]
    GivenUp(#[from] GivenUp),
}

impl From<NotLoaded<OriginError>> for Unfinished {
    fn from(error: NotLoaded<OriginError>) -> Self {
        Self::NotLoaded(error)
    }
}

/// A guest whose memory is loaded.
struct Load {
    domain: Arc<Domain>,
    /// What is missing. It is gone when all has arrived, and when the guest was removed or
    /// overwritten.
    missing: Weak<Lacking>,
    /// Guest-physical address of the RAM.
    base: u64,
    origin: Origin,
    /// When the checkpoint is read again, if the disk has failed, or there was no frame.
    retry: Retry,
    /// Whether there was no frame at the last try.
    lacks_frame: bool,
}

/// Seconds after which a disk that has failed is read again, and frames are looked for again.
const RETRY_SECONDS: u64 = 1;

/// What is loaded, the load that is next at the front. No load is in it while it is carried out.
static LOADS: TaskLock<VecDeque<Load>> = TaskLock::new(VecDeque::new());

/// Begins to load the memory of a guest, whose domain lacks what the checkpoint has. The guest may
/// run already.
pub fn begin(task: &Task, domain: Arc<Domain>, origin: Origin) {
    let Some(missing) = domain.missing() else { return };
    let base = domain.look().ram.start;
    let touched = origin.index().touched().iter().map(|run| run.pages());
    // Of shared memory, nothing is loaded while a guest runs.
    missing.prefer(touched.filter_map(|(address, pages)| {
        let start = address.checked_sub(base)? as usize;
        Some(start..start.saturating_add(pages as usize * PAGE_SIZE))
    }));
    let missing = Arc::downgrade(&missing);
    let retry = Retry::default();
    LOADS.lock(task).push_back(Load { domain, missing, base, origin, retry, lacks_frame: false });
}

/// Brings one unit of a guest's memory: one that a vCPU waits for, if there is one. Returns whether
/// there may be more to bring before [`next_due`].
pub fn serve(work: &mut Work) -> bool {
    let next = take(work.task, Load::is_wanted).or_else(|| take(work.task, Load::is_due));
    let Some(mut load) = next else { return false };
    let brought = work.with_store(|store| Ok::<_, NoStore>(load.bring(store)));
    let brought = brought.unwrap_or_else(|why| Err(load.not_read(why.into())));
    // The guest waits or has stopped if it was not loaded.
    let _ = load.put_back(work.task, brought);
    true
}

/// Returns the value of the counter at which a disk that has failed is read again, or frames are
/// looked for again; `None` if nothing has failed.
pub fn next_due(task: &Task) -> Option<u64> {
    LOADS.lock(task).iter().filter_map(|load| load.retry.due()).min()
}

/// Loads the rest of a guest's memory, if anything is missing. `out` is told how far that is. Other
/// guests get what their vCPUs wait for meanwhile, and all have their disks.
///
/// # Errors
///
/// Why it was not loaded. Unless the command was given up, the guest waits or is stopped then.
pub fn finish(
    store: &mut Store<Disk>,
    domain: &Domain,
    out: &mut Answer,
) -> Result<(), Unfinished> {
    let total = domain.look().missing;
    let mut progress = Progress::new("loaded", out);
    loop {
        typed::check_given_up()?;
        let task = store.device_mut().task();
        meanwhile::yield_now(task);
        let Some(mut load) = take(task, |load| load.domain.number == domain.number) else {
            return if domain.look().missing == 0 { Ok(()) } else { Err(Unfinished::Lost) };
        };
        let brought = load.bring(store);
        let more = load.put_back(store.device_mut().task(), brought)?;
        progress.report(total - domain.look().missing, total);
        if !more {
            return Ok(());
        }
        serve_wanted(store);
        disks::serve_wanted(store);
    }
}

/// Brings one unit that a vCPU waits for, if there is one. A guest that is parked by the caller
/// waits.
pub fn serve_wanted(store: &mut dyn Lent) {
    let is_it = |load: &Load| load.is_wanted() && !load.domain.is_parked();
    if let Some(mut load) = take(store.task(), is_it) {
        let brought = load.bring(store);
        // The guest waits or has stopped if it was not loaded, and whoever works with the store
        // goes on.
        let _ = load.put_back(store.task(), brought);
    }
}

/// Takes out the first load for which `is_it` says so.
fn take(task: &Task, is_it: impl Fn(&Load) -> bool) -> Option<Load> {
    let mut loads = LOADS.lock(task);
    loads.retain(|load| load.missing.strong_count() > 0);
    let found = loads.iter().position(is_it)?;
    loads.remove(found)
}

impl Load {
    /// Returns whether a vCPU waits for a unit, and it is time to read it.
    fn is_wanted(&self) -> bool {
        self.is_due() && self.missing.upgrade().is_some_and(|missing| missing.is_wanted())
    }

    /// Returns whether it is time to read a unit.
    fn is_due(&self) -> bool {
        self.retry.is_due(timer::counter())
    }

    /// Returns the error of a load that could not be begun.
    fn not_read(&self, why: OriginError) -> NotLoaded<OriginError> {
        NotLoaded { address: self.base, why: Why::Source(why) }
    }

    /// Brings one unit, or a block, if there is no table for a unit. Returns whether more is
    /// missing.
    fn bring(&mut self, store: &mut dyn Lent) -> Result<bool, NotLoaded<OriginError>> {
        let Some(missing) = self.missing.upgrade() else { return Ok(false) };
        let Some(unit) = missing.next() else { return Ok(false) };
        let has_content = self.fill(store, &missing, unit.clone())?;
        let (name, address) = (&self.domain.name, self.base + unit.start as u64);
        log::debug!("guest \"{name}\": {} at {address:#x} are loaded", Size(unit.len() as u64));
        let task = store.task();
        if self.domain.arrive(unit.clone(), has_content, task).is_err() {
            self.no_table(&unit)?;
            self.bring_block(store, &missing, unit, has_content)?;
        }
        Ok(missing.left() > 0)
    }

    /// Brings the rest of the block of a unit that was filled, and makes all of it reachable.
    fn bring_block(
        &mut self,
        store: &mut dyn Lent,
        missing: &Lacking,
        filled: Range<usize>,
        mut has_content: bool,
    ) -> Result<(), NotLoaded<OriginError>> {
        let block = missing.block(filled.start);
        for unit in missing.units(block.clone()).filter(|unit| *unit != filled) {
            has_content |= self.fill(store, missing, unit)?;
            meanwhile::yield_now(store.task());
        }
        let address = self.base + block.start as u64;
        let arrived = self.domain.arrive(block, has_content, store.task());
        arrived.map_err(|_| NotLoaded { address, why: Why::Source(OriginError::NoTable) })
    }

    /// Returns the error of a unit for which there is no table, if the guest takes memory as it
    /// writes: it waits for that. What others have is in one place, and can arrive as a block.
    fn no_table(&self, unit: &Range<usize>) -> Result<(), NotLoaded<OriginError>> {
        let address = self.base + unit.start as u64;
        match self.domain.shares_ram() {
            true => Err(NotLoaded { address, why: Why::NoFrame }),
            false => Ok(()),
        }
    }

    /// Makes a unit what the checkpoint says. Returns whether it has any content.
    fn fill(
        &mut self,
        store: &mut dyn Lent,
        missing: &Lacking,
        unit: Range<usize>,
    ) -> Result<bool, NotLoaded<OriginError>> {
        fill_unit(store, &mut self.origin, missing, unit, self.base)
    }

    /// Puts the load back, if it goes on, or will when the disk can be read again; otherwise stops
    /// the guest, if its memory was not loaded. Returns whether it goes on.
    fn put_back(
        mut self,
        task: &mut Task,
        brought: Result<bool, NotLoaded<OriginError>>,
    ) -> Result<bool, NotLoaded<OriginError>> {
        match &brought {
            Ok(more) => {
                let lacked_frame = core::mem::take(&mut self.lacks_frame);
                if self.retry.succeeded() && !lacked_frame {
                    log::info!(
                        "guest \"{}\" has got the memory that it waited for",
                        self.domain.name
                    );
                }
                if !self.missing.upgrade().is_some_and(|missing| missing.is_wanted()) {
                    starved::loaded(task, &self.domain);
                }
                if *more {
                    LOADS.lock(task).push_back(self);
                }
            }
            Err(NotLoaded { address, why: Why::NoFrame }) => {
                self.await_frames(*address);
                LOADS.lock(task).push_back(self);
            }
            Err(error) => match self.goes_on(error) {
                true => LOADS.lock(task).push_back(self),
                false => self.fail(error),
            },
        }
        brought
    }

    /// Makes the load wait for frames, and so the guest, if it can't go on without what is loaded.
    fn await_frames(&mut self, address: u64) {
        let (now, pause) = (timer::counter(), RETRY_SECONDS * timer::frequency());
        // A wait for the disk that was said is still to be ended.
        self.lacks_frame |= self.retry.due().is_none();
        let _ = self.retry.failed(Kind::Absent, address, now..now.saturating_add(pause));
        if self.domain.waits_for_ram() {
            starved::await_load(&self.domain);
        }
    }

    /// Returns whether the load waits for the disk, and says so if it did not before. It does not
    /// wait for what the disk has refused too often.
    fn goes_on(&mut self, error: &NotLoaded<OriginError>) -> bool {
        let NotLoaded { address, why: Why::Source(why) } = error else { return false };
        let Some(kind) = why.kind() else { return false };
        if core::mem::take(&mut self.lacks_frame) {
            // The wait for frames has ended, and this is another one.
            let _ = self.retry.succeeded();
        }
        let (now, pause) = (timer::counter(), RETRY_SECONDS * timer::frequency());
        let then = self.retry.failed(kind, *address, now..now.saturating_add(pause));
        if then == Then::WaitAndTell {
            let (name, number) = (&self.domain.name, self.origin.number());
            log::warn!("guest \"{name}\" waits for memory that checkpoint {number} has: {why}");
        }
        then != Then::GiveUp
    }

    /// Makes the guest lost, whose memory can't be loaded. One that runs is cared for as one that
    /// has crashed. One that a person has stopped or paused is left alone, and the care for one
    /// that has stopped by itself is on its way.
    fn fail(self, error: &NotLoaded<OriginError>) {
        log::error!("guest \"{}\": {error}", self.domain.name);
        let is_damaged = !matches!(&error.why, Why::Source(why) if !why.is_damage());
        let (address, checkpoint) = (error.address, self.origin.number());
        let mut parked = self.domain.park();
        let before = parked.state;
        parked.set_state(RunState::Lost);
        drop(parked);
        let how = Stopped::Crash(Crash::NotLoaded { address, checkpoint, is_damaged });
        match before {
            RunState::Running | RunState::Starved => notes::stopped(self.domain, how),
            _ => log::error!("guest \"{}\" {how}", self.domain.name),
        }
    }
}

/// Makes a unit of memory that begins at guest-physical `base` what the checkpoint says, and checks
/// it. Returns whether it has any content.
///
/// # Errors
///
/// [`NotLoaded`]: the unit is not what it should be, and must not be mapped.
pub fn fill_unit(
    store: &mut dyn Lent,
    origin: &mut Origin,
    missing: &Lacking,
    unit: Range<usize>,
    base: u64,
) -> Result<bool, NotLoaded<OriginError>> {
    let address = base + unit.start as u64;
    let Some(filling) = missing.fill(unit) else { return Ok(false) };
    let pages = origin.of(store);
    let pages = &mut pages.map_err(|why| NotLoaded { address, why: Why::Source(why) })?;
    fill(pages, filling, address)
}

/// A checkpoint that can't be deleted, for a guest's memory is still loaded from it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("checkpoint {number} is in use: {} of guest \"{guest}\" are still to be loaded from it", Size(*.left))]
pub struct CheckpointInUse {
    /// The checkpoint's number.
    pub number: u64,
    /// The guest's name.
    pub guest: String,
    /// Bytes that are missing.
    pub left: u64,
}

/// Checks that no guest's memory is loaded from one of these checkpoints.
///
/// # Errors
///
/// The first guest for which that is not so.
pub fn check_unused(store: &mut Store<Disk>, numbers: &[u64]) -> Result<(), CheckpointInUse> {
    let loads = LOADS.lock(store.task());
    for load in loads.iter().filter(|load| numbers.contains(&load.origin.number())) {
        if let Some(missing) = load.missing.upgrade().filter(|missing| missing.left() > 0) {
            let (number, guest) = (load.origin.number(), load.domain.name.clone());
            return Err(CheckpointInUse { number, guest, left: missing.left() });
        }
    }
    Ok(())
}

/// Returns the highest number of a checkpoint from which a guest's memory is still loaded; 0 if
/// there is none.
pub fn newest_needed(task: &Task) -> u64 {
    let loads = LOADS.lock(task);
    let needed = loads.iter().filter(|load| load.missing.strong_count() > 0);
    needed.map(|load| load.origin.number()).max().unwrap_or(0)
}
