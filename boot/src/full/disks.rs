//! The disks of guests: volumes of the store. The console's task does their requests, one at a
//! time, while the guests go on: of each guest in turn one, or as much of it as a turn moves.
//!
//! [`serve`] is a chore of the task, [`serve_wanted`] does requests in the pauses of whoever has
//! borrowed the store, so that guests have their disks while a checkpoint is written or read.
//! Nothing is in flight between two turns: at the instant of a checkpoint each request is either
//! completed or still in its guest's queue, also one of which turns have done a part.
//! [`crate::provision`] makes the volumes of a guest before the guest is made.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::fmt::Display;
use core::ops::Range;
use stasis_devices::virtio::block::{Request, What};
use stasis_devices::virtio::volume::{Volume, VolumeError};
use stasis_host::failures::Failures;
use stasis_host::task::TaskLock;
use stasis_run::clock;
use stasis_run::domain::Domain;
use stasis_run::domain::devices::{DiskStep, DiskTransfer, announce_disk_work, take_disk_work};
use stasis_store::{Error, VolumeFault};

use crate::lent::{Lent, VolumeAccess};
use crate::registry;
use crate::storage::error::{DiskError, NoStore};
use crate::work::Work;

/// Rounds over all guests that are made before the task looks at its other chores.
const ROUNDS: usize = 8;

/// A volume that a guest has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("volume \"{volume}\" is in use by guest \"{guest}\"")]
pub struct VolumeInUse {
    /// The volume's name.
    pub volume: String,
    /// The guest's name.
    pub guest: String,
}

/// Returns the guest that has a volume; `None` if none has. Panics if the caller has a guest
/// parked.
pub fn user_of(volume: &str) -> Option<String> {
    let mut guests = registry::all().into_iter();
    guests.find(|domain| domain.has_volume(volume)).map(|domain| domain.name.clone())
}

/// Checks that no guest, but for the one called `but`, has the volume.
///
/// # Errors
///
/// [`VolumeInUse`].
pub fn check_unused(volume: &str, but: Option<&str>) -> Result<(), VolumeInUse> {
    match user_of(volume).filter(|guest| Some(guest.as_str()) != but) {
        Some(guest) => Err(VolumeInUse { volume: volume.to_string(), guest }),
        None => Ok(()),
    }
}

/// Does turns of requests of all guests that have some. Returns whether there may be more.
pub fn serve(work: &mut Work) -> bool {
    if !take_disk_work() {
        return false;
    }
    let guests = registry::all();
    let served = work.with_store(|store| {
        let mut is_more = false;
        for _ in 0..ROUNDS {
            if !serve_all(&guests, &mut |request| request.carry_out_on(store)) {
                break;
            }
            is_more = true;
            store.device_mut().task().yield_now();
        }
        Ok::<_, NoStore>(is_more)
    });
    // After something was done, the task looks once more: what a guest has asked for meanwhile has
    // woken nobody.
    let is_more =
        served.unwrap_or_else(|why| serve_all(&guests, &mut |request| request.fail(&why)));
    if is_more {
        announce_disk_work();
    }
    is_more
}

/// Does a turn of a request of each guest that has one, for whoever has borrowed the store. A guest
/// that is parked by the caller waits.
pub fn serve_wanted(lent: &mut dyn Lent) {
    if take_disk_work() && serve_all(&registry::all(), &mut |request| request.carry_out_on(lent)) {
        announce_disk_work();
    }
}

/// What a guest has written to a disk, and not flushed, is lost.
#[derive(Debug, thiserror::Error)]
pub enum Unflushed {
    /// There is no store any more.
    #[error("what guests have written to their disks since their last flush is lost: {0}")]
    NoStore(#[from] NoStore),
    /// A volume was not flushed. Of several, it is the first.
    #[error("volume \"{volume}\" is what its last flush has made it: {why}")]
    Volume {
        /// The volume's name.
        volume: String,
        /// What the store says.
        why: Error<DiskError>,
    },
}

/// Flushes what guests have written to their disks and not flushed. For when nobody else will: a
/// guest with disks was stopped or removed, or the machine ends.
///
/// # Errors
///
/// [`Unflushed`], also if other volumes were flushed.
pub fn flush(work: &mut Work) -> Result<(), Unflushed> {
    work.with_store(|store| match store.flush_volumes().into_iter().next() {
        Some((volume, why)) => Err(Unflushed::Volume { volume: volume.to_string(), why }),
        None => Ok(()),
    })
}

/// A request of a guest.
struct Wanted<'a> {
    domain: &'a Domain,
    request: &'a Request,
}

