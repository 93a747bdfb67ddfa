//! The commands about the volumes that the store has.

use crate::answer::Answer;
use crate::catalog;
use crate::disks::{self, VolumeInUse};
use crate::storage::disk::Disk;
use crate::storage::error::{DiskError, NoStore};
use crate::work::Work;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use stasis_console::table::{self, Room, SetAsideRow, VolumeRow};
use stasis_host::volumes::{Origin, origin_of};
use stasis_run::clock;
use stasis_store::volume::Source;
use stasis_store::{Error, Store, Usage};

/// Why a command about volumes was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum VolumeCommandError {
    /// There is no store.
    #[error(transparent)]
    NoStore(#[from] NoStore),
    /// The store has failed, or has no such volume, or has one of this name.
    #[error(transparent)]
    Store(#[from] Error<DiskError>),
    /// A guest has the volume.
    #[error(transparent)]
    VolumeInUse(#[from] VolumeInUse),
    /// The answer was not written.
    #[error(transparent)]
    Answer(#[from] fmt::Error),
}

/// Lists the volumes.
pub fn list(work: &mut Work, json: bool, out: &mut Answer) -> Result<(), VolumeCommandError> {
    work.with_store(|store| {
        let frees = store.freed_by_each_volume();
        let Usage { free, capacity, .. } = store.usage();
        let names: Vec<String> =
            store.volumes().iter().map(|volume| volume.name.to_string()).collect();
        let origins: Vec<Option<Origin>> =
            names.iter().map(|name| origin_of(store, name, catalog::guest_of)).collect();
        let volumes = store.volumes().iter().zip(frees).zip(origins);
        let rows: Vec<VolumeRow> = volumes
            .map(|((volume, frees), origin)| VolumeRow {
                name: &volume.name,
                size: volume.length,
                frees,
                when: volume.created,
                guest: disks::user_of(&volume.name),
                set_aside: origin.map(|Origin { volume, checkpoint, guest }| SetAsideRow {
                    volume,
                    checkpoint,
                    guest,
                }),
            })
            .collect();
        table::volumes(&rows).write(out, json)?;
        Ok(Room { free, capacity }.write(out, json)?)
    })
}

/// Returns the names of all volumes; none if there is no store.
pub fn names(work: &mut Work) -> Vec<String> {
    let names = |store: &mut Store<Disk>| {
        Ok::<_, NoStore>(store.volumes().iter().map(|one| one.name.to_string()).collect())
    };
    work.with_store(names).unwrap_or_default()
}

/// Creates a volume of zeros.
pub fn create(work: &mut Work, name: &str, size: u64) -> Result<(), VolumeCommandError> {
    work.with_store(|store| Ok(store.create_volume(name, size, clock::date())?))
}

/// Makes a volume that shares all of its blocks with another one.
pub fn copy(work: &mut Work, name: &str, to: &str) -> Result<(), VolumeCommandError> {
    work.with_store(|store| Ok(store.copy_volume(Source::Volume(name), to, clock::date())?))
}

/// Deletes a volume.
pub fn delete(work: &mut Work, name: &str) -> Result<(), VolumeCommandError> {
    disks::check_unused(name, None)?;
    work.with_store(|store| Ok(store.delete_volume(name)?))
}
