//! The guests that are resumed, each in the place of the guest of its name or beside the others.
//!
//! [`steps::resume`] says what is done in which order, and [`Resuming`] does it: it [admits](admit)
//! a guest and takes what that needs, overwrites memory, and makes the guests run.

use super::error::{CheckpointReadError, ResumeError};
use super::regions;
use super::taking;
use super::way::{Disks, Way};
use crate::devices::Granted;
use crate::disks::{self, VolumeInUse};
use crate::guests::{self, GuestError, NewGuest};
use crate::storage::disk::Disk;
use crate::{archive, meanwhile, registry, terminal};
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use stasis_arch::timer;
use stasis_guest::{Guest, Vcpu};
use stasis_host::admission::steps::{self, Shared, Steps};
use stasis_host::admission::{Admitted, Occupant, Refusal, Stays, Terms};
use stasis_host::config::DEFAULT_WEIGHT;
use stasis_host::run_state::RunState;
use stasis_host::volumes;
use stasis_memory::ReadRam;
use stasis_memory::frames::NoFrame;
use stasis_memory::range::{NoRam, Range};
use stasis_run::domain::{Domain, Parked, Placement, Ram};
use stasis_run::el2::GuestRam;
use stasis_run::shared::{self, Connected, Overwritten};
use stasis_run::turns::Task;
use stasis_run::{network, pool};
use stasis_state::vcpu::Identity;
use stasis_state::{Baseline, GuestState, Index, Target};
use stasis_store::Store;
use stasis_store::volume::{Before, Name};

/// A guest that was admitted and will be resumed.
struct Incoming<'a> {
    admitted: Admitted,
    seat: Seat<'a>,
    /// Whether its RAM is loaded already.
    is_loaded: bool,
    shared: Vec<Connected>,
}

/// A guest that was stored, and is to be resumed.
#[derive(Clone, Copy)]
pub struct Resumable<'a> {
    /// The number of its checkpoint.
    pub number: u64,
    /// The registers.
    pub state: &'a GuestState,
    /// Where its memory is, if that is loaded while it runs.
    pub index: Option<&'a Index>,
    /// The checkpoint that has its memory, if the next one can share with it.
    pub baseline: Option<Baseline>,
    /// Whether the guest takes memory as it writes.
    pub overcommits: bool,
}

/// Volumes that were brought back, each with the name of the volume that has what it had become.
pub type Kept = Vec<(Name, Name)>;

/// The place in which a guest is resumed.
enum Seat<'a> {
    /// The domain of the guest of the same name, which is parked; and other RAM for it, if that is
    /// loaded already, or the guest shares its own with others.
    Existing(&'a Arc<Domain>, Parked<'a>, Option<Ram>),
    /// A new domain, with this RAM.
    New(Ram),
}

/// Resumes guests, each in the domain of the guest of its name, which ends thereby, or in a new
/// domain. Their volumes are brought back, unless the `way` is to keep them. Returns the regions
/// that the guests share with others and that keep their content. `kept` gets the volumes that were
/// brought back, also if the resume fails after that.
///
/// `loaded` has for each guest the memory that was loaded for it, if that was done. `load` fills
/// the memory of the guest with the given index from the `store`, if it must be there before the
/// guest runs, and is not. Its last argument says whether it may still give up, because no guest's
/// memory was overwritten so far. With `any_speed` in the `way`, the guests' clocks may go at
/// another speed than before.
///
/// # Errors
///
/// Why no guest was resumed, as [`steps::resume`] says.
pub fn resume(
    store: &mut Store<Disk>,
    stored: &[Resumable],
    loaded: Vec<Option<Ram>>,
    way: Way,
    kept: &mut Kept,
    load: impl FnMut(&mut Store<Disk>, usize, Target, bool) -> Result<(), CheckpointReadError>,
) -> Result<Vec<Stays<'static>>, ResumeError> {
    let existing = registry::all();
    let states: Vec<&GuestState> = stored.iter().map(|one| one.state).collect();
    check_volumes(stored)?;
    for Resumable { number, state, .. } in stored {
        match way.disks {
            Disks::Stay => volumes::check_kept(store, &state.devices.virtio)?,
            _ => volumes::check_stored(store, *number, &state.devices.virtio)?,
        }
    }
    let volumes = existing.iter().flat_map(|domain| domain.volumes()).collect();
    let existing = &existing;
    let mut machine = Resuming { store, stored, loaded, existing, way, volumes, kept, load };
    steps::resume(&mut machine, &states)
}

