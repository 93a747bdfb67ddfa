//! Resuming guests, each in the place of the guest of its name or beside the others.
//!
//! First every guest is [admitted](admit): all that can be checked is checked, and what it needs is taken. Only then is
//! memory overwritten, and when all of it is loaded, they run.

use crate::guests::GuestError;
use crate::storage::Disk;
use crate::{console, guests};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Display;
use stasis_arch::timer;
use stasis_guest::given::Given;
use stasis_host::admission::{
    Admitted, LoadFailed, Losses, Occupant, Refusal, Stays, Terms, check_distinct,
};
use stasis_host::config::DEFAULT_WEIGHT;
use stasis_host::run_state::RunState;
use stasis_memory::range::Range;
use stasis_run::el2::GuestRam;
use stasis_run::pool;
use stasis_run::shared::{self, Connected};
use stasis_run::slot::{Parked, Placement, Ram, Slot};
use stasis_run::turns::Task;
use stasis_state::vcpu::Identity;
use stasis_state::{GuestState, Target};
use stasis_store::Store;

/// A guest that is about to be resumed.
struct Incoming<'a> {
    admitted: Admitted,
    seat: Seat<'a>,
    shared: Vec<Connected>,
}

/// Where a guest is resumed.
enum Seat<'a> {
    /// In the place of the guest of its name, which stands still.
    Existing(&'a Slot, Parked<'a>),
    /// In a new place.
    New(Ram),
}

/// Why no guest was resumed.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError<E: Display> {
    /// A guest is refused. Nothing was touched.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The machine lacks memory or cores for a guest, or can't take one more.
    #[error(transparent)]
    NoRoom(#[from] GuestError),
    /// A checkpoint was not read to its end.
    #[error("{0}")]
    Load(LoadFailed<E>),
}

/// Resumes guests, each in the place of the guest of its name, which ends thereby, or in a new one. `load` fills from the `store` the
/// RAM of one of them, by its index, and is told whether it may still give up: nobody's memory has been overwritten. If it fails, none is resumed, and those are lost whose memory was overwritten by
/// then; everything that can be checked is checked before that. With `any_speed`, their clocks may go at another speed
/// than they were made with. Returns what is to be said of memory that they share with others.
pub fn resume<E: Display>(
    store: &mut Store<Disk>,
    states: &[&GuestState],
    any_speed: bool,
    mut load: impl FnMut(&mut Store<Disk>, usize, Target, bool) -> Result<(), E>,
) -> Result<Vec<Stays<'static>>, ResumeError<E>> {
    check_distinct(states)?;
    let existing = guests::all();
    let mut incoming = Vec::new();
    for state in states {
        let task = store.device_mut().task();
        task.yield_now();
        incoming.push(admit(task, state, any_speed, &existing)?);
    }
    let resumed: Vec<&str> = states.iter().map(|state| state.guest.name_text()).collect();
    let mut kept = Vec::new();
    let mut losses = Losses::default();
    for (index, Incoming { admitted, seat, shared }) in incoming.iter_mut().enumerate() {
        let mut regions = Vec::new();
        for one in &*shared {
            let keeper = one.keeper(&resumed);
            kept.extend(keeper.map(|keeper| Stays { region: one.name(), keeper }));
            regions.push(keeper.is_none().then(|| one.overwrite()));
        }
        let in_place = matches!(seat, Seat::Existing(..));
        let can_give_up =
            losses.begin(admitted.guest.name(), in_place, regions.iter().any(Option::is_some));
        let ram: &mut GuestRam = match seat {
            Seat::Existing(_, parked) => parked.overwrite(),
            Seat::New(ram) => ram,
        };
        let shared_memory = regions.iter_mut().map(|region| Some(region.as_mut()?.as_writable()));
        let target = Target { ram, shared: shared_memory.collect() };
        let loaded = load(store, index, target, can_give_up);
        let pause = &mut || store.device_mut().task().yield_now();
        // Also what a load that failed has written there leaves the caches: the next guest that shares it may run with caches off.
        regions.into_iter().flatten().for_each(|region| region.finish(pause));
        if let Err(why) = loaded {
            return Err(ResumeError::Load(losses.after(why)));
        }
        ram.finish_writing(pause);
    }
    run(store.device_mut().task(), incoming)?;
    kept.dedup();
    Ok(kept)
}

/// Checks a guest that is to be resumed, and takes what it needs.
fn admit<'a, E: Display>(
    task: &mut Task,
    state: &GuestState,
    any_speed: bool,
    existing: &'a [Arc<Slot>],
) -> Result<Incoming<'a>, ResumeError<E>> {
    let identity = guests::host_identity();
    let terms = terms(&identity, any_speed);
    let name = state.guest.name_text();
    let (admitted, seat) = match existing.iter().find(|slot| slot.name == name) {
        Some(slot) => {
            let ram = slot.look().ram;
            let parked = slot.park();
            let admitted = terms.admit(state, Some(occupant(slot, ram)))?;
            (admitted, Seat::Existing(slot, parked))
        }
        None => {
            let admitted = terms.admit(state, None)?;
            // At its addresses in the guest's map; nothing of the machine's needs them there.
            let ram = Ram::take(0, admitted.guest.ram_size(), &mut || task.yield_now())
                .map_err(GuestError::from)?;
            (admitted, Seat::New(ram))
        }
    };
    let shared = shared::connect(guests::configured_shared(), name).map_err(GuestError::from)?;
    Ok(Incoming { admitted, seat, shared })
}

/// Checks of a guest that is about to be read what its registers tell: see [`Terms::look`].
pub fn look(state: &GuestState, any_speed: bool) -> Result<(), Refusal> {
    let identity = guests::host_identity();
    let terms = terms(&identity, any_speed);
    let existing = guests::all();
    match existing.iter().find(|slot| slot.name == state.guest.name_text()) {
        None => terms.look(state, None),
        Some(slot) => terms.look(state, Some(occupant(slot, slot.look().ram))),
    }
}

/// Returns the terms on which guests are resumed now.
fn terms(identity: &Identity, any_speed: bool) -> Terms<'_> {
    Terms {
        identity,
        counter_hz: timer::frequency(),
        any_speed,
        free_memory: pool::free_bytes(),
        guests: guests::configured_guests(),
        regions: guests::configured_shared(),
    }
}

/// Returns what counts of a guest whose place another one is to take.
fn occupant(slot: &Slot, ram: Range) -> Occupant<'_> {
    Occupant { name: &slot.name, vcpus: slot.cores().count(), ram }
}

/// Makes all guests run, but for those that are off, when the last one is ready for it.
fn run(task: &mut Task, incoming: Vec<Incoming>) -> Result<(), GuestError> {
    let mut fresh = Vec::new();
    let mut parked_ones = Vec::new();
    for Incoming { admitted: Admitted { guest, vcpus, then }, seat, .. } in incoming {
        task.yield_now();
        match seat {
            Seat::New(ram) => {
                let cores = guests::choose_cores(&[], vcpus.len())?;
                let placement = Placement { cores: &cores, weight: DEFAULT_WEIGHT };
                let given = Given::default();
                let slot = guests::add(placement, guest, vcpus, ram, given, RunState::Paused)?;
                fresh.push((slot, then));
            }
            Seat::Existing(slot, mut parked) => {
                parked.replace(guest, vcpus, then);
                console::forget(slot);
                parked_ones.push(parked);
            }
        }
    }
    fresh.iter().for_each(|(slot, then)| slot.park().set_state(*then));
    // Those that were there run when their locks are dropped: here.
    drop(parked_ones);
    Ok(())
}
