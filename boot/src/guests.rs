//! Making guests from the boot archive, starting them again, and removing them. [`crate::resume`]
//! makes guests from checkpoints; [`crate::registry`] knows which there are.

use crate::archive::{self, BootArchive};
use crate::devices::{self, DevicesError, Granted};
use crate::machine::Machine;
use crate::registry::GUESTS;
use crate::work::Work;
use crate::{clearing, meanwhile, notes, originals, plans, provision, smp, terminal, uplinks};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use spin::Once;
use stasis_arch::boot::MAX_CORES;
use stasis_arch::cpu::IdRegisters;
use stasis_arch::timer;
use stasis_guest::given::Given;
use stasis_guest::image;
use stasis_guest::shared::NotMade;
use stasis_guest::{Guest, Vcpu};
use stasis_host::config::{GuestConfig, has_time};
use stasis_host::creation::{Blueprint, CreationError, Here, NewRam, NotStartable, check_restart};
use stasis_host::registry::Rejected;
use stasis_host::run_state::{Misfit, RunState};
use stasis_host::sched::{self, NoSuchCore};
use stasis_hw::paging::{MapError, Translation};
use stasis_memory::range::{NoRam, Range};
use stasis_run::domain::{Domain, Memory, Placement, Ram};
use stasis_run::el2::GuestRam;
use stasis_run::shared::{self, Connected};
use stasis_run::tables::GuestTables;
use stasis_run::turns::{self, Task};
use stasis_run::{device_interrupts, network, random, roster};
use stasis_state::vcpu::Identity;