/// Checks that no other guest has a volume of those that will be resumed, and no two of these the
/// same.
fn check_volumes(stored: &[Resumable]) -> Result<(), VolumeInUse> {
    let disks = stored.iter().flat_map(|one| {
        let guest = one.state.guest.name_text();
        one.state.devices.virtio.volumes().map(move |volume| (volume, guest))
    });
    let disks: Vec<(&str, &str)> = disks.collect();
    if let Some((volume, guest)) = volumes::in_common(disks.iter().copied()) {
        return Err(VolumeInUse { volume: volume.to_string(), guest: guest.to_string() });
    }
    disks.iter().try_for_each(|(volume, guest)| disks::check_unused(volume, Some(guest)))
}

/// What the steps of a resume are carried out with.
struct Resuming<'a, 'disk, F> {
    store: &'a mut Store<Disk<'disk>>,
    stored: &'a [Resumable<'a>],
    /// The memory that was loaded for each of them and is not given to it yet.
    loaded: Vec<Option<Ram>>,
    /// The guests that are on the machine.
    existing: &'a [Arc<Domain>],
    way: Way,
    /// The volumes that guests have.
    volumes: Vec<String>,
    /// The volumes that were brought back.
    kept: &'a mut Kept,
    load: F,
}

impl<'a, F> Steps for Resuming<'a, '_, F>
where
    F: FnMut(&mut Store<Disk>, usize, Target, bool) -> Result<(), CheckpointReadError>,
{
    type Guest = Incoming<'a>;
    type Error = ResumeError;
    type LoadError = CheckpointReadError;

    fn admit(&mut self, state: &GuestState) -> Result<Incoming<'a>, ResumeError> {
        let task = self.store.device_mut().task();
        task.yield_now();
        let is_same = |one: &Resumable| core::ptr::eq(one.state, state);
        let place = self.stored.iter().position(is_same);
        let memory = match place.and_then(|place| self.loaded.get_mut(place)?.take()) {
            Some(ram) => NewMemory::Loaded(Box::new(ram)),
            None => match place.map(|place| self.stored[place]) {
                Some(Resumable { index: Some(index), overcommits: true, .. }) => {
                    NewMemory::AsLoaded(index)
                }
                Some(Resumable { index: Some(_), .. }) => NewMemory::OnDemand,
                _ => NewMemory::ToLoad,
            },
        };
        admit(task, state, memory, self.way, self.existing)
    }

    fn is_in_place(&self, guest: &Incoming) -> bool {
        matches!(guest.seat, Seat::Existing(..))
    }

    fn regions(&self, guest: &Incoming, resumed: &[&str]) -> Vec<Shared> {
        let shared = guest.shared.iter();
        shared.map(|one| Shared { region: one.name(), keeper: one.keeper(resumed) }).collect()
    }

    fn bring_back(&mut self, guests: &[Incoming]) -> Result<Vec<bool>, CheckpointReadError> {
        let before = match self.way.disks {
            Disks::Stay => return Ok(vec![false; guests.len()]),
            Disks::BroughtBack => Before::Kept,
            Disks::Recovered => Before::Recovered { used: &self.volumes },
        };
        let numbers: Vec<u64> = self.stored.iter().map(|one| one.number).collect();
        // The guests that have them stand still.
        self.kept.append(&mut self.store.bring_back(&numbers, before)?);
        let virtio = self.stored.iter().map(|one| &one.state.devices.virtio);
        Ok(virtio.map(|virtio| virtio.volumes().next().is_some()).collect())
    }

    fn lose(&mut self, guest: &mut Incoming) {
        if let Seat::Existing(_, parked, _) = &mut guest.seat {
            parked.set_state(RunState::Lost);
        }
    }

    fn load(
        &mut self,
        index: usize,
        guest: &mut Incoming<'a>,
        puts_back: &[bool],
        can_give_up: bool,
    ) -> Result<(), CheckpointReadError> {
        let Resumable { number, state, index: on_demand, baseline, .. } = self.stored[index];
        let regions = guest.shared.iter().zip(puts_back);
        let mut regions: Vec<Option<Overwritten>> =
            regions.map(|(one, puts_back)| puts_back.then(|| one.overwrite())).collect();
        if on_demand.is_some() || guest.is_loaded {
            let loaded = regions::load(self.store, number, state, &mut regions);
            self.finish(regions);
            loaded.map_err(CheckpointReadError::Memory)?;
            return match on_demand {
                Some(index) => self.begin_loading(guest, index, baseline),
                None => guest.give_loaded(self.store.device_mut().task()),
            }
            .map_err(CheckpointReadError::NoRam);
        }
        let ram: &mut GuestRam = match &mut guest.seat {
            Seat::Existing(_, parked, fresh) => {
                let task = self.store.device_mut().task();
                give_fresh(parked, fresh, &is_ready, task).map_err(CheckpointReadError::NoRam)?;
                parked.overwrite(task)
            }
            Seat::New(ram) => ram,
        };
        let shared = regions.iter_mut().map(|region| Some(region.as_mut()?.as_writable()));
        let target = Target { ram, shared: shared.collect() };
        let loaded = (self.load)(self.store, index, target, can_give_up);
        self.finish(regions);
        loaded?;
        ram.finish_writing(&mut || self.store.device_mut().task().yield_now());
        match baseline {
            Some(baseline) => ram.set_baseline(baseline),
            None => ram.forget_baseline(),
        }
        Ok(())
    }

    fn run(&mut self, guests: Vec<Incoming>) -> Result<(), ResumeError> {
        Ok(run(self.store.device_mut().task(), guests)?)
    }
}

