//! The way to help a guest that has stopped, without a store: to start it again. [`crate::care`]
//! decides when.

use crate::guests::{self, GuestError};
use crate::work::Work;
use alloc::sync::Arc;
use alloc::vec::Vec;
use stasis_host::care::remedy::{Means, Setback};
use stasis_host::periodic::Timetable;
use stasis_run::domain::Domain;

/// The ways to help one guest.
pub struct Helper<'w, 't> {
    /// What the helper works with.
    pub work: &'w mut Work<'t>,
    /// The guest.
    pub domain: &'w Arc<Domain>,
}

impl Means for Helper<'_, '_> {
    type Error = GuestError;

    fn restart(&mut self) -> Result<(), GuestError> {
        guests::restart(self.work, self.domain)
    }

    fn checkpoints(&mut self) -> Result<Vec<u64>, GuestError> {
        Ok(Vec::new())
    }

    fn resume(&mut self, _: u64) -> Result<(), GuestError> {
        unreachable!("there are no checkpoints")
    }

    fn lacks_memory(error: &GuestError) -> bool {
        error.lacks_memory()
    }

    fn warn(&mut self, setback: Setback<'_, GuestError>) {
        log::warn!("guest \"{}\" {setback}", self.domain.name);
    }
}

/// Does nothing: a configuration with periodic checkpoints [was refused](crate::storage::check).
pub fn store(_: &mut Work, _: &Domain, _: Timetable) {}
