//! How a checkpoint is begun: its name is looked at, and room is found for it. [`Writer`] goes on.

use super::{Result, Store};
use crate::block::BlockDevice;
use crate::catalog::{Checkpoint, Location, shown, valid_new_name};
use crate::error::Error;
use crate::layout::BLOCK;
use crate::map::Builder;
use crate::space::{Extent, Extents, Free};
use crate::superblock::Compression;
use crate::writer::{Blocks, Writer};

impl<D: BlockDevice> Store<D> {
    /// Begins a checkpoint of at most `length` bytes, for which there is room; if the store
    /// compresses, whether there is shows as it grows. Nothing changes until it is committed.
    ///
    /// `created` is the time in seconds since 1970, or 0 where nobody knows it.
    pub fn begin(&mut self, name: &str, length: u64, created: u64) -> Result<Writer<'_, D>, D> {
        self.begin_with(name, Some(length), created)
    }

    /// Begins a checkpoint of which nobody knows yet how long it gets. It takes room as it grows;
    /// where there is none, that is an error then. Otherwise it is what [`begin`](Self::begin) is.
    pub fn begin_open(&mut self, name: &str, created: u64) -> Result<Writer<'_, D>, D> {
        self.begin_with(name, None, created)
    }

    fn begin_with(
        &mut self,
        name: &str,
        limit: Option<u64>,
        created: u64,
    ) -> Result<Writer<'_, D>, D> {
        let name = valid_new_name(name).ok_or_else(|| Error::NameInvalid { name: shown(name) })?;
        self.check_room_for(1)?;
        let (place, blocks) = if self.has_maps() {
            self.settle()?;
            self.finish_upgrade()?;
            // How many it takes when it is compressed, nobody knows.
            let known = limit.filter(|_| self.compression() == Compression::None);
            let blocks = known.map(|length| length.div_ceil(BLOCK as u64));
            self.prepare_space(blocks, limit.unwrap_or(0))?;
            (Location::Map(None), Blocks::Mapped(Builder::default()))
        } else {
            let extents = self.reserve(limit)?;
            (Location::Extents(Extents::new()), Blocks::Reserved(extents, 0))
        };
        let checkpoint = Checkpoint {
            number: 0,
            name,
            length: 0,
            created,
            pages: None,
            member: None,
            identity: [0; 16],
            parent: [0; 16],
            instants: None,
            place,
        };
        Writer::new(self, checkpoint, limit, blocks)
    }

    /// Chooses the blocks of a new checkpoint, in a store without block maps: as many as a
    /// checkpoint can have, if nobody knows how many it needs.
    fn reserve(&mut self, length: Option<u64>) -> Result<Extents, D> {
        let free = self.free();
        let blocks = length.map_or(free.largest(), |length| length.div_ceil(BLOCK as u64));
        let extents = free.allocate(blocks).ok_or(Error::Full {
            needed: length.unwrap_or(0),
            free: free.blocks() * BLOCK as u64,
            largest: free.largest() * BLOCK as u64,
        })?;
        self.settle()?;
        let other = self.contents[1 - self.slot].checkpoints();
        let other = other.iter().flat_map(|one| one.place.extents().iter().copied());
        let in_both = self.free_but_for(other);
        match in_both.allocate(blocks) {
            Some(unused) if in_both.has_gap(blocks) => Ok(unused),
            // Only what the other slot refers to will do, so it must forget it. (Pieces would do,
            // too; but they stay pieces.)
            _ => {
                self.write_catalog(self.catalog.clone())?;
                Ok(extents)
            }
        }
    }

    /// Returns what is free in the current catalog, and not taken by `others`, of a store without
    /// block maps.
    fn free_but_for(&self, others: impl Iterator<Item = Extent>) -> Free {
        let staged = self.staged.iter().flat_map(|one| one.place.extents().iter().copied());
        Free::new(self.data.clone(), self.catalog.extents().chain(staged).chain(others))
    }

    /// Returns what is free in the current catalog, of a store without block maps.
    pub(super) fn free(&self) -> Free {
        self.free_but_for(core::iter::empty())
    }
}
