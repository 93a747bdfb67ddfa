//! Resuming guests, each in the place of the guest of its name or beside the others.
//!
//! First every guest is [admitted](admit): all that can be checked is checked, and what it needs is taken. Only then is
//! memory overwritten, and when all of it is loaded, they run.

use crate::{console, guests};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use stasis_arch::timer;
use stasis_devices::machine::{GICC_BASE, GICD_BASE, MAX_VCPUS, RAM_BASE, RAM_END, RAM_UNIT};
use stasis_guest::clock::Pace;
use stasis_guest::given::Given;
use stasis_guest::shared::connections;
use stasis_guest::sysreg::identity;
use stasis_guest::{Guest, Vcpu};
use stasis_host::config::DEFAULT_WEIGHT;
use stasis_run::shared::{self, Connected};
use stasis_run::slot::{self, FreshRam, Parked, Placement, RunState, Slot};
use stasis_run::{pool, turns};
use stasis_state::guest::GuestPowerState;
use stasis_state::{GuestState, HostFacts, Target};

/// A guest that is about to be resumed.
struct Incoming<'a> {
    guest: Box<Guest>,
    vcpus: Vec<Vcpu>,
    place: Place<'a>,
    shared: Vec<Connected>,
    /// What it does once it is resumed.
    state: RunState,
}

enum Place<'a> {
    /// That of the guest of its name, which stands still.
    Existing(&'a Slot, Parked<'a>),
    /// A new one.
    New(FreshRam),
}

/// Resumes guests, each in the place of the guest of its name, which ends thereby, or in a new one. `load` fills the
/// RAM of one of them, by its index, and is told whether it may still give up: nobody's memory has been overwritten. If it fails, none is resumed, and those are lost whose memory was overwritten by
/// then; everything that can be checked is checked before that. With `any_speed`, their clocks may go at another speed
/// than they were made with. Returns what is to be said of memory that they share with others.
pub fn resume(
    states: &[&GuestState],
    any_speed: bool,
    mut load: impl FnMut(usize, Target, bool) -> Result<(), String>,
) -> Result<Vec<String>, String> {
    let existing = guests::all();
    let mut incoming = Vec::new();
    for (index, state) in states.iter().enumerate() {
        if states[..index].iter().any(|other| other.guest.name == state.guest.name) {
            return Err("two of the checkpoints are of one guest".to_string());
        }
        turns::breathe();
        incoming.push(admit(state, any_speed, &existing)?);
    }
    let resumed: Vec<&str> = states.iter().map(|state| state.guest.name_text()).collect();
    let mut kept = Vec::new();
    let mut can_give_up = true;
    for index in 0..incoming.len() {
        let shared = incoming[index].shared.clone();
        let mut regions = Vec::new();
        for one in &shared {
            let keeper = one.keeper(&resumed);
            kept.extend(keeper.map(|keeper| stays(one, keeper)));
            regions.push(keeper.is_none().then(|| one.memory()));
        }
        can_give_up &=
            matches!(incoming[index].place, Place::New(_)) && regions.iter().all(Option::is_none);
        let (ram, written) = match &mut incoming[index].place {
            Place::Existing(_, parked) => parked.overwrite().contents(),
            Place::New(ram) => ram.contents(),
        };
        let contents = regions.iter_mut().map(|memory| memory.as_mut().map(slot::ram_of));
        let target = Target { ram, written: Some(written), shared: contents.collect() };
        load(index, target, can_give_up)
            .map_err(|error| with_the_lost(error, &incoming[..=index]))?;
        for (one, _) in shared.iter().zip(&regions).filter(|(_, memory)| memory.is_some()) {
            one.overwritten();
        }
    }
    run(incoming)?;
    kept.dedup();
    Ok(kept)
}

/// What is to be said of shared memory whose content is not put back.
fn stays(shared: &Connected, keeper: &str) -> String {
    format!("shared memory \"{}\" stays as guest \"{keeper}\" has it", shared.name())
}

/// Checks a guest that is to be resumed, and takes what it needs.
fn admit<'a>(
    state: &GuestState,
    any_speed: bool,
    existing: &'a [Arc<Slot>],
) -> Result<Incoming<'a>, String> {
    let pace = Pace::resumed(*state.clock.cntfrq, timer::frequency(), any_speed)
        .map_err(|error| error.to_string())?;
    let (guest, vcpus) = Guest::restored(state.clone(), pace).map_err(|error| error.to_string())?;
    let here = connections(guests::configured_shared(), guest.name());
    stasis_guest::shared::check(state.shared.as_ref(), &here, guest.name())
        .map_err(|error| error.to_string())?;
    let shared = shared::connect(guests::configured_shared(), guest.name())?;
    let resumed = resumed_state(state);
    let devices = guests::configured(guest.name()).map(|config| &config.devices[..]);
    if let Some([device, ..]) = devices {
        let name = guest.name();
        return Err(format!(
            "guest \"{name}\" is configured with the machine's device \"{device}\", of which the checkpoint has no state"
        ));
    }
    let Some(slot) = existing.iter().find(|slot| slot.name == guest.name()) else {
        check_host(state, MAX_VCPUS.into(), pool::free_bytes())?;
        // At its addresses in the guest's map; nothing of the machine's needs them there.
        let ram = FreshRam::take(0, guest.ram_size())?;
        return Ok(Incoming { guest, vcpus, place: Place::New(ram), shared, state: resumed });
    };
    let parked = slot.park();
    check_place(state, slot, &parked)?;
    let place = Place::Existing(slot, parked);
    Ok(Incoming { guest, vcpus, place, shared, state: resumed })
}