/// Why the machine can't have a guest, or can't start it.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// The machine lacks a core that the guest needs.
    #[error(transparent)]
    Core(#[from] NoSuchCore),
    /// The machine lacks memory for a region that the guest shares.
    #[error(transparent)]
    Shared(#[from] NotMade),
    /// The guest can't get the devices of its configuration.
    #[error(transparent)]
    Devices(#[from] DevicesError),
    /// The guest can't get its disks.
    #[error(transparent)]
    Disks(#[from] provision::DiskNotMade),
    /// The machine lacks RAM for the guest.
    #[error(transparent)]
    Ram(#[from] NoRam),
    /// The guest can't be made as its configuration says.
    #[error(transparent)]
    Creation(#[from] CreationError),
    /// The boot archive does not describe this guest.
    #[error(transparent)]
    NotStartable(#[from] NotStartable),
    /// The machine can't have one more guest, or not one of that name.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// EL2's heap has no room for the guest's translation.
    #[error("cannot map its memory: {0:?}")]
    Unmapped(MapError),
}

impl GuestError {
    /// Returns whether the machine lacks memory, which it may have later.
    pub fn lacks_memory(&self) -> bool {
        matches!(self, Self::Ram(_) | Self::Unmapped(MapError::OutOfMemory))
    }
}

/// The physical addresses of the machine's GICV, as its device tree has them: [`init`] alone sets
/// them.
static GICV: Once<Range> = Once::new();

/// Makes the guests that the boot archive describes. Logs why one of them can't be made, and makes
/// the others. A machine without a GIC gets none.
pub fn init(machine: &Machine, work: &mut Work) {
    let Ok(gic) = machine.gic else { return };
    GICV.call_once(|| gic.gicv);
    let boot = match archive::open(machine) {
        Ok(boot) => boot,
        Err(error) => {
            log::error!("{error}");
            return;
        }
    };
    work.storage.configure(&boot.configuration.store);
    plans::init(&boot.configuration.cores);
    uplinks::init(machine, &boot.configuration.networks);
    shared::init(&boot.configuration.shared, &mut || work.task.yield_now());
    for guest in &boot.configuration.guests {
        if let Err(error) = create(boot, work, guest) {
            log::error!("guest \"{}\": {error}", guest.name);
        }
    }
    work.storage.warn_if_lacking(&boot.configuration, work.task);
}

/// Makes a guest as the boot archive configures it, and adds it to those of the machine.
fn create(boot: &BootArchive, work: &mut Work, config: &GuestConfig) -> Result<(), GuestError> {
    let cores = choose_cores(&config.name, &config.cores, config.vcpus.into())?;
    shared::connect(archive::shared(), &config.name)?;
    let granted = devices::give(config)?;
    let config = &provision::provide(work, boot, config, None)?;
    let task = &mut *work.task;
    let mut ram = take_ram(config, task)?;
    let base = config.memory_map.ram_base(ram.range().start);
    let can_leave = work.storage.may_have_a_store();
    let (guest, vcpus) = load(boot, config, &granted, can_leave, base, &mut ram)?;
    ram.finish_writing(&mut || meanwhile::yield_now(task));
    provision::accept_losses(work, config)?;
    let state = RunState::made(config.autostart);
    let placement = Placement { cores: &cores, weight: config.weight };
    add(work.task, placement, NewGuest { guest, vcpus, ram, granted }, state).map(drop)
}

/// Takes RAM for a guest, which is all zeros, or is for the guest: [`NewRam`] says how.
fn take_ram(config: &GuestConfig, task: &mut Task) -> Result<Ram, NoRam> {
    let pause = &mut || meanwhile::yield_now(task);
    let lowest = config.memory_map.lowest();
    match NewRam::of(config, plans::has_window(&config.name)) {
        NewRam::Overcommitted => Ram::overcommitted(config.memory, pause),
        NewRam::Cleared => Ram::take(lowest, config.memory, pause),
        NewRam::Stale => Ram::take_stale(lowest, config.memory),
    }
}

/// Loads a guest's image into its RAM and returns the guest with its vCPUs. The RAM must be all
/// zeros; `base` is its address for the guest. `can_leave` says whether checkpoints can be made of
/// it.
fn load(
    boot: &BootArchive,
    config: &GuestConfig,
    given: &Given,
    can_leave: bool,
    base: u64,
    ram: &mut GuestRam,
) -> Result<(Box<Guest>, Vec<Vcpu>), CreationError> {
    let random = random::bytes();
    if config.entropy && random.is_none() {
        log::warn!("guest \"{}\": entropy comes to nothing: {}", config.name, random::NoSource);
    }
    let blueprint = Blueprint::new(config, &boot.configuration.shared, given, base, random);
    let loaded = image::load(ram, &blueprint.parts(&boot.files)?)?;
    if let Some(warning) = loaded.warning {
        log::warn!("guest \"{}\": {warning}", config.name);
    }
    if blueprint.is_written_unseen() {
        ram.mark_written(0..config.memory as usize);
    }
    let here = Here {
        identity: &host_identity(),
        counter_hz: timer::frequency(),
        wall_time: stasis_run::clock::wall_time(),
        can_leave,
    };
    blueprint.build(&loaded, here)
}

/// Makes and starts a guest that the boot archive describes and the machine does not have.
pub fn start(work: &mut Work, name: &str) -> Result<(), GuestError> {
    let (boot, config) = archive::of_guest(name)?;
    create(boot, work, &GuestConfig { autostart: true, ..config.clone() })
}

/// Starts a guest again from the boot archive, whatever it is doing. A clone, or what was resumed
/// under another name, starts as its [original](originals) does.
pub fn restart(work: &mut Work, domain: &Arc<Domain>) -> Result<(), GuestError> {
    let (boot, config) = originals::of_guest(work.task, domain)?;
    let there = domain.look().ram;
    check_restart(&config, domain.cores().count(), there)?;
    let config = &provision::provide(work, boot, &config, Some(&domain.name))?;
    // What it shares must stay as it is.
    let shares = domain.shares_ram();
    let fresh = shares.then(|| take_ram(config, work.task)).transpose()?;
    let mut parked = domain.park();
    let can_leave = work.storage.may_have_a_store();
    let load = |ram: &mut GuestRam, task: &mut Task| {
        let made = load(boot, config, domain.given(), can_leave, there.start, ram)?;
        ram.finish_writing(&mut || meanwhile::yield_now(task));
        Ok::<_, CreationError>(made)
    };
    let (guest, vcpus) = match fresh {
        Some(mut ram) => {
            let made = load(&mut ram, work.task)?;
            provision::accept_losses(work, config)?;
            parked.give_ram(ram, &|_| Ok(()), work.task)?;
            made
        }
        None => {
            provision::accept_losses(work, config)?;
            let ram = parked.overwrite(work.task);
            ram.zero_all(&mut || meanwhile::yield_now(work.task));
            load(ram, work.task)?
        }
    };
    // Doorbells that were rung before are no longer heard, as after a reset.
    domain.shared().iter().for_each(Connected::silence);
    parked.replace(guest, vcpus, RunState::Running, work.task);
    // A guest that was resumed from an older checkpoint had others.
    network::plug(domain, &parked.guest);
    notes::starts(domain);
    Ok(())
}

/// A guest that is not one of the machine's yet.
pub struct NewGuest {
    /// The guest.
    pub guest: Box<Guest>,
    /// The vCPUs of the guest, in the order of their indices.
    pub vcpus: Vec<Vcpu>,
    /// The RAM of the guest, with its image in it.
    pub ram: Ram,
    /// Devices of the machine for it.
    pub granted: Granted,
}

/// Adds a guest to those of the machine, and returns its domain. Nobody runs on this core
/// meanwhile: the task does not yield.
///
/// # Errors
///
/// [`GuestError`] with the first reason why the machine can't have it.
pub fn add(
    _task: &mut Task,
    placement: Placement,
    new: NewGuest,
    state: RunState,
) -> Result<Arc<Domain>, GuestError> {
    let NewGuest { guest, vcpus, ram, granted } = new;
    let given = granted.into_given(guest.name()).map_err(DevicesError::from)?;
    let shared = shared::connect(archive::shared(), guest.name())?;
    let claim = GUESTS.lock().claim(guest.name())?;
    let number = claim.number;
    let gicv = *GICV.get().expect("it is known before any guest");
    let stage2 = match claim.left.map_or_else(|| Translation::new(&mut GuestTables::OfHeap), Ok) {
        Ok(translation) => translation,
        Err(why) => {
            GUESTS.lock().disclaim(number);
            return Err(GuestError::Unmapped(why));
        }
    };
    let memory = Memory { ram, shared, given, gicv, stage2 };
    // SAFETY: 1. `GUESTS` gives a number to one guest at a time, and keeps its translation for the
    // next one; a new one has mapped nothing yet. 2. `GICV` is what `init` got from the `Machine`,
    // whose device tree is true. `Granted` has devices that Stasis does not use, of its device
    // tree, or none, and `into_given` has found that no other guest has them, nor is there another
    // one of its name, by `claim`; whoever adds one has the one task, which this has. 3. vCPUs run
    // on the task's core while it yields, which it does not as long as `_task` is borrowed.
    let domain = match unsafe { Domain::new(number, placement, guest, vcpus, memory, state) } {
        Ok(domain) => domain,
        Err((why, stage2)) => {
            GUESTS.lock().give_back(number, stage2);
            return Err(GuestError::Unmapped(why));
        }
    };
    log::info!("guest \"{}\": on core {}", domain.name, List(placement.cores));
    domain.shared().iter().for_each(|one| one.enter(&domain));
    domain.plug_in();
    warn_of_crowds(&domain);
    device_interrupts::enter(&domain);
    if state == RunState::Running {
        device_interrupts::engage(&domain);
    }
    notes::begin(&domain, archive::guest(&domain.name), state);
    turns::assign(&domain);
    GUESTS.lock().enter(number, &domain.name, domain.clone());
    clearing::begin();
    Ok(domain)
}

/// Says which of a new guest's networks have too many cards for one more to get all frames.
fn warn_of_crowds(domain: &Domain) {
    for network in domain.cards().into_iter().map(|card| card.network) {
        if network::is_crowded(&network) {
            log::warn!(
                "guest \"{}\": network \"{network}\" has too many cards: a frame for all goes to {} others",
                domain.name,
                network::MOST
            );
        }
    }
}

/// Makes a guest that does not run yet announce itself to its networks. Gives it a new generation
/// ID, if it has one: its random numbers must not be those of another guest of its checkpoint.
pub fn renew(guest: &mut Guest) {
    // No vCPU is loaded yet, so none must be kicked.
    let _ = guest.announce();
    if !guest.has_generation() {
        return;
    }
    match random::bytes() {
        Some(id) => {
            let _ = guest.new_generation(id);
        }
        None => log::warn!(
            "guest \"{}\": its generation ID stays as it was stored: {}",
            guest.name(),
            random::NoSource
        ),
    }
}

/// Removes a guest that does not run. Its memory, its number and its name are free then.
pub fn remove(task: &mut Task, domain: &Arc<Domain>) -> Result<(), Misfit> {
    let mut parked = domain.park();
    parked.state.check_remove(&domain.name)?;
    GUESTS.lock().leave(domain);
    domain.shared().iter().for_each(Connected::leave);
    network::unplug(domain);
    parked.release_devices();
    device_interrupts::leave(domain);
    notes::end(domain);
    terminal::forget(domain);
    turns::retire(task, domain);
    let (ram, stage2) = parked.take_memory(task);
    ram.give_back(&mut || meanwhile::yield_now(task));
    GUESTS.lock().give_back(domain.number, stage2);
    Ok(())
}

/// Returns the cores for the vCPUs of the guest with this name: those that it wants, or else, of
/// those that have time for it, those with the fewest vCPUs.
pub fn choose_cores(name: &str, wanted: &[u32], vcpus: usize) -> Result<Vec<usize>, NoSuchCore> {
    let plans = plans::all();
    let has_time = |core| has_time(&plans, core, name);
    let loads: Vec<Option<usize>> = (0..MAX_CORES)
        .map(|core| smp::is_present(core).then(|| roster::of(core).vcpu_count()))
        .collect();
    sched::choose_cores(wanted, vcpus, &loads, &has_time)
}

/// Numbers that are written with commas between them.
struct List<'a>(&'a [usize]);

impl core::fmt::Display for List<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        for (n, number) in self.0.iter().enumerate() {
            write!(f, "{}{number}", if n > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

/// Returns the ID registers of the calling core.
pub fn host_identity() -> Identity {
    let raw = IdRegisters::read();
    let mut identity = Identity::default();
    *identity.midr_el1 = raw.midr_el1;
    *identity.revidr_el1 = raw.revidr_el1;
    *identity.ctr_el0 = raw.ctr_el0;
    *identity.dczid_el0 = raw.dczid_el0;
    *identity.id_aa64pfr0_el1 = raw.id_aa64pfr0_el1;
    *identity.id_aa64pfr1_el1 = raw.id_aa64pfr1_el1;
    *identity.id_aa64dfr0_el1 = raw.id_aa64dfr0_el1;
    *identity.id_aa64isar0_el1 = raw.id_aa64isar0_el1;
    *identity.id_aa64isar1_el1 = raw.id_aa64isar1_el1;
    *identity.id_aa64mmfr0_el1 = raw.id_aa64mmfr0_el1;
    *identity.id_aa64mmfr1_el1 = raw.id_aa64mmfr1_el1;
    *identity.id_aa64mmfr2_el1 = raw.id_aa64mmfr2_el1;
    identity
}