impl<F> Resuming<'_, '_, F> {
    /// Makes guests see what was loaded into regions.
    fn finish(&mut self, regions: Vec<Option<Overwritten>>) {
        let pause = &mut || self.store.device_mut().task().yield_now();
        // Also what a load that failed has written there leaves the caches: the next guest that
        // shares it may run with caches off.
        regions.into_iter().flatten().for_each(|region| region.finish(pause));
    }

    /// Makes the memory of a guest missing: it will be loaded while the guest runs.
    ///
    /// # Errors
    ///
    /// The errors of [`give_fresh`].
    fn begin_loading(
        &mut self,
        guest: &mut Incoming,
        index: &Index,
        baseline: Option<Baseline>,
    ) -> Result<(), NoRam> {
        let base = guest.admitted.guest.ram_base();
        let has_content = |offset: usize| index.entry(base + offset as u64).is_some();
        match &mut guest.seat {
            Seat::Existing(_, parked, fresh) => {
                let task = self.store.device_mut().task();
                let ready = |ram: &GuestRam| ram.reserve_tables(has_content);
                give_fresh(parked, fresh, &ready, task)?;
                parked.begin_loading(has_content, baseline, task);
            }
            Seat::New(ram) => {
                ram.begin_loading(has_content);
                if let Some(baseline) = baseline {
                    ram.set_baseline(baseline);
                }
            }
        }
        Ok(())
    }
}

