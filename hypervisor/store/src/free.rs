//! Which blocks of a store with block maps are free: derived from all maps, when somebody needs to
//! know it.
//!
//! [`Space`] knows at any time which blocks nobody may be given: those that a catalog refers to,
//! and those that were given out since. What becomes free, because a checkpoint was deleted or a
//! writer dropped, it does not hear of; [`Store::sweep`] finds that by looking at all maps again. A
//! sweep happens when there is no room otherwise, when a person asks how much is free, and when so
//! much was given out since the last one that its cost does not matter. So nothing is counted on
//! the disk, nothing is reserved, and no deletion has to find out who else has a block.

use crate::block::BlockDevice;
use crate::blockset::BlockSet;
use crate::catalog::{Checkpoint, Location};
use crate::error::{Error, VolumeFault};
use crate::layout::BLOCK;
use crate::map::{Builder, Expected, SeenNodes, Visitor, Whose};
use crate::space::Extent;
use crate::store::{Result, Store};
use crate::volume::{Name, Volume};
use alloc::vec::Vec;
use core::fmt::{Debug, Display};
use core::ops::Range;

/// Blocks that a gap should have where nobody says how much is to be written: 1 MiB.
const USUAL: u32 = 256;
/// Blocks that a gap should have, for requests to the device that are worth their cost.
const FAIR: u32 = 32;
/// Blocks that are given out, at least, before a sweep is made only because one may help.
const SWEEP_AFTER: u64 = 4096;

/// The blocks of a store that can be given out.
#[derive(Debug)]
pub(crate) struct Space {
    taken: BlockSet,
    end: u32,
    /// Where the next block is looked for first.
    cursor: u32,
    /// The smallest length of which no gap was found.
    no_gap_of: u32,
    /// Blocks given out since the sweep.
    given: u64,
    /// Nodes that the sweep has read.
    nodes: u64,
    /// What was free beside the current catalog, and what is staged, when the sweep was made.
    free: u64,
    /// Whether something may be free that is taken here.
    stale: bool,
}

impl Space {
    /// Gives out `want` blocks that follow each other, or fewer: right behind the last ones if
    /// those are free.
    fn take(&mut self, want: u32) -> Option<Extent> {
        let found = match self.taken.free_from(self.cursor, want) {
            Some(next) => next,
            None => self
                .find(want.clamp(FAIR, USUAL))
                .or_else(|| self.find(FAIR))
                .or_else(|| self.find(1))?,
        };
        let found = found.at_most(want.into());
        self.taken.insert(found);
        self.given += u64::from(found.blocks);
        self.cursor = found.first + found.blocks;
        Some(found)
    }

    /// Returns how many blocks were given out since the sweep.
    #[cfg(test)]
    pub(crate) fn given(&self) -> u64 {
        self.given
    }

    /// Finds a gap of at least this many blocks, behind the last one.
    fn find(&mut self, least: u32) -> Option<Extent> {
        if least >= self.no_gap_of {
            return None;
        }
        let gap = self.taken.gap(self.cursor, self.end, least, u32::MAX);
        let gap = gap.or_else(|| self.taken.gap(0, self.end, least, u32::MAX));
        if gap.is_none() {
            self.no_gap_of = least;
        }
        gap
    }

    /// Goes to a gap of this many blocks, so that what comes stands in one piece. Stays where it is
    /// if there is none.
    fn seek(&mut self, blocks: u32) {
        let here = self.taken.free_from(self.cursor, blocks);
        if here.is_none_or(|here| here.blocks < blocks)
            && let Some(gap) = self.find(blocks)
        {
            self.cursor = gap.first;
        }
    }
}

/// Returns the most blocks of contents of a checkpoint for which `free` blocks suffice, with its
/// map.
pub(crate) fn largest_of(free: u64) -> u64 {
    let mut largest = free.saturating_sub(Builder::most_nodes(free));
    while largest < free && largest + 1 + Builder::most_nodes(largest + 1) <= free {
        largest += 1;
    }
    largest
}

/// What is being written, and belongs to no catalog yet: its blocks are not free.
pub(crate) trait UnderWay<D: BlockDevice> {
    /// Shows a visitor all that was written or taken. Nothing of it may be on its way to the
    /// device.
    fn visit(&self, store: &mut Store<D>, visitor: &mut dyn Visitor) -> Result<(), D>;
}

/// Marks all that a map has.
struct Marking {
    taken: BlockSet,
    /// Nodes that were read. A damaged one is none of them: whoever refers to it is damaged, too.
    seen: SeenNodes,
    nodes: u64,
}

