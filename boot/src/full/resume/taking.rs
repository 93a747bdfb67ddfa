//! Memory of a guest that takes it as it is loaded and as it writes: with `overcommit`.
//!
//! [`frames`](stasis_host::admission::frames) decides whether there is enough, and what of it comes
//! from the guest in whose place the other one is resumed.

use crate::{meanwhile, originals, plans, registry};
use stasis_host::admission::frames::{Frames, Plan, Wanted};
use stasis_memory::frames::NoFrame;
use stasis_memory::range::{NoRam, Range};
use stasis_run::domain::{Parked, Ram};
use stasis_run::tables;
use stasis_run::turns::Task;
use stasis_state::{GuestState, Index};

/// Returns whether a guest takes memory as it writes, which is called `name` and was `stored_name`
/// when it was stored: it does so if it was configured so, and has no window, which must not wait
/// for memory.
pub fn overcommits(task: &Task, stored_name: &str, name: &str) -> bool {
    let config = originals::configuration(task, stored_name);
    config.is_some_and(|config| config.overcommit) && !plans::has_window(name)
}

/// Decides when all of a checkpoint is loaded, which is resumed as a whole.
///
/// # Errors
///
/// [`NoRam`] if there is not enough memory for it.
pub fn plan(state: &GuestState, index: &Index) -> Result<Plan, NoRam> {
    let frames = match registry::named(state.guest.name_text()) {
        Some(domain) => domain.park().frames(),
        None => tables::frames(),
    };
    frames.plan(wanted(state, index))
}

/// Returns zeros for a guest that comes in the place of one that is parked. Takes what is needed to
/// load the blocks that have content, as far as there is any: the rest comes from the memory of
/// that guest.
///
/// # Errors
///
/// [`NoRam`] if there is no memory for notes, or less than a page for each such block.
pub fn in_place(
    state: &GuestState,
    index: &Index,
    parked: &Parked,
    task: &mut Task,
) -> Result<Ram, NoRam> {
    let ram = zeros(state, index, parked.frames(), task)?;
    // What is lacking is taken while the memory before goes back.
    let _ = reserve(state, index, &ram);
    Ok(ram)
}

/// Returns zeros for a guest that comes beside the others, as [`in_place`] does. Takes all that is
/// needed to load the blocks that have content.
///
/// # Errors
///
/// The errors of [`in_place`].
pub fn beside(state: &GuestState, index: &Index, task: &mut Task) -> Result<Ram, NoRam> {
    let ram = zeros(state, index, tables::frames(), task)?;
    // Others may have taken some meanwhile.
    reserve(state, index, &ram).map_err(|NoFrame| NoRam::NO_FRAME)?;
    Ok(ram)
}

/// Returns zeros, if loading can begin with these frames.
fn zeros(state: &GuestState, index: &Index, frames: Frames, task: &mut Task) -> Result<Ram, NoRam> {
    frames.check_begin(wanted(state, index))?;
    Ram::overcommitted(*state.guest.ram_size, &mut || meanwhile::yield_now(task))
}

/// Takes from the pool what is needed to load the blocks that have content.
fn reserve(state: &GuestState, index: &Index, ram: &Ram) -> Result<(), NoFrame> {
    let base = *state.guest.ram_base;
    ram.reserve_tables(|offset| index.entry(base + offset as u64).is_some())
}

/// Returns what a checkpoint needs.
fn wanted(state: &GuestState, index: &Index) -> Wanted {
    let ram = Range::new(*state.guest.ram_base, *state.guest.ram_size);
    Wanted::of(index.entries(), ram)
}
