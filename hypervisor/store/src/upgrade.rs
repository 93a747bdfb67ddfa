//! Takes a store of an older version to version 3, so that power may fail at any instant:
//! [`Store::upgrade`].
//!
//! The superblock goes first. From then on the store has version 3, and its catalog is one without
//! block maps, which version 3 can read. Then every checkpoint gets a map of the blocks that it
//! has, and a catalog is written that refers to the maps. Where power fails between the two,
//! whoever writes to the store next does the second part. No block of contents is read or written.

use crate::block::BlockDevice;
use crate::catalog::{Catalog, Location};
use crate::error::Error;
use crate::layout::{BLOCK, NEW_VERSION, VERSION_OF_UNITS};
use crate::map::Builder;
use crate::store::{Result, Store};
use crate::superblock::Compression;

impl<D: BlockDevice> Store<D> {
    /// Takes the store to the version of a new one, which has maps. Returns the version that it
    /// had. From then on, an older Stasis refuses it.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] if there is no room for a block for each checkpoint; what the device says.
    /// In all cases every checkpoint is there.
    pub fn upgrade(&mut self) -> Result<u32, D> {
        let before = self.version();
        self.settle()?;
        if before < NEW_VERSION {
            let needed = self.without_maps() as u64;
            self.sweep(&[])?;
            if !self.make_room(needed, &[])? {
                let free = self.free_blocks() * BLOCK as u64;
                let needed = needed * BLOCK as u64;
                return Err(Error::Full { needed, free, largest: free });
            }
            self.write_superblock(NEW_VERSION)?;
        }
        self.finish_upgrade()?;
        Ok(before)
    }

    /// Sets how the store compresses the checkpoints that it gets from now on; those that it has
    /// stay as they are. Takes the store to version 5 if need be: an older Stasis refuses it then.
    ///
    /// # Errors
    ///
    /// The errors of [`upgrade`](Self::upgrade).
    pub fn set_compression(&mut self, compression: Compression) -> Result<(), D> {
        if compression == self.compression() {
            // An earlier call may have ended between the superblock's copy and itself.
            return self.settle();
        }
        self.upgrade()?;
        self.write_superblock_with(VERSION_OF_UNITS, compression)
    }

    /// Gives maps to all checkpoints, if an upgrade was interrupted before.
    pub(crate) fn finish_upgrade(&mut self) -> Result<(), D> {
        let is_map = |place: &Location| matches!(place, Location::Map(_));
        if self.has_maps() && !self.list().iter().all(|one| is_map(&one.place)) {
            self.write_catalog(self.catalog.clone())?;
        }
        Ok(())
    }

    /// Returns how many checkpoints have contents and no map.
    pub(crate) fn without_maps(&self) -> usize {
        self.list().iter().filter(|one| !one.place.extents().is_empty()).count()
    }

    /// Writes maps for the checkpoints of a catalog that have none.
    pub(crate) fn give_maps(&mut self, catalog: &mut Catalog) -> Result<(), D> {
        let has_extents = |place: &Location| matches!(place, Location::Extents(_));
        if !catalog.checkpoints.iter().any(|one| has_extents(&one.place)) {
            return Ok(());
        }
        // Once, and before the first one: a sweep knows nothing of the maps that are made here.
        if self.space_is_unknown() {
            self.sweep(&[])?;
        }
        // Where this fails, what was given out for maps is nobody's.
        self.write_maps(catalog).inspect_err(|_| self.space_is_stale())
    }

    fn write_maps(&mut self, catalog: &mut Catalog) -> Result<(), D> {
        for checkpoint in &mut catalog.checkpoints {
            let Location::Extents(extents) = &checkpoint.place else { continue };
            let mut builder = Builder::default();
            for extent in extents {
                builder.push_run(self, (*extent).into())?;
            }
            checkpoint.place = Location::Map(builder.finish(self)?);
        }
        self.end_blocks()
    }
}
