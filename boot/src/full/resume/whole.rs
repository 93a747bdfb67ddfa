//! Memory of a guest that is resumed as a whole: it is loaded and checked in one pass, before
//! anything is changed, into memory that nobody uses yet. If a page is not what the checkpoint
//! should have, that memory is given back, and all is as it was.

use super::error::CheckpointReadError;
use crate::answer::Answer;
use crate::loading::fill_unit;
use crate::loading::origin::Origin;
use crate::storage::disk::Disk;
use crate::stream::progress::Progress;
use crate::{archive, registry, spare, stream, typed};
use alloc::boxed::Box;
use stasis_devices::machine::RAM_BASE;
use stasis_host::config::MemoryMap;
use stasis_run::domain::{Domain, Ram};
use stasis_state::{Baseline, GuestState};
use stasis_store::Store;

/// Returns memory for a guest, as it comes from the pool; `None` if its checkpoint must be checked
/// first and loaded then: there is no room for both, or the guest comes in the place of one whose
/// memory must stay where it is, or others could ask for what is free meanwhile.
pub fn take(state: &GuestState) -> Option<Ram> {
    let (base, len) = (*state.guest.ram_base, *state.guest.ram_size);
    let may_take = match registry::named(state.guest.name_text()) {
        // What it shares is not its own to overwrite, so it takes other memory in any case.
        Some(place) if place.shares_ram() => true,
        Some(place) => !must_stay(&place, base) && spare::is_unwanted(len),
        None => true,
    };
    may_take.then(|| Ram::take_uncleared(0, len).ok()).flatten()
}

/// Returns whether the guest's memory, whose first address is `base`, must stay where it is on the
/// machine.
fn must_stay(place: &Domain, base: u64) -> bool {
    let config = archive::guest(&place.name);
    base != RAM_BASE || config.is_some_and(|config| config.memory_map == MemoryMap::Identity)
}

/// Makes `ram` what a checkpoint says, and checks all of it. `baseline` has all of it, if the next
/// checkpoint can share with that. Others get what they wait for meanwhile.
///
/// # Errors
///
/// What is wrong with the first page that is not what was stored, or why it was not read; or that
/// the command was given up.
pub fn load(
    store: &mut Store<Disk>,
    origin: &mut Origin,
    ram: &mut Ram,
    state: &GuestState,
    baseline: Option<Baseline>,
    out: &mut Answer,
) -> Result<(), CheckpointReadError> {
    let base = *state.guest.ram_base;
    let index = origin.index();
    ram.begin_loading(|offset| index.entry(base + offset as u64).is_some());
    if let Some(baseline) = baseline {
        ram.set_baseline(baseline);
    }
    let Some(missing) = ram.missing().cloned() else { return Ok(()) };
    let (total, mut progress) = (missing.left(), Progress::new("loaded", out));
    while let Some(unit) = missing.next() {
        typed::check_given_up().map_err(CheckpointReadError::GivenUp)?;
        let filled = fill_unit(store, origin, &missing, unit.clone(), base);
        let has_content = filled.map_err(|why| CheckpointReadError::Memory(Box::new(why)))?;
        let _ = missing.arrived(unit.start);
        ram.note_frames(unit.clone());
        match baseline {
            _ if !has_content => {}
            Some(_) => ram.mark_loaded(unit),
            None => ram.mark_written(unit),
        }
        progress.report(total - missing.left(), total);
        stream::pause(store);
    }
    ram.end_loading();
    Ok(())
}