/// Gives a parked guest the RAM that was taken for it, if it was. `ready` takes what that still
/// lacks, from what the guest gives back.
///
/// # Errors
///
/// [`NoRam`] if that has become too little meanwhile. The guest is lost.
fn give_fresh(
    parked: &mut Parked,
    fresh: &mut Option<Ram>,
    ready: &dyn Fn(&GuestRam) -> Result<(), NoFrame>,
    task: &mut Task,
) -> Result<(), NoRam> {
    fresh.take().map_or(Ok(()), |ram| parked.give_ram(ram, ready, task))
}

/// Returns that RAM has all that it needs: it is in one place, or was loaded.
fn is_ready(_: &GuestRam) -> Result<(), NoFrame> {
    Ok(())
}

impl Incoming<'_> {
    /// Gives the guest in whose place this one comes the RAM that was loaded.
    ///
    /// # Errors
    ///
    /// The errors of [`give_fresh`].
    fn give_loaded(&mut self, task: &mut Task) -> Result<(), NoRam> {
        match &mut self.seat {
            Seat::Existing(_, parked, fresh) => give_fresh(parked, fresh, &is_ready, task),
            Seat::New(_) => Ok(()),
        }
    }
}

/// Where the memory of a guest comes from that will be resumed.
enum NewMemory<'a> {
    /// RAM that was loaded.
    Loaded(Box<Ram>),
    /// The checkpoint, while the guest runs: RAM for that need not be cleared.
    OnDemand,
    /// The checkpoint, while the guest runs, which takes RAM as it is loaded and as it writes. This
    /// says which blocks have content.
    AsLoaded(&'a Index),
    /// The checkpoint, before the guest runs.
    ToLoad,
}

/// Checks a guest that will be resumed, and takes the memory that it needs.
fn admit<'a>(
    task: &mut Task,
    state: &GuestState,
    memory: NewMemory<'_>,
    way: Way,
    existing: &'a [Arc<Domain>],
) -> Result<Incoming<'a>, ResumeError> {
    let identity = guests::host_identity();
    let mut terms = terms(&identity, way);
    let name = state.guest.name_text();
    let is_loaded = matches!(memory, NewMemory::Loaded(_));
    let (mut admitted, seat) = match existing.iter().find(|domain| domain.name == name) {
        Some(domain) => {
            let ram = domain.look().ram;
            let is_shared = domain.shares_ram();
            let mut parked = domain.park();
            let admitted = terms.admit(state, Some(occupant(domain, ram)))?;
            let fresh = match memory {
                NewMemory::Loaded(ram) => {
                    parked.stock_for(&ram, task).map_err(no_room)?;
                    Some(*ram)
                }
                NewMemory::AsLoaded(index) => {
                    Some(taking::in_place(state, index, &parked, task).map_err(no_room)?)
                }
                // What it shares must stay as it is.
                _ if is_shared => Some(Ram::take_uncleared(0, ram.len()).map_err(no_room)?),
                _ => None,
            };
            (admitted, Seat::Existing(domain, parked, fresh))
        }
        None => {
            match &memory {
                // What was taken for it is not free any more.
                NewMemory::Loaded(ram) => terms.free_memory += ram.len() as u64,
                // Nobody knows how much it will need.
                NewMemory::AsLoaded(_) => terms.free_memory = *state.guest.ram_size,
                NewMemory::OnDemand | NewMemory::ToLoad => {}
            }
            let admitted = terms.admit(state, None)?;
            // The RAM keeps its address in the guest's map. It may be anywhere on the machine: the
            // guest has none of the machine's devices.
            let len = admitted.guest.ram_size();
            let ram = match memory {
                NewMemory::Loaded(ram) => Ok(*ram),
                NewMemory::AsLoaded(index) => taking::beside(state, index, task),
                NewMemory::OnDemand => Ram::take_uncleared(0, len),
                NewMemory::ToLoad => Ram::take(0, len, &mut || meanwhile::yield_now(task)),
            };
            (admitted, Seat::New(ram.map_err(no_room)?))
        }
    };
    guests::renew(&mut admitted.guest);
    let shared = shared::connect(archive::shared(), name).map_err(GuestError::from)?;
    Ok(Incoming { admitted, seat, is_loaded, shared })
}