impl Visitor for Marking {
    fn node(&mut self, node: &Expected) -> bool {
        self.nodes += 1;
        self.taken.insert(Extent::one(node.node.block));
        // What is below a node that was seen before was seen, too. Whether its block was taken says
        // nothing: all are where memory does not suffice.
        !self.seen.has(node) && !self.seen.is_exhausted()
    }

    fn read(&mut self, node: &Expected) {
        self.seen.insert(node);
    }

    fn run(&mut self, run: Extent) {
        self.taken.insert(run);
    }

    fn fault(&mut self) {
        self.seen.note_repeated();
    }
}

impl Marking {
    fn new(data: Range<u32>) -> Self {
        let seen = SeenNodes::new(data.len() as u32);
        Self { taken: BlockSet::new(data), seen, nodes: 0 }
    }

    /// Checks that nothing was left out.
    fn check<E: Display + Debug>(&self) -> core::result::Result<(), Error<E>> {
        if self.seen.is_exhausted() { Err(Error::MapsTooLarge) } else { Ok(()) }
    }
}

/// What was found damaged when the store was looked at last.
#[derive(Debug, Default)]
pub(crate) struct Damage {
    /// Numbers of checkpoints whose maps are.
    checkpoints: Vec<u64>,
    /// Numbers of checkpoints that have volumes whose maps are, or whose list of volumes is.
    instants: Vec<u64>,
    volumes: Vec<Name>,
}

/// A list of what is damaged.
trait Note<T> {
    /// Lets pass that a map is damaged, and notes whose.
    fn note<E: Display + Debug>(
        &mut self,
        whose: T,
        marked: core::result::Result<(), Error<E>>,
    ) -> core::result::Result<(), Error<E>>;
}

impl<T> Note<T> for Vec<T> {
    fn note<E: Display + Debug>(
        &mut self,
        whose: T,
        marked: core::result::Result<(), Error<E>>,
    ) -> core::result::Result<(), Error<E>> {
        let is_damaged = marked.is_err();
        let passed = unless_damaged(marked);
        if is_damaged && passed.is_ok() {
            self.push(whose);
        }
        passed
    }
}

/// Lets pass that a map is damaged: what is left of it was marked.
fn unless_damaged<E: Display + Debug>(
    marked: core::result::Result<(), Error<E>>,
) -> core::result::Result<(), Error<E>> {
    match marked {
        Err(Error::MapDamaged { .. } | Error::Volume(VolumeFault::Damaged { .. })) => Ok(()),
        other => other,
    }
}

impl<D: BlockDevice> Store<D> {
    /// Finds out from all maps what is free. `under_way` is what is being written.
    ///
    /// A checkpoint or a volume whose map is damaged keeps the blocks that what is left of the map
    /// refers to.
    ///
    /// # Errors
    ///
    /// What the device says where a map can't be read, and [`Error::MapsTooLarge`]: nothing is
    /// given out then, for the blocks may be somebody's.
    pub(crate) fn sweep(&mut self, under_way: &[&dyn UnderWay<D>]) -> Result<(), D> {
        let mut marking = Marking::new(self.data.clone());
        self.space = None;
        let mut damage = Damage::default();
        let mut result = Ok(());
        for checkpoint in self.catalog.checkpoints.clone() {
            let contents = self.mark_contents(&checkpoint, &mut marking);
            result = result.and(damage.checkpoints.note(checkpoint.number, contents));
            let instants = self.show_instants(&checkpoint, &mut marking);
            result = result.and(damage.instants.note(checkpoint.number, instants));
        }
        for volume in self.catalog.volumes.clone() {
            let marked = self.mark_volume(&volume, &mut marking);
            result = result.and(damage.volumes.note(volume.name, marked));
        }
        self.damage = damage;
        for checkpoint in self.staged.clone() {
            self.mark(&checkpoint, &mut marking)?;
        }
        result = result.and(unless_damaged(self.mark_open(&mut marking)));
        for one in under_way {
            result = result.and(unless_damaged(one.visit(self, &mut marking)));
        }
        let free = marking.taken.free();
        // Nobody misses what is damaged there.
        for checkpoint in self.only_in_other_slot() {
            result = result.and(unless_damaged(self.mark(&checkpoint, &mut marking)));
        }
        for volume in self.contents[1 - self.slot].volumes().to_vec() {
            result = result.and(unless_damaged(self.mark_volume(&volume, &mut marking)));
        }
        marking.check()?;
        let Marking { taken, nodes, .. } = marking;
        self.space = Some(Space {
            taken,
            end: self.data.end,
            cursor: self.data.start,
            no_gap_of: u32::MAX,
            given: 0,
            nodes,
            free,
            stale: false,
        });
        result.inspect_err(|_| self.space = None)
    }

