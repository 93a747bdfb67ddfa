//! How the catalog changes: checkpoints are committed, staged, replaced and deleted. All of that is
//! one write of a slot, [`Store::write_catalog`], whose steps the invariants of `store.rs` ask for.

use super::{Result, Store};
use crate::block::{BlockDevice, SECTOR};
use crate::catalog::{Catalog, Checkpoint};
use crate::error::Error;
use crate::layout::{MAX_CHECKPOINTS, SLOT_OFFSET, VERSION_OF_VOLUMES};
use crate::set::{MAX_MEMBERS, Member, set_name};
use crate::slots::{Content, DESTROYED};
use alloc::string::ToString;
use core::fmt::{Debug, Display};

impl<D: BlockDevice> Store<D> {
    /// Checks that the catalog has room for `count` checkpoints more than there are and are staged.
    pub fn check_room_for(&self, count: usize) -> Result<(), D> {
        let kept = self.list().iter().filter(|one| !self.replaced.contains(&one.number)).count();
        let wanted = kept + self.catalog.volumes.len() + self.staged.len() + count;
        if wanted > MAX_CHECKPOINTS {
            return Err(Error::TooManyCheckpoints);
        }
        if self.catalog.next_number > u64::MAX - wanted as u64 {
            return Err(Error::Exhausted { counter: "checkpoint numbers" });
        }
        Ok(())
    }

    /// Makes a checkpoint, and those that are staged, part of the store. Their contents are
    /// written.
    pub(crate) fn commit(&mut self, checkpoint: Checkpoint) -> Result<Checkpoint, D> {
        // Also if this fails: whoever tries again tries all of it.
        let mut new = core::mem::take(&mut self.staged);
        let replaced = core::mem::take(&mut self.replaced);
        new.push(checkpoint);
        number(&mut new, self.catalog.next_number)?;
        let mut catalog = self.catalog.clone();
        catalog.checkpoints.retain(|one| !replaced.contains(&one.number));
        catalog.next_number += new.len() as u64;
        catalog.checkpoints.append(&mut new);
        // Whether a commit that fails reached the disk is unknown: its number stays taken.
        self.catalog.next_number = catalog.next_number;
        self.write_catalog(catalog)?;
        // The checkpoint was pushed above.
        self.list().last().cloned().ok_or(Error::WriterFailed)
    }

    pub(crate) fn stage(&mut self, checkpoint: Checkpoint) {
        self.staged.push(checkpoint);
    }

    /// Gives up what was [staged](Writer::stage), and what was to be [replaced](Self::replace).
    pub fn discard_staged(&mut self) {
        self.staged.clear();
        self.replaced.clear();
        self.space_is_stale();
    }

    /// Deletes these checkpoints when the next one is committed: in the same catalog, so it costs
    /// nothing, and none of them is gone before the new one is there.
    pub fn replace(&mut self, numbers: &[u64]) -> Result<(), D> {
        self.check_there(numbers)?;
        self.replaced = numbers.to_vec();
        Ok(())
    }

    /// Deletes the checkpoint with this number, for good.
    pub fn delete(&mut self, number: u64) -> Result<(), D> {
        self.delete_all(&[number])
    }

    /// Deletes the checkpoints with these numbers, all or none. Whoever still reads one of them
    /// must see to it that nobody does this.
    pub fn delete_all(&mut self, numbers: &[u64]) -> Result<(), D> {
        self.check_there(numbers)?;
        let mut catalog = self.catalog.clone();
        catalog.checkpoints.retain(|c| !numbers.contains(&c.number));
        self.write_catalog(catalog)
    }

    /// Checks that these checkpoints are there.
    fn check_there(&self, numbers: &[u64]) -> Result<(), D> {
        numbers.iter().try_for_each(|number| self.find(*number).map(|_| ()))
    }

    /// Returns whether the slot that does not hold may have a catalog that nobody knows.
    pub(crate) fn other_slot_is_unknown(&self) -> bool {
        matches!(self.contents[1 - self.slot], Content::Unknown)
    }

    /// Puts right what interrupted writes have left, before anything else is written.
    pub(crate) fn settle(&mut self) -> Result<(), D> {
        if self.superblock.copy_holds {
            self.write_superblock(self.superblock.version)?;
        }
        let other = 1 - self.slot;
        if self.other_slot_is_unknown() {
            self.write_sectors(SLOT_OFFSET[other] / SECTOR as u64, &DESTROYED)?;
            self.flush()?;
            self.contents[other] = Content::Destroyed;
        }
        Ok(())
    }

    /// Makes `catalog` the current one, atomically: in the other slot, with a generation of its
    /// own.
    pub(crate) fn write_catalog(&mut self, mut catalog: Catalog) -> Result<(), D> {
        // More would be written beyond the slot.
        if catalog.len() > MAX_CHECKPOINTS {
            return Err(Error::TooManyCheckpoints);
        }
        self.settle()?;
        if self.superblock.version == 1 && !catalog.fits_version_1() {
            self.write_superblock(2)?;
        }
        if self.superblock.version < VERSION_OF_VOLUMES && catalog.has_volumes() {
            self.write_superblock(VERSION_OF_VOLUMES)?;
        }
        if self.has_maps() {
            self.give_maps(&mut catalog)?;
        }
        // Also counted when it fails, so that no two different catalogs ever have the same.
        let next = self.last_generation.checked_add(1);
        self.last_generation = next.ok_or(Error::Exhausted { counter: "generations" })?;
        catalog.generation = self.last_generation;
        let other = 1 - self.slot;
        self.flush()?;
        let before = core::mem::replace(&mut self.contents[other], Content::Unknown);
        let image = catalog.encode(self.superblock.version, before.image(), |b| self.crc32c(b));
        for run in image.changes(before.image()) {
            let sector = (SLOT_OFFSET[other] + run.start as u64) / SECTOR as u64;
            self.write_sectors(sector, &image.bytes()[run])?;
        }
        self.flush()?;
        self.contents[other] =
            Content::Catalog(image, catalog.checkpoints.clone(), catalog.volumes.clone());
        self.space_is_stale();
        self.slot = other;
        self.catalog = catalog;
        Ok(())
    }
}

/// Gives new checkpoints their numbers, from `first` on; several are a set.
fn number<E: Display + Debug>(
    new: &mut [Checkpoint],
    first: u64,
) -> core::result::Result<(), Error<E>> {
    let count = new.len();
    let set = new.first().and_then(|one| set_name(&one.name)).map(ToString::to_string);
    for (index, one) in new.iter_mut().enumerate() {
        one.number = first + index as u64;
        if count == 1 {
            continue;
        }
        if set.is_none() || set_name(&one.name) != set.as_deref() || count > MAX_MEMBERS {
            return Err(Error::NoSet { name: one.name.to_string() });
        }
        one.member = Some(Member { index: index as u8, count: count as u8 });
    }
    Ok(())
}
