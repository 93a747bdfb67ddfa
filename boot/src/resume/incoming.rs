//! The guests that are resumed, each in the place of the guest of its name or beside the others.
//!
//! First, every guest is [admitted](admit): everything that can be checked is checked, and what the guest needs is taken. Only then is memory
//! overwritten. The guests run when the memory of all of them is loaded.

use super::{ReadError, ResumeError};
use crate::guests::{self, GuestError};
use crate::storage::Disk;
use crate::{archive, registry, terminal};
use alloc::sync::Arc;
use alloc::vec::Vec;
use stasis_arch::timer;
use stasis_guest::given::Given;
use stasis_host::admission::{Admitted, Losses, Occupant, Refusal, Stays, Terms, check_distinct};
use stasis_host::config::DEFAULT_WEIGHT;
use stasis_host::run_state::RunState;
use stasis_memory::range::Range;
use stasis_run::domain::{Domain, Parked, Placement, Ram};
use stasis_run::el2::GuestRam;
use stasis_run::pool;
use stasis_run::shared::{self, Connected};
use stasis_run::turns::Task;
use stasis_state::vcpu::Identity;
use stasis_state::{GuestState, Target};
use stasis_store::Store;

/// A guest that was admitted and will be resumed.
struct Incoming<'a> {
    admitted: Admitted,
    seat: Seat<'a>,
    shared: Vec<Connected>,
}

/// The place in which a guest is resumed.
enum Seat<'a> {
    /// The domain of the guest of the same name, which is parked.
    Existing(&'a Domain, Parked<'a>),
    /// A new domain, with this RAM.
    New(Ram),
}

/// Resumes guests, each in the domain of the guest of its name, which ends thereby, or in a new domain. Returns what must be said about regions that
/// they share with others and that keep their content.
///
/// `load` fills the memory of the guest with the given index from the `store`. Its last argument says whether it may still give up, because no
/// guest's memory was overwritten so far. With `any_speed`, the guests' clocks may go at another speed than before.
///
/// # Errors
///
/// Why no guest was resumed. Everything that can be checked is checked before any memory is overwritten; but if `load` fails after that, the
/// guests are lost whose memory was overwritten by then.
pub fn resume(
    store: &mut Store<Disk>,
    states: &[&GuestState],
    any_speed: bool,
    mut load: impl FnMut(&mut Store<Disk>, usize, Target, bool) -> Result<(), ReadError>,
) -> Result<Vec<Stays<'static>>, ResumeError> {
    check_distinct(states)?;
    let existing = registry::all();
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

/// Checks a guest that will be resumed, and takes the memory that it needs.
fn admit<'a>(
    task: &mut Task,
    state: &GuestState,
    any_speed: bool,
    existing: &'a [Arc<Domain>],
) -> Result<Incoming<'a>, ResumeError> {
    let identity = guests::host_identity();
    let terms = terms(&identity, any_speed);
    let name = state.guest.name_text();
    let (admitted, seat) = match existing.iter().find(|domain| domain.name == name) {
        Some(domain) => {
            let ram = domain.look().ram;
            let parked = domain.park();
            let admitted = terms.admit(state, Some(occupant(domain, ram)))?;
            (admitted, Seat::Existing(domain, parked))
        }
        None => {
            let admitted = terms.admit(state, None)?;
            // The RAM keeps its address in the guest's map. It may be anywhere on the machine: the guest has none of the machine's devices.
            let ram = Ram::take(0, admitted.guest.ram_size(), &mut || task.yield_now())
                .map_err(GuestError::from)?;
            (admitted, Seat::New(ram))
        }
    };
    let shared = shared::connect(archive::shared(), name).map_err(GuestError::from)?;
    Ok(Incoming { admitted, seat, shared })
}

/// Checks what the registers tell of a guest whose memory was not read yet, as [`Terms::look`] says.
pub fn look(state: &GuestState, any_speed: bool) -> Result<(), Refusal> {
    let identity = guests::host_identity();
    let terms = terms(&identity, any_speed);
    let existing = registry::all();
    match existing.iter().find(|domain| domain.name == state.guest.name_text()) {
        None => terms.look(state, None),
        Some(domain) => terms.look(state, Some(occupant(domain, domain.look().ram))),
    }
}

/// Returns the terms on which guests can be resumed now.
fn terms(identity: &Identity, any_speed: bool) -> Terms<'_> {
    Terms {
        identity,
        counter_hz: timer::frequency(),
        any_speed,
        free_memory: pool::free_bytes(),
        guests: archive::guests(),
        regions: archive::shared(),
    }
}

/// Returns what the terms need to know of a guest whose domain another guest will take.
fn occupant(domain: &Domain, ram: Range) -> Occupant<'_> {
    Occupant { name: &domain.name, vcpus: domain.cores().count(), ram }
}

/// Makes the guests run that are not off, when the last one is ready.
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
                let domain = guests::add(placement, guest, vcpus, ram, given, RunState::Paused)?;
                fresh.push((domain, then));
            }
            Seat::Existing(domain, mut parked) => {
                parked.replace(guest, vcpus, then);
                terminal::forget(domain);
                parked_ones.push(parked);
            }
        }
    }
    fresh.iter().for_each(|(domain, then)| domain.park().set_state(*then));
    // Guests in domains that existed before run when their locks are dropped, which is here.
    drop(parked_ones);
    Ok(())
}
