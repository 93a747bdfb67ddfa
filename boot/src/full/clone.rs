//! Clones: a second guest of one that is in memory, from the same instant.
//!
//! The guest stands still while its registers are copied and its memory is made read-only in
//! stage 2. From then on both share the memory, copy on write ([`stasis_memory::GuestRam::share`]):
//! nothing is copied before one of them writes. The clone has all that a checkpoint of the guest
//! would have, and is admitted on the same terms; what no checkpoint has, it can't have either. Of
//! each disk it has a copy of its own, which shares the blocks; the links of its network cards are
//! down, as it has the addresses of its original.

use crate::answer::Answer;
use crate::devices::Granted;
use crate::guests::{self, GuestError, NewGuest};
use crate::loading::{self, Unfinished};
use crate::storage::disk::Disk;
use crate::storage::error::{DiskError, NoStore};
use crate::work::Work;
use crate::{archive, clearing, notes, originals, plans, registry, volumes};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use stasis_arch::timer;
use stasis_devices::virtio::net;
use stasis_host::admission::{Refusal, Terms};
use stasis_host::cloning::{self, NotCloned, Original};
use stasis_host::config::DEFAULT_WEIGHT;
use stasis_host::run_state::{Misfit, RunState};
use stasis_memory::range::NoRam;
use stasis_run::clock;
use stasis_run::domain::{Domain, Placement, Ram};
use stasis_run::turns::Task;
use stasis_state::GuestState;
use stasis_state::virtio::{Virtio, device_id};
use stasis_store::volume::Name;
use stasis_store::{Error, Store};

