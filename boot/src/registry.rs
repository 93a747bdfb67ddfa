//! The guests that the machine has: a [`Registry`] behind one lock. [`crate::guests`] adds and
//! removes them.

use alloc::sync::Arc;
use alloc::vec::Vec;
use spin::mutex::SpinMutex;
use stasis_host::registry::Registry;
use stasis_hw::paging::Translation;
use stasis_run::domain::{self, Domain};

/// All guests, and the translations of removed guests. A translation stays with its number, because
/// cores may still have its root active.
pub static GUESTS: SpinMutex<Registry<Domain, Translation>> =
    SpinMutex::new(Registry::new(domain::MAX_DOMAINS));

/// Returns all guests, in the order of their numbers.
pub fn all() -> Vec<Arc<Domain>> {
    GUESTS.lock().all()
}

/// Returns the guest with this name, if there is one.
pub fn named(name: &str) -> Option<Arc<Domain>> {
    all().into_iter().find(|domain| domain.name == name)
}
