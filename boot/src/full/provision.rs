//! The volumes behind a guest's disks, before the guest is made: [`provide`] makes those that are
//! not there, as [`stasis_host::volumes`] decides, and [`accept_losses`] gives up what others have
//! lost. [`crate::disks`] does the guest's requests then.

use crate::archive::BootArchive;
use crate::disks::{self, VolumeInUse};
use crate::storage::disk::Disk;
use crate::storage::error::{DiskError, NoStore};
use crate::stream;
use crate::work::Work;
use stasis_host::config::GuestConfig;
use stasis_host::volumes::{self, NotProvided};
use stasis_run::clock;
use stasis_store::Store;

/// Why a guest does not get its disks.
#[derive(Debug, thiserror::Error)]
pub enum DiskNotMade {
    /// There is no store.
    #[error(transparent)]
    NoStore(#[from] NoStore),
    /// A disk does not get its volume.
    #[error(transparent)]
    Volume(#[from] NotProvided<DiskError>),
    /// Another guest has the volume.
    #[error(transparent)]
    VolumeInUse(#[from] VolumeInUse),
}

/// Makes the volumes behind a guest's disks, as far as they are not there. `guest` is the name of
/// the guest that is there and may have them already. Returns the configuration with the disks as
/// large as their volumes.
///
/// # Errors
///
/// [`DiskNotMade`]. Volumes that were made until then stay.
pub fn provide(
    work: &mut Work,
    boot: &BootArchive,
    config: &GuestConfig,
    guest: Option<&str>,
) -> Result<GuestConfig, DiskNotMade> {
    let mut config = config.clone();
    if config.disks.is_empty() {
        return Ok(config);
    }
    config.disks.iter().try_for_each(|disk| disks::check_unused(&disk.volume, guest))?;
    work.with_store(|store| {
        for disk in &mut config.disks {
            let pause = &mut |store: &mut Store<Disk>| stream::pause(store);
            volumes::provide(store, disk, &boot.files, clock::date(), pause)?;
        }
        Ok(config)
    })
}

/// Makes the volumes behind a guest's disks that have lost writes, or whose late writes the disk
/// refuses, what their last flush has made them. For when it is sure that the guest starts anew:
/// one that went on would find its disk changed.
///
/// # Errors
///
/// Why there is no store.
pub fn accept_losses(work: &mut Work, config: &GuestConfig) -> Result<(), DiskNotMade> {
    if config.disks.is_empty() {
        return Ok(());
    }
    work.with_store(|store| {
        for disk in &config.disks {
            if store.volumes_mut().accept_loss(&disk.volume) {
                log::warn!("volume \"{}\" is what its last flush has made it", disk.volume);
            }
        }
        Ok(())
    })
}
