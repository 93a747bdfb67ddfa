//! How guests start again, which are those of the boot archive: there are no clones, and nothing is
//! resumed.

use crate::archive::{self, BootArchive};
use stasis_host::config::GuestConfig;
use stasis_host::creation::NotStartable;
use stasis_run::domain::Domain;
use stasis_run::turns::Task;

/// Returns the configuration of the guest `name` in the archive.
pub fn configuration(_: &Task, name: &str) -> Option<&'static GuestConfig> {
    archive::guest(name)
}

/// Returns the boot archive, and how a guest is configured.
///
/// # Errors
///
/// Why it can't start again.
pub fn of_guest(
    _: &Task,
    domain: &Domain,
) -> Result<(&'static BootArchive, GuestConfig), NotStartable> {
    archive::of_guest(&domain.name).map(|(boot, config)| (boot, config.clone()))
}
