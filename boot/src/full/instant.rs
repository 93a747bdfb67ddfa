//! The instant of a checkpoint: what guests are then is taken while they stand still, and written
//! while they go on.

use crate::identity;
use alloc::sync::Arc;
use alloc::vec::Vec;
use stasis_arch::timer;
use stasis_host::run_state::{Misfit, RunState};
use stasis_memory::ram::Since;
use stasis_memory::range::NoRam;
use stasis_run::domain::{Domain, Frozen, Parked, Prepared};
use stasis_run::shared::{FrozenRegions, PreparedRegions};
use stasis_run::turns::Task;
use stasis_run::{clock, shared};
use stasis_state::GuestState;

/// A guest as it was at an instant, which is stored while it runs.
pub struct Stored<'a> {
    /// The guest.
    pub domain: &'a Domain,
    /// Whether the guest ran until then.
    pub ran: bool,
    /// The registers.
    pub state: GuestState,
    /// The RAM.
    pub ram: Frozen<'a>,
}

/// Guests as they were at one instant, and the memory that they share.
pub struct Taken<'a> {
    /// The guests.
    pub guests: Vec<Stored<'a>>,
    /// The memory that they share.
    pub regions: FrozenRegions,
    /// The instant.
    pub instant: Instant,
}

/// The instant at which guests were taken.
pub struct Instant {
    /// The host's wall time, in seconds since 1970; 0 if the host has no clock.
    pub wall_time: u64,
    /// What the guests' checkpoints have in common, if they are several; else 0.
    pub set: u128,
    /// How long the guests stood still, in microseconds.
    pub pause_micros: u64,
}

/// Why guests were not taken.
#[derive(Debug, thiserror::Error)]
pub enum InstantError {
    /// A guest is in a state in which none is stored.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// There is no memory for what a guest writes while it is stored.
    #[error("no room to keep what the guest overwrites while it is stored: {0}")]
    NoRoom(#[from] NoRam),
}

/// Takes guests as they are at one instant, with the memory that they share. The guests stand still
/// meanwhile, and so do those that share memory with them. `since` says what is taken of their own
/// memory.
///
/// # Errors
///
/// [`InstantError`] says why none was taken. All go on.
pub fn take<'a>(
    task: &mut Task,
    domains: &[&'a Domain],
    since: Since,
) -> Result<Taken<'a>, InstantError> {
    let pause = &mut || task.yield_now();
    let prepared = domains.iter().map(|domain| Prepared::new(domain, since, pause));
    let prepared: Vec<Prepared> = prepared.collect::<Result<_, _>>()?;
    let regions = PreparedRegions::new(domains.iter().copied(), pause)?;
    let others: Vec<Arc<Domain>> = shared::others(domains);
    others.iter().try_for_each(|domain| domain.reserve_tables(pause))?;
    let begin = timer::counter();
    let mut parked: Vec<Parked> = domains.iter().map(|domain| domain.park()).collect();
    for (domain, parked) in domains.iter().zip(&parked) {
        parked.state.check_store(&domain.name)?;
    }
    let mut others: Vec<Parked> = others.iter().map(|domain| domain.park()).collect();
    // Take the instant after all guests were parked: they have seen every earlier one.
    let (counter, wall_time) = (timer::counter(), clock::date());
    for parked in &mut parked {
        parked.guest.clock.stop(counter);
        // A doorbell that one guest has rung is then in the state of the guest that hears it.
        parked.listen();
    }
    let regions = regions.freeze(&mut parked, &mut others, task);
    drop(others);
    let taken =
        domains.iter().zip(&mut parked).zip(prepared).map(|((domain, parked), prepared)| {
            let state = parked.state_at(counter, wall_time);
            let ran = parked.state == RunState::Running;
            Stored { domain, ran, state, ram: parked.freeze(prepared, task) }
        });
    let guests = taken.collect();
    drop(parked);
    let pause_micros = clock::micros_since(begin);
    let set = if domains.len() > 1 { identity::make() } else { 0 };
    Ok(Taken { guests, regions, instant: Instant { wall_time, set, pause_micros } })
}