impl Wanted<'_> {
    /// Completes the request with an error, and says why.
    fn fail(&self, why: &NoStore) {
        complain(&self.domain.name, self.request.volume(), "a request", why);
        self.carry_out(&mut Missing);
    }

    /// Does the request's next turn on its volume, and completes it if nothing is left.
    fn carry_out(&self, volume: &mut dyn Volume) {
        let &Self { domain, request } = self;
        let mut transfer = DiskTransfer::new(domain, request);
        let turn = request.perform(volume, &mut transfer);
        domain.end_disk_turn(transfer, turn);
    }

    /// Does the request's next turn on its volume in the store. Then reads on, if the guest seems
    /// to want that next.
    fn carry_out_on(&self, lent: &mut dyn Lent) {
        if self.request.begins_late() && self.write_late(lent) {
            return;
        }
        let (guest, name) = (&self.domain.name, self.request.volume());
        self.carry_out(&mut OnStore { lent, guest, name });
        if !self.request.ahead().is_empty() {
            self.read_ahead(lent);
        }
    }

    /// Begins late writes of the guest, which go into memory for a while, with this request.
    /// Returns whether it is done. If not, it is done as any other, which says why it can't be.
    fn write_late(&self, lent: &mut dyn Lent) -> bool {
        let &Self { domain, request } = self;
        let What::Write { offset, .. } = request.what() else { return false };
        let Some(late) = domain.begin_late(request) else { return false };
        let begun = lent.access_volume(request.volume(), VolumeAccess::BeginLate(offset, late));
        begun.is_ok() && domain.write_late(request)
    }

    /// Reads what stands behind the request, for the guest's next ones. Nobody has asked for it, so
    /// an error is not said.
    fn read_ahead(&self, lent: &mut dyn Lent) {
        let &Self { domain, request } = self;
        let Some(mut buffer) = domain.begin_ahead(request) else { return };
        let Range { start, end } = request.ahead();
        let take = &mut |piece: &[u8]| buffer.add(piece);
        let access = VolumeAccess::Read(start, end - start, take);
        if lent.access_volume(request.volume(), access).is_ok() {
            domain.end_ahead(request, buffer);
        }
    }
}

/// The failures that the log has told of.
static FAILURES: TaskLock<Failures> = TaskLock::new(Failures::new());

/// Says that something has failed that a guest has asked of its disk, unless that was said a moment
/// ago.
fn complain(guest: &str, disk: &str, what: &'static str, why: &dyn Display) {
    let said = FAILURES.lock_without_task().note(disk, what, why, clock::now_us());
    if let Some(said) = said {
        log::warn!("guest \"{guest}\": {said}");
    }
}

/// Calls `carry_out` with a request of each of these guests that has one. Returns whether there may
/// be more.
fn serve_all(guests: &[Arc<Domain>], carry_out: &mut dyn FnMut(&Wanted)) -> bool {
    let mut is_more = false;
    for domain in guests {
        // Whoever has the guest parked lets it go on later, and then each of its queues is looked
        // at.
        if domain.is_parked() {
            is_more = true;
            continue;
        }
        match domain.take_disk_request() {
            DiskStep::Nothing => continue,
            DiskStep::Done => {}
            DiskStep::Take(request) => carry_out(&Wanted { domain, request: &request }),
        }
        is_more = true;
    }
    is_more
}

/// A volume in the store.
struct OnStore<'l> {
    lent: &'l mut dyn Lent,
    /// The name of the guest whose disk it is.
    guest: &'l str,
    name: &'l str,
}

impl OnStore<'_> {
    fn access(&mut self, access: VolumeAccess) -> Result<(), VolumeError> {
        let what = match access {
            VolumeAccess::Read(..) => "a read",
            VolumeAccess::Write(..) => "a write",
            VolumeAccess::Zero(..) => "a discard",
            VolumeAccess::Flush => "a flush",
            VolumeAccess::BeginLate(..) => "a write",
        };
        let done = self.lent.access_volume(self.name, access);
        done.map_err(|error| {
            complain(self.guest, self.name, what, &error);
            match error {
                Error::Volume(VolumeFault::Full { .. }) | Error::NoRoom { .. } => {
                    VolumeError::NoRoom
                }
                _ => VolumeError::Io,
            }
        })
    }
}

impl Volume for OnStore<'_> {
    fn read(
        &mut self,
        offset: u64,
        len: u64,
        take: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(), VolumeError> {
        self.access(VolumeAccess::Read(offset, len, take))
    }

    fn write(
        &mut self,
        offset: u64,
        len: u64,
        fill: &mut dyn FnMut(&mut [u8]) -> bool,
    ) -> Result<(), VolumeError> {
        self.access(VolumeAccess::Write(offset, len, fill))
    }

    fn flush(&mut self) -> Result<(), VolumeError> {
        self.access(VolumeAccess::Flush)
    }

    fn discard(&mut self, offset: u64, len: u64) -> Result<(), VolumeError> {
        self.access(VolumeAccess::Zero(offset, len))
    }

    fn write_zeroes(&mut self, offset: u64, len: u64) -> Result<(), VolumeError> {
        self.access(VolumeAccess::Zero(offset, len))
    }
}

/// A volume that is not there.
struct Missing;

impl Volume for Missing {
    fn read(
        &mut self,
        _: u64,
        _: u64,
        _: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(), VolumeError> {
        Err(VolumeError::Io)
    }

    fn write(
        &mut self,
        _: u64,
        _: u64,
        _: &mut dyn FnMut(&mut [u8]) -> bool,
    ) -> Result<(), VolumeError> {
        Err(VolumeError::Io)
    }

    fn flush(&mut self) -> Result<(), VolumeError> {
        Err(VolumeError::Io)
    }

    fn discard(&mut self, _: u64, _: u64) -> Result<(), VolumeError> {
        Err(VolumeError::Io)
    }

    fn write_zeroes(&mut self, _: u64, _: u64) -> Result<(), VolumeError> {
        Err(VolumeError::Io)
    }
}