    /// Marks what a checkpoint has, with the volumes as of its instant.
    fn mark(&mut self, checkpoint: &Checkpoint, marking: &mut Marking) -> Result<(), D> {
        let contents = self.mark_contents(checkpoint, marking);
        contents.and(self.show_instants(checkpoint, marking))
    }

    /// Marks what a checkpoint has but for its volumes.
    fn mark_contents(&mut self, checkpoint: &Checkpoint, marking: &mut Marking) -> Result<(), D> {
        match &checkpoint.place {
            Location::Extents(extents) => {
                extents.iter().for_each(|extent| marking.run(*extent));
                Ok(())
            }
            Location::Map(None) => Ok(()),
            Location::Map(Some(root)) => {
                let whose = Whose::Checkpoint(checkpoint.number);
                self.visit(whose, *root, checkpoint.blocks(), marking)
            }
        }
    }

    fn mark_volume(&mut self, volume: &Volume, marking: &mut Marking) -> Result<(), D> {
        let Some(root) = volume.root else { return Ok(()) };
        self.visit(Whose::Volume(volume.name), root, volume.blocks(), marking)
    }

    /// Checkpoints that the slot which does not hold refers to, and the current catalog does not.
    fn only_in_other_slot(&self) -> Vec<Checkpoint> {
        let all = self.other_slot_checkpoints();
        let is_here = |one: &Checkpoint| {
            let found = self.list().binary_search_by_key(&one.number, |here| here.number);
            found.is_ok_and(|at| {
                let here = &self.list()[at];
                here.place == one.place && here.instants == one.instants
            })
        };
        all.into_iter().filter(|one| !is_here(one)).collect()
    }

    /// Returns whether the slot that does not hold refers to blocks that the current catalog may
    /// not have.
    fn other_slot_has_more(&self) -> bool {
        !self.only_in_other_slot().is_empty()
            || self.contents[1 - self.slot].volumes() != self.catalog.volumes
    }

    /// Notes that what is taken may have become free.
    pub(crate) fn space_is_stale(&mut self) {
        self.space.iter_mut().for_each(|space| space.stale = true);
    }

    /// Returns whether only a sweep can tell what is free.
    pub(crate) fn space_is_unknown(&self) -> bool {
        self.space.as_ref().is_none_or(|space| space.stale)
    }

    /// Returns how many blocks are free beside the current catalog, and what is staged.
    pub(crate) fn free_blocks(&mut self) -> u64 {
        if self.space.as_ref().is_none_or(|space| space.stale || space.given > 0) {
            // What can't be read is somebody's, and not free.
            let _ = self.sweep(&[]);
        }
        self.space.as_ref().map_or(0, |space| space.free)
    }

    /// Looks for room for a new checkpoint, before it is begun: for `blocks` blocks, if anybody
    /// knows it.
    pub(crate) fn prepare_space(&mut self, blocks: Option<u64>, length: u64) -> Result<(), D> {
        let is_due = |space: &Space| space.stale && space.given >= SWEEP_AFTER.max(space.nodes * 8);
        if self.space.as_ref().is_none_or(is_due) {
            self.sweep(&[])?;
        }
        if let Some(blocks) = blocks {
            let others = self.kept_for_volumes() + self.kept_for_list();
            let needed = blocks.saturating_add(Builder::most_nodes(blocks)).saturating_add(others);
            if !self.make_room(needed, &[])? {
                let free = self.free_blocks();
                let largest = largest_of(free.saturating_sub(others)) * BLOCK as u64;
                return Err(Error::Full { needed: length, free: free * BLOCK as u64, largest });
            }
        }
        let wanted = blocks.map_or(USUAL, |blocks| u32::try_from(blocks).unwrap_or(u32::MAX));
        self.space.iter_mut().for_each(|space| space.seek(wanted.max(1)));
        Ok(())
    }

    /// Returns how many blocks must stay free for the list of the volumes of the checkpoint that
    /// comes next.
    fn kept_for_list(&mut self) -> u64 {
        u64::from(self.has_taken())
    }

