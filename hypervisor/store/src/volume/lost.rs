//! Writes to volumes that were lost: a flush must not say of them that they are in the store.
//!
//! A device that fails a flush may have dropped what it was to keep, and a card that was pulled has
//! what was flushed. What was written to a volume since its last flush is only partly in memory, so
//! it can't be written again: from then on, every access to the volume is refused until it is
//! [closed](super::Volumes::close), as its guest is started anew or resumed. Then it is what its
//! last flush has made it.

use super::map::Open;
use super::{Name, Volumes};
use crate::block::BlockDevice;
use crate::error::VolumeFault;
use crate::store::{Result, Store};
use alloc::collections::BinaryHeap;
use alloc::string::ToString;
use alloc::vec::Vec;

impl<D: BlockDevice> Volumes<'_, D> {
    /// Closes a volume. What was written since its last flush is given up.
    pub fn close(&mut self, name: &str) {
        self.store.note_lost();
        self.store.open.retain(|open| open.volume.name.as_str() != name);
        self.store.lost.retain(|lost| lost.as_str() != name);
        self.store.space_is_stale();
    }
}

impl<D: BlockDevice> Store<D> {
    /// Returns the volumes to which something was written since their last flush, and those that
    /// have [lost](Self::lose_writes) writes: whoever opens the store of a disk anew tells the new
    /// one of them. Nobody makes late writes of any volume after that.
    pub fn unflushed_volumes(&self) -> Vec<Name> {
        let open = self.open.iter().filter(|open| open.end_late() || self.is_unflushed(open));
        let names = open.map(|open| open.volume.name);
        // A heap's sorting is a tenth of the code of a slice's.
        let mut all =
            BinaryHeap::from_iter(names.chain(self.lost.iter().copied())).into_sorted_vec();
        all.dedup();
        all
    }

    /// Says that what was written to these volumes and not flushed is lost. Each access to one is
    /// refused with [`VolumeFault::WritesLost`] until it is [closed](Volumes::close).
    pub fn lose_writes(&mut self, names: Vec<Name>) {
        let all = core::mem::take(&mut self.lost).into_iter().chain(names);
        self.lost = BinaryHeap::from_iter(all).into_sorted_vec();
        self.lost.dedup();
    }

    /// Returns whether a volume has lost writes, and is not closed since.
    pub fn has_lost_writes(&mut self, name: &str) -> bool {
        self.check_not_lost(name).is_err()
    }

    /// Refuses an access to a volume that has lost writes.
    pub(super) fn check_not_lost(&mut self, name: &str) -> Result<(), D> {
        self.note_lost();
        let lost = self.lost.iter().find(|lost| lost.as_str() == name);
        lost.map_or(Ok(()), |name| Err(VolumeFault::WritesLost { name: name.to_string() }.into()))
    }

    /// Notes which volumes have lost writes by a flush that has failed.
    pub(super) fn note_lost(&mut self) {
        if core::mem::take(&mut self.flush_has_failed) {
            self.lose_writes(self.unflushed_volumes());
        }
    }

    /// Returns whether what is read of a volume is not all in the catalog.
    fn is_unflushed(&self, open: &Open) -> bool {
        let stored = self.volumes().iter().find(|stored| stored.name == open.volume.name);
        open.map.is_dirty() || stored.is_none_or(|stored| stored.root != open.map.root())
    }
}
