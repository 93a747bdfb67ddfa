//! The guests that commands, requests and streams name, and whether they can be looked at.

use crate::registry;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use stasis_console::command::{self, CommandError};
use stasis_console::table::GuestRow;
use stasis_run::domain::{Domain, Look};

/// Returns whether no guest is parked, and so each can be looked at: by the caller, or by who has
/// called it.
pub fn guests_are_free() -> bool {
    /// A vCPU has a guest's lock for less than as many tries to take it.
    const PATIENCE: usize = 10_000;
    let is_free = |domain: &Arc<Domain>| (0..PATIENCE).any(|_| !domain.is_parked());
    registry::all().iter().all(is_free)
}

/// Returns the guest that a command names, by name or number.
///
/// # Errors
///
/// There is no such guest.
pub fn find(word: &str) -> Result<Arc<Domain>, CommandError> {
    let domains = registry::all();
    let place = command::find_guest(&rows(&domains), word)?;
    Ok(domains[place].clone())
}

/// Returns the guests that a command names; all guests if it names none.
///
/// # Errors
///
/// There is no guest of one of the names, or it is named twice.
pub fn find_all(words: &[&str]) -> Result<Vec<Arc<Domain>>, CommandError> {
    let domains = registry::all();
    let places = command::find_guests(&rows(&domains), words)?;
    Ok(places.into_iter().map(|place| domains[place].clone()).collect())
}

/// Returns rows with only what never changes of guests: number and name.
fn rows(domains: &[Arc<Domain>]) -> Vec<GuestRow<'_>> {
    domains.iter().map(|domain| row(domain, None, &[])).collect()
}

/// Returns a guest's row. Without a `look`, only its number and its name are right.
pub fn row<'a>(domain: &'a Domain, look: Option<Look>, cores: &'a [u32]) -> GuestRow<'a> {
    GuestRow {
        number: domain.number,
        name: &domain.name,
        state: look.map_or("", |look| look.state.name()),
        vcpus: cores.len() as u8,
        memory: look.map_or(0, |look| look.ram.len()),
        own: look.map_or(0, |look| look.usage.own),
        shared: look.map_or(0, |look| look.usage.shared),
        to_load: look.map_or(0, |look| look.missing),
        changed: look.map_or(0, |look| look.changed),
        cores,
    }
}

/// Returns the numbers of the cores of a guest's vCPUs, in their order.
pub fn cores_of(domain: &Domain) -> Vec<u32> {
    domain.cores().map(|core| core as u32).collect()
}

/// Nobody can be attached to the terminal of a guest that has none.
#[derive(Clone, Debug, thiserror::Error)]
#[error("guest \"{0}\" has no terminal; its configuration must say terminal = true")]
pub struct NoTerminal(String);

impl NoTerminal {
    /// Returns the error about this guest.
    pub fn of(guest: &Domain) -> Self {
        Self(guest.name.clone())
    }
}