/// Returns the error of a machine without memory for a guest.
fn no_room(why: NoRam) -> ResumeError {
    GuestError::from(why).into()
}

/// Checks what the registers tell of a guest whose memory was not read yet, as [`Terms::look`]
/// says. How much memory a guest needs that `overcommits`, nobody knows.
pub fn look(state: &GuestState, way: Way, overcommits: bool) -> Result<(), Refusal> {
    let identity = guests::host_identity();
    let mut terms = terms(&identity, way);
    if overcommits {
        terms.free_memory = *state.guest.ram_size;
    }
    let existing = registry::all();
    match existing.iter().find(|domain| domain.name == state.guest.name_text()) {
        None => terms.look(state, None),
        Some(domain) => terms.look(state, Some(occupant(domain, domain.look().ram))),
    }
}

/// Returns the terms on which guests can be resumed now.
fn terms(identity: &Identity, way: Way) -> Terms<'_> {
    Terms {
        identity,
        counter_hz: timer::frequency(),
        any_speed: way.any_speed,
        must_be_on: way.disks == Disks::Recovered,
        free_memory: pool::free_bytes(),
        guests: archive::guests(),
        regions: archive::shared(),
    }
}

/// Returns what the terms need to know of a guest whose domain another guest will take.
fn occupant(domain: &Domain, ram: Range) -> Occupant<'_> {
    Occupant { name: &domain.name, vcpus: domain.cores().count(), ram }
}

/// Adds a guest, which is paused.
fn add(
    task: &mut Task,
    guest: Box<Guest>,
    vcpus: Vec<Vcpu>,
    ram: Ram,
) -> Result<Arc<Domain>, GuestError> {
    let cores = guests::choose_cores(guest.name(), &[], vcpus.len())?;
    let placement = Placement { cores: &cores, weight: DEFAULT_WEIGHT };
    let new = NewGuest { guest, vcpus, ram, granted: Granted::none() };
    guests::add(task, placement, new, RunState::Paused)
}

/// Removes a guest that was added, and is paused.
fn remove(task: &mut Task, domain: &Arc<Domain>) {
    let removed = guests::remove(task, domain);
    debug_assert!(removed.is_ok(), "it does not run");
}

/// Makes the guests run that are not off, when the last one is ready.
///
/// # Errors
///
/// Why one was not added. Those that were replaced are lost then, as all others whose memory was
/// overwritten, and those that were added are removed.
fn run(task: &mut Task, incoming: Vec<Incoming>) -> Result<(), GuestError> {
    let mut fresh = Vec::new();
    let mut parked_ones: Vec<Parked> = Vec::new();
    for Incoming { admitted: Admitted { guest, vcpus, then }, seat, .. } in incoming {
        task.yield_now();
        match seat {
            Seat::New(ram) => match add(task, guest, vcpus, ram) {
                Ok(domain) => fresh.push((domain, then)),
                Err(why) => {
                    // What was replaced may lack memory that nobody will load.
                    parked_ones.iter_mut().for_each(|parked| parked.set_state(RunState::Lost));
                    drop(parked_ones);
                    fresh.iter().for_each(|(domain, _)| remove(task, domain));
                    return Err(why);
                }
            },
            Seat::Existing(domain, mut parked, _) => {
                parked.replace(guest, vcpus, then, task);
                network::plug(domain, &parked.guest);
                terminal::forget(domain);
                parked_ones.push(parked);
            }
        }
    }
    for (domain, then) in &fresh {
        let mut parked = domain.park();
        parked.fit_tables(task);
        parked.set_state(*then);
    }
    // Guests in domains that existed before run when their locks are dropped, which is here.
    drop(parked_ones);
    Ok(())
}
