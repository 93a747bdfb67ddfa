//! The boot archive that the machine was started with: the configuration of its guests, and their
//! images.

use crate::machine::Machine;
use crate::storage::{self, Unserved};
use alloc::string::String;
use alloc::vec::Vec;
use spin::Once;
use stasis_guest::shared::SharedRegion;
use stasis_host::archive::{Archive, ArchiveError};
use stasis_host::config::{self, ConfigError, Configuration, GuestConfig};
use stasis_host::creation::NotStartable;

/// The boot archive with the configuration of its guests.
pub struct BootArchive {
    /// The files.
    pub files: Archive<'static>,
    /// What one of the files says about guests, cores and shared memory.
    pub configuration: Configuration,
}

/// Why no guest is made at boot.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The firmware has passed no archive.
    #[error("no guests: the machine was started without an initrd")]
    NoInitrd,
    /// The initrd is no archive, or lacks the configuration.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The configuration breaks a rule.
    #[error(transparent)]
    Configuration(#[from] ConfigError),
    /// The configuration wants what this image does not have.
    #[error(transparent)]
    Unserved(#[from] Unserved),
}

static BOOT: Once<BootArchive> = Once::new();

/// Reads the boot archive, and returns it. Must be called only once.
pub fn open(machine: &Machine) -> Result<&'static BootArchive, BootError> {
    let range = machine.initrd.ok_or(BootError::NoInitrd)?;
    // SAFETY: 1. `Machine` is proof that the firmware has put the initrd there, and that RAM is
    // mapped for ever. 2. Nobody writes it, because `free_ram` leaves it out.
    let bytes =
        unsafe { core::slice::from_raw_parts(range.start as *const u8, range.len() as usize) };
    let files = Archive::open(bytes)?;
    let configuration = config::parse(files.file(config::FILE_NAME)?)?;
    storage::check(&configuration)?;
    Ok(BOOT.call_once(|| BootArchive { files, configuration }))
}

/// Returns the configurations of the guests in the boot archive.
pub fn guests() -> &'static [GuestConfig] {
    BOOT.get().map_or(&[], |boot| &boot.configuration.guests)
}

/// Returns the configuration of a guest in the boot archive.
pub fn guest(name: &str) -> Option<&'static GuestConfig> {
    guests().iter().find(|config| config.name == name)
}

/// Returns the regions that the guests of the boot archive share.
pub fn shared() -> &'static [SharedRegion] {
    BOOT.get().map_or(&[], |boot| &boot.configuration.shared)
}

/// Returns the names of the guests in the boot archive.
pub fn guest_names() -> Vec<String> {
    guests().iter().map(|config| config.name.clone()).collect()
}

/// Returns the boot archive, and the configuration of a guest in it.
pub fn of_guest(name: &str) -> Result<(&'static BootArchive, &'static GuestConfig), NotStartable> {
    let boot = BOOT.get().ok_or(NotStartable::NoArchive)?;
    Ok((boot, guest(name).ok_or(NotStartable::NotInArchive)?))
}