/// Why a guest was not cloned.
#[derive(Debug, thiserror::Error)]
pub enum CloneError {
    /// A rule of [`cloning`] forbids it.
    #[error(transparent)]
    NotCloned(#[from] NotCloned),
    /// The guest is in a state in which none is cloned.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// There is no store to load the rest of the guest's memory from, or to copy its disks in.
    #[error(transparent)]
    NoStore(#[from] NoStore),
    /// The guest's disks were not copied.
    #[error("the disks of guest \"{guest}\" were not copied: {why}")]
    Disks {
        /// The guest's name.
        guest: String,
        /// What the store says.
        why: Error<DiskError>,
    },
    /// The rest of the guest's memory was not loaded.
    #[error(transparent)]
    Unfinished(#[from] Unfinished),
    /// There is no memory to note what is shared.
    #[error("no memory is free to note what the guests share")]
    NoRam(#[from] NoRam),
    /// The clone's registers break a rule.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The machine lacks cores for the clone, or can't have one more guest.
    #[error(transparent)]
    NoRoom(#[from] GuestError),
}

/// A guest as it was at an instant, and the memory and the disks that its clone has.
struct Taken {
    state: GuestState,
    ram: Ram,
    /// What the guest was doing.
    did: RunState,
    /// How long the guest stood still, in microseconds.
    pause_micros: u64,
}

/// Makes a clone of a guest, which is called `name`. What is still to be loaded of the guest is
/// loaded first.
///
/// # Errors
///
/// Why there is no clone. The guest goes on.
pub fn clone(
    work: &mut Work,
    domain: &Domain,
    name: &str,
    out: &mut Answer,
) -> Result<(), CloneError> {
    let start = timer::counter();
    check(domain, name)?;
    if domain.look().missing > 0 {
        work.with_store(|store| loading::finish(store, domain, out).map_err(CloneError::from))?;
    }
    // Not while the guest stands still.
    clearing::finish(work.task, domain);
    let volumes = domain.volumes();
    let (Taken { mut state, ram, did, pause_micros }, copies) = match volumes.is_empty() {
        true => (take(work.task, domain)?, Vec::new()),
        false => work.with_store(|store| take_with_disks(store, domain, &volumes, name))?,
    };
    state.guest.set_name(name);
    // The clone is a guest that no checkpoint has.
    state.lineage = None;
    give_disks(&mut state.devices.virtio, &copies);
    net::set_links(&mut state.devices.virtio, false);
    let has_cards = !domain.cards().is_empty();
    match add(work.task, state, ram, did) {
        Ok(clone) => originals::note(work.task, &clone, &domain.name),
        Err(why) => {
            delete(work, &copies);
            return Err(why);
        }
    }
    for (volume, copy) in volumes.iter().zip(&copies) {
        let _ = writeln!(out, "\"{name}\" has volume \"{copy}\" in place of \"{volume}\"");
    }
    if has_cards {
        let _ = writeln!(
            out,
            "the network links of \"{name}\" are down: give it an address of its own, and \"network up {name}\""
        );
    }
    let _ = writeln!(
        out,
        "guest \"{name}\" goes on as \"{}\" was, {} us; that stood still {pause_micros} us",
        domain.name,
        clock::micros_since(start)
    );
    Ok(())
}

/// Checks what is known of a guest and its clone before the instant.
fn check(domain: &Domain, name: &str) -> Result<(), NotCloned> {
    let guests = registry::all();
    let original = Original {
        name: &domain.name,
        given: domain.given(),
        shares_memory: !domain.shared().is_empty(),
    };
    cloning::check(
        original,
        name,
        guests.iter().map(|domain| domain.name.as_str()),
        plans::has_window,
    )
}

/// Takes a guest as it is now, and copies of its disks as they are at that instant, for a clone
/// called `name`. Returns the names of the copies, too.
fn take_with_disks(
    store: &mut Store<Disk>,
    domain: &Domain,
    volumes: &[String],
    name: &str,
) -> Result<(Taken, Vec<Name>), CloneError> {
    let of_disks = |why| CloneError::Disks { guest: domain.name.clone(), why };
    let volumes: Vec<&str> = volumes.iter().map(String::as_str).collect();
    // The guest shares its memory from the instant on, also if there is no clone after all.
    store.check_copies(&volumes, name).map_err(of_disks)?;
    let taken = take(store.device_mut().task(), domain)?;
    // Nobody has written to the disks since that instant: only this task does, as late writes have
    // ended, and each request is done or still in its guest's queue.
    let instants = store.take_instants(&volumes).map_err(of_disks)?;
    let copies = store.copy_taken(&instants, name, clock::date()).map_err(of_disks)?;
    Ok((taken, copies))
}

/// Puts the volumes `copies` behind the disks, in the order of their slots.
fn give_disks(virtio: &mut Virtio, copies: &[Name]) {
    let disks: Vec<usize> =
        virtio.slots().filter(|(_, id)| *id == device_id::BLOCK).map(|(n, _)| n).collect();
    for (n, copy) in disks.into_iter().zip(copies) {
        virtio.set_name(n, copy);
    }
}

/// Deletes the disks of a clone that did not come to be.
fn delete(work: &mut Work, copies: &[Name]) {
    for copy in copies {
        if let Err(why) = volumes::delete(work, copy) {
            log::warn!("volume \"{copy}\" of a clone that does not go on is left: {why}");
        }
    }
}

/// Takes a guest as it is now, and memory that shares its own. The guest stands still meanwhile.
fn take(task: &mut Task, domain: &Domain) -> Result<Taken, CloneError> {
    let begin = timer::counter();
    let mut parked = domain.park();
    parked.state.check_store(&domain.name)?;
    let did = parked.state;
    let (counter, wall_time) = (timer::counter(), clock::date());
    parked.guest.clock.stop(counter);
    let state = parked.state_at(counter, wall_time);
    let ram = parked.share_ram(task)?;
    drop(parked);
    Ok(Taken { state, ram, did, pause_micros: clock::micros_since(begin) })
}

/// Adds the clone to the machine's guests. It does what its original did, and finds by itself if it
/// must wait for memory, too.
fn add(
    task: &mut Task,
    state: GuestState,
    ram: Ram,
    did: RunState,
) -> Result<Arc<Domain>, CloneError> {
    let identity = guests::host_identity();
    let terms = Terms {
        identity: &identity,
        counter_hz: timer::frequency(),
        any_speed: false,
        must_be_on: false,
        // The clone has its memory already.
        free_memory: *state.guest.ram_size,
        guests: archive::guests(),
        regions: archive::shared(),
    };
    let mut admitted = terms.admit(&state, None)?;
    guests::renew(&mut admitted.guest);
    let cores = guests::choose_cores(admitted.guest.name(), &[], admitted.vcpus.len())
        .map_err(GuestError::from)?;
    let placement = Placement { cores: &cores, weight: DEFAULT_WEIGHT };
    let then = did.of_clone(admitted.then);
    let (guest, vcpus) = (admitted.guest, admitted.vcpus);
    let new = NewGuest { guest, vcpus, ram, granted: Granted::none() };
    let domain = guests::add(task, placement, new, then)?;
    if then == RunState::Running {
        notes::runs(&domain);
    }
    Ok(domain)
}