    /// Returns whether this many blocks are known to be free. More may be, which only a sweep finds.
    pub(crate) fn has_room(&self, blocks: u64) -> bool {
        self.space.as_ref().is_some_and(|space| space.taken.free() >= blocks)
    }

    /// Finds room for this many blocks, if need be where the older catalog has some. Returns
    /// whether there is as much.
    pub(crate) fn make_room(
        &mut self,
        blocks: u64,
        under_way: &[&dyn UnderWay<D>],
    ) -> Result<bool, D> {
        if self.has_room(blocks) {
            return Ok(true);
        }
        self.end_blocks()?;
        self.forget_dropped();
        if self.space_is_unknown() {
            self.sweep(under_way)?;
        }
        let can_write = !self.has_maps() || self.without_maps() == 0;
        if !self.has_room(blocks) && can_write && self.other_slot_has_more() {
            // The older catalog must forget it.
            self.write_catalog(self.catalog.clone())?;
            self.sweep(under_way)?;
        }
        Ok(self.has_room(blocks))
    }

    /// Gives out `want` blocks that follow each other, or fewer, for the map `builder` and what it
    /// is about.
    ///
    /// # Errors
    ///
    /// [`Error::NoRoom`]; what the device says.
    pub(crate) fn take_blocks(&mut self, want: u32, builder: &Builder) -> Result<Extent, D> {
        let found = self.take_beside(want, self.kept_for_volumes(), &[builder])?;
        found.ok_or(Error::NoRoom { written: builder.blocks() * BLOCK as u64 })
    }

    /// Gives out `want` blocks that follow each other, for the map `builder` and what it is about;
    /// `None` if no gap has as many.
    ///
    /// # Errors
    ///
    /// [`Error::NoRoom`]; what the device says.
    pub(crate) fn take_together(
        &mut self,
        want: u32,
        builder: &Builder,
    ) -> Result<Option<Extent>, D> {
        self.space.iter_mut().for_each(|space| space.seek(want));
        let found = self.take_blocks(want, builder)?;
        if found.blocks == want {
            return Ok(Some(found));
        }
        self.give_back(found);
        Ok(None)
    }

    /// Gives out `want` blocks that follow each other, or fewer, and leaves `kept` blocks free;
    /// `None` if there are not as many. `under_way` is what is being written.
    pub(crate) fn take_beside(
        &mut self,
        want: u32,
        kept: u64,
        under_way: &[&dyn UnderWay<D>],
    ) -> Result<Option<Extent>, D> {
        let left = |store: &Self| {
            let free = store.space.as_ref().map_or(0, |space| space.taken.free());
            u32::try_from(free.saturating_sub(kept)).unwrap_or(u32::MAX)
        };
        if self.other_slot_is_unknown() {
            // A commit that has failed may refer to blocks that are free.
            self.end_blocks()?;
            self.settle()?;
        }
        if left(self) == 0 {
            self.make_room(kept + 1, under_way)?;
        }
        let want = want.min(left(self));
        Ok(self.space.as_mut().filter(|_| want > 0).and_then(|space| space.take(want)))
    }

    /// Takes back blocks that were given out and not written.
    pub(crate) fn give_back(&mut self, blocks: Extent) {
        if let Some(space) = &mut self.space {
            space.taken.remove(blocks);
            space.cursor = blocks.first;
        }
    }

    /// Reads all of a checkpoint's map: whether its blocks can be [shared](crate::Writer::share),
    /// before a new checkpoint relies on it.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchCheckpoint`], [`Error::MapDamaged`], [`Error::MapsTooLarge`], and what the
    /// device says.
    pub fn check_map(&mut self, number: u64) -> Result<(), D> {
        let checkpoint = self.find(number)?.clone();
        let mut marking = Marking::new(self.data.clone());
        self.mark_contents(&checkpoint, &mut marking)?;
        marking.check()
    }

    /// Returns the numbers of the checkpoints whose block maps are damaged, as far as it is known:
    /// they were looked at when the store last looked for what is free, as [`usage`](Self::usage)
    /// does.
    pub fn damaged(&self) -> &[u64] {
        &self.damage.checkpoints
    }

    /// Returns the names of the volumes whose block maps are damaged, as far as it is known.
    pub fn damaged_volumes(&self) -> &[Name] {
        &self.damage.volumes
    }

    /// Returns the numbers of the checkpoints that have volumes of which something is damaged, as
    /// far as it is known. Their contents may be whole.
    pub fn with_damaged_volumes(&self) -> &[u64] {
        &self.damage.instants
    }
}
