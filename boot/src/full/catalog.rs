//! The commands about the checkpoints that the store has, and what others ask of its catalog.
//! [`stasis_host::stored`] decides which checkpoints are deleted, and which belong to a guest.

use crate::answer::Answer;
use crate::loading::{self, CheckpointInUse};
use crate::storage::disk::Disk;
use crate::storage::error::{DiskError, NoStore};
use crate::stream::open;
use crate::stream::routines::routines;
use crate::work::Work;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Write};
use stasis_console::table::{self, Room, StoreEnd, StoreRow};
use stasis_host::stored;
use stasis_store::{Compression, Error, Store, Usage};

/// Why a command about the store's checkpoints was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// There is no store.
    #[error(transparent)]
    NoStore(#[from] NoStore),
    /// The store has failed, or has no such checkpoint.
    #[error(transparent)]
    Store(#[from] Error<DiskError>),
    /// A guest's memory is still loaded from it.
    #[error(transparent)]
    CheckpointInUse(#[from] CheckpointInUse),
    /// The answer was not written.
    #[error(transparent)]
    Answer(#[from] fmt::Error),
}

/// Deletes a checkpoint, or the checkpoints of a set. Says so if a set loses some of its members.
pub fn delete(work: &mut Work, which: &str, out: &mut Answer) -> Result<(), CatalogError> {
    work.with_store(|store| {
        let meant = store.meant(which)?;
        loading::check_unused(store, &meant)?;
        if let Some(remnant) = stored::delete(store, which)? {
            writeln!(out, "{remnant}")?;
        }
        Ok(())
    })
}

/// Returns the numbers of the checkpoints of a guest, the newest first.
pub fn of_guest(work: &mut Work, name: &str) -> Result<Vec<u64>, NoStore> {
    work.with_store(|store| Ok(stored::of_guest(store, name, guest_of)))
}

/// Returns the name of the guest whose state a checkpoint is; `None` if that can't be read.
pub fn guest_of(store: &mut Store<Disk>, number: u64) -> Option<String> {
    stasis_state::read_name(&mut open(store, number).ok()?, routines()).ok()
}

/// Returns the highest number of a checkpoint; 0 if there is none.
pub fn newest(work: &mut Work) -> Result<u64, NoStore> {
    work.with_store(|store| Ok(stored::newest(store)))
}

/// Returns the names of all checkpoints; none if there is no store.
pub fn names(work: &mut Work) -> Vec<String> {
    let names = |store: &mut Store<Disk>| {
        Ok::<_, NoStore>(store.list().iter().map(|one| one.name.to_string()).collect())
    };
    work.with_store(names).unwrap_or_default()
}

/// Lists the checkpoints.
pub fn list(work: &mut Work, json: bool, out: &mut Answer) -> Result<(), CatalogError> {
    work.with_store(|store| {
        let frees = store.freed_by_each();
        let usage = store.usage();
        let numbers: Vec<u64> = store.list().iter().map(|one| one.number).collect();
        let guests: Vec<Option<String>> =
            numbers.into_iter().map(|number| guest_of(store, number)).collect();
        let rows: Vec<StoreRow> = store
            .list()
            .iter()
            .zip(frees.into_iter().zip(&guests))
            .map(|(checkpoint, (frees, guest))| StoreRow {
                number: checkpoint.number,
                name: &checkpoint.name,
                guest: guest.as_deref(),
                size: checkpoint.length,
                frees,
                parent: store.parent_of(checkpoint),
                pages: checkpoint.pages.map(|pages| pages.get().into()),
                when: checkpoint.created,
                member: checkpoint.member.map(|member| (member.index, member.count)),
            })
            .collect();
        table::store(&rows).write(out, json)?;
        let Usage { free, capacity, .. } = usage;
        let (room, compression) = (Room { free, capacity }, store.compression());
        let compression = (compression != Compression::None).then(|| compression.name());
        StoreEnd { room, compression, damaged: store.damaged() }.write(out, json)?;
        Ok(())
    })
}

/// Takes the store to the newest version, whose checkpoints can share what they have in common.
pub fn upgrade(work: &mut Work, out: &mut Answer) -> Result<(), CatalogError> {
    work.with_store(|store| {
        let (before, version) = (store.upgrade()?, store.version());
        if before == version {
            writeln!(out, "the store has version {version} already")?;
        }
        Ok(())
    })
}

/// Sets how the store compresses the checkpoints that it gets, by the name of the way.
pub fn compress(work: &mut Work, how: &str) -> Result<(), CatalogError> {
    let compression = Compression::ALL.into_iter().find(|one| one.name() == how);
    let compression = compression.unwrap_or(Compression::None);
    work.with_store(|store| Ok(store.set_compression(compression)?))
}