/// Checks of a guest that is about to be read what its registers tell: so a checkpoint that the machine can't have is refused before its
/// memory is read. Its registers may break rules of the format; its name is that by which it will be called.
pub fn check(state: &GuestState, any_speed: bool) -> Result<(), String> {
    Pace::resumed(*state.clock.cntfrq, timer::frequency(), any_speed)
        .map_err(|error| error.to_string())?;
    let existing = guests::all();
    match existing.iter().find(|slot| slot.name == state.guest.name_text()) {
        None => check_host(state, MAX_VCPUS.into(), pool::free_bytes()),
        Some(slot) => check_place(state, slot, &slot.park()),
    }
}

/// Checks that a guest is as large as the one of its name, whose place it is to take.
fn check_place(state: &GuestState, slot: &Slot, parked: &Parked) -> Result<(), String> {
    let (vcpus, memory) = (slot.cores().count(), parked.guest.ram_size());
    let (its_vcpus, its_memory) = (usize::from(*state.guest.nr_vcpus), *state.guest.ram_size);
    check_host(state, vcpus, memory)?;
    if (its_vcpus, its_memory) != (vcpus, memory) {
        return Err(format!(
            "the checkpoint has {its_vcpus} vCPUs and {} MiB of memory; guest \"{}\" is configured with {vcpus} and {} MiB",
            its_memory >> 20,
            slot.name,
            memory >> 20
        ));
    }
    let (its_base, base) = (*state.guest.ram_base, parked.guest.ram_base());
    if its_base != base {
        return Err(format!(
            "the checkpoint has its memory at {its_base:#x}, and guest \"{name}\" at {base:#x}; remove \"{name}\" first",
            name = slot.name,
        ));
    }
    Ok(())
}

/// Returns what a guest does once it is resumed: one that has switched its machine off, or reset it, has nothing to go on with.
fn resumed_state(state: &GuestState) -> RunState {
    match state.power_state() {
        GuestPowerState::On => RunState::Running,
        GuestPowerState::Off => RunState::Off,
        GuestPowerState::Reset => RunState::Reset,
    }
}

/// What is wrong, and who is lost by it.
fn with_the_lost(error: String, overwritten: &[Incoming]) -> String {
    let lost = overwritten.iter().filter(|incoming| matches!(incoming.place, Place::Existing(..)));
    let lost: Vec<&str> = lost.map(|incoming| incoming.guest.name()).collect();
    if lost.is_empty() { error } else { format!("{error}; lost by this: {}", lost.join(", ")) }
}

/// Makes all guests run, but for those that are off, when the last one is ready for it.
fn run(incoming: Vec<Incoming>) -> Result<(), String> {
    let mut fresh = Vec::new();
    let mut parked_ones = Vec::new();
    for Incoming { guest, vcpus, place, state, .. } in incoming {
        turns::breathe();
        match place {
            Place::New(ram) => {
                let cores = guests::choose_cores(&[], vcpus.len())?;
                let placement = Placement { cores: &cores, weight: DEFAULT_WEIGHT };
                let given = Given::default();
                let slot = guests::add(placement, guest, vcpus, ram, given, RunState::Paused)?;
                fresh.push((slot, state));
            }
            Place::Existing(slot, mut parked) => {
                parked.replace(guest, vcpus, state);
                console::forget(slot);
                parked_ones.push(parked);
            }
        }
    }
    fresh.iter().for_each(|(slot, state)| slot.park().set_state(*state));
    // Those that were there run when their locks are dropped: here.
    drop(parked_ones);
    Ok(())
}

/// Checks that this machine can go on with a guest, and have at most `vcpus` and `memory` bytes for it.
fn check_host(state: &GuestState, vcpus: usize, memory: u64) -> Result<(), String> {
    let host = guests::host_identity();
    let facts = HostFacts {
        vcpus: vcpus as u8,
        memory,
        prio_bits: 5,
        ram: RAM_BASE..RAM_END,
        ram_unit: RAM_UNIT,
        dist_base: GICD_BASE,
        cpu_base: GICC_BASE,
    };
    facts.check(state).map_err(|error| error.to_string())?;
    for (index, vcpu) in state.vcpus.iter().enumerate() {
        identity::check(&vcpu.identity, &host, index).map_err(|error| error.to_string())?;
    }
    Ok(())
}
