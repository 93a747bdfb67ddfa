//! The disks of guests: none, for there is no store. A configuration with disks [was
//! refused](crate::storage::check).

use crate::archive::BootArchive;
use crate::work::Work;
use stasis_host::config::GuestConfig;

/// Why a guest does not get its disks. No guest has any.
#[derive(Debug, thiserror::Error)]
pub enum DiskNotMade {}

/// Returns the configuration, which has no disks.
///
/// # Errors
///
/// None.
pub fn provide(
    _: &mut Work,
    _: &BootArchive,
    config: &GuestConfig,
    _: Option<&str>,
) -> Result<GuestConfig, DiskNotMade> {
    Ok(config.clone())
}

/// Does nothing: no guest has a disk.
///
/// # Errors
///
/// None.
pub fn accept_losses(_: &mut Work, _: &GuestConfig) -> Result<(), DiskNotMade> {
    Ok(())
}
