//! The store: there is none. Guests can be given all disks of the machine.

use crate::machine::Machine;
use stasis_host::board::Device;
use stasis_host::config::lean;
pub use stasis_host::config::lean::Unserved;
use stasis_host::config::{Configuration, StoreConfig};
use stasis_run::turns::Task;

/// The place where checkpoints are kept: none.
pub struct Storage;

/// Checks that this image can serve what a configuration asks for.
///
/// # Errors
///
/// The first key that it can't serve.
pub fn check(configuration: &Configuration) -> Result<(), Unserved> {
    lean::check(configuration)
}

impl Storage {
    /// Looks for no disk. Returns that Stasis uses none.
    pub fn find(_: &Machine, _: &mut Task) -> (Self, Option<Device>) {
        (Self, None)
    }

    /// Returns that there is no store.
    pub fn may_have_a_store(&self) -> bool {
        false
    }

    /// Does nothing: what is said of the store [was refused](check).
    pub fn configure(&mut self, _: &StoreConfig) {}

    /// Does nothing: guests that need a store [were refused](check).
    pub fn warn_if_lacking(&mut self, _: &Configuration, _: &mut Task) {}
}
