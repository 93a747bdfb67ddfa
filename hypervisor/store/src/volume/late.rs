//! Late writes of a volume: those that its user has completed and keeps in memory for a while
//! ([`LateWrites`]).
//!
//! Late writes are as good as written. Whatever is done to the volume by its name writes them
//! first, and so does [`Store::take_instants`]: nobody sees the volume without them, a flush has
//! them, and they keep their order. What else is not flushed goes the same way: [`Volumes::close`]
//! gives them up, and they are lost with a disk. Room is kept free for them from the moment at
//! which they begin.
//!
//! Those that the disk refuses are kept, and tried again by whatever needs them: all but a read of
//! other blocks. [`Volumes::accept_loss`] and [`Store::bring_back`] give them up.

use super::Volumes;
use super::access::{SPARE, check};
use super::map::{Open, VolumeMap};
use crate::block::BlockDevice;
use crate::error::VolumeFault;
use crate::free::UnderWay;
use crate::layout::BLOCK;
use crate::store::{Result, Store};
use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt::Debug;
use core::ops::Range;

/// The most bytes of late writes of a volume.
pub const MOST_LATE: usize = 64 << 10;
/// The most blocks that they are in, and the most leaves of the map.
const MOST_BLOCKS: u64 = (MOST_LATE / BLOCK) as u64 + 1;
const MOST_LEAVES: u64 = 2;

/// Late writes that were taken.
#[derive(Debug, Default)]
pub struct Late {
    /// Offset in the volume of the first byte.
    pub offset: u64,
    /// Bytes, from the first one on. No more than [`MOST_LATE`], and multiples of 512.
    pub len: usize,
    /// The buffer that they begin.
    pub buffer: Vec<u8>,
}

/// What keeps late writes, one behind the other, while others may write more of them.
pub trait LateWrites: Debug {
    /// Lets the user write from `offset` on. Nothing is kept yet.
    fn begin(&self, offset: u64);

    /// Lets nobody write more. Returns whether something is kept.
    fn end(&self) -> bool;

    /// Takes what is kept. Nobody may write more.
    fn take(&self) -> Late;

    /// Puts back what was taken: as it was, if it was not written; else with no bytes.
    fn put_back(&self, late: Late);
}

/// The late writes of a volume in use, which end as it is closed.
#[derive(Debug)]
pub(crate) struct Keeper {
    writes: Box<dyn LateWrites>,
    /// The bytes of whole blocks that the last try to write was about, which has failed.
    refused: Option<Range<u64>>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.writes.end();
    }
}

impl Open {
    /// Lets nobody make more late writes. Returns whether there are some.
    pub(super) fn end_late(&self) -> bool {
        self.late.as_ref().is_some_and(|late| late.writes.end())
    }

    /// Returns whether the last try to write late writes has failed, and these bytes are in none of
    /// their blocks.
    pub(super) fn is_beside_refused(&self, bytes: &Range<u64>) -> bool {
        let refused = self.late.as_ref().and_then(|late| late.refused.as_ref());
        refused.is_some_and(|refused| bytes.end <= refused.start || refused.end <= bytes.start)
    }
}

impl<D: BlockDevice> Volumes<'_, D> {
    /// Begins late writes of a volume: its user makes them through `writes` from now on, those of
    /// up to [`MOST_LATE`] bytes from `offset` on, until something is done to the volume.
    ///
    /// # Errors
    ///
    /// [`VolumeFault::Full`], if there is no room for them. Nothing has begun then.
    pub fn begin_late(
        &mut self,
        name: &str,
        offset: u64,
        writes: Box<dyn LateWrites>,
    ) -> Result<(), D> {
        self.with(name, |store, open, _| {
            check(open, offset, 0)?;
            open.map.promised = store.promise(&open.map)?;
            // The one before may be of the same user: its end comes first.
            let keeper = open.late.insert(Keeper { writes, refused: None });
            keeper.writes.begin(offset);
            Ok(())
        })
    }

    /// Closes a volume that has lost writes, or whose late writes are refused once more, so that it
    /// can be used again. Returns whether that was so: then the volume is what its last flush has
    /// made it. A lack of memory is no refusal.
    pub fn accept_loss(&mut self, name: &str) -> bool {
        let has_lost = self.store.has_lost_writes(name) || self.refuses_late(name);
        if has_lost {
            self.close(name);
        }
        has_lost
    }

    /// Tries to write the late writes of a volume. Returns whether there are some that are refused,
    /// and not for a lack of memory.
    pub(super) fn refuses_late(&mut self, name: &str) -> bool {
        let is_it = |open: &Open| open.volume.name.as_str() == name && open.end_late();
        self.store.open.iter().any(is_it)
            && self.with(name, |_, _, _| Ok(())).is_err_and(|error| !error.is_of_memory())
    }
}

impl<D: BlockDevice> Store<D> {
    /// Returns how many blocks must stay free for late writes. Looks for none: a small write would
    /// not be worth it, and finds room as it is done at once.
    fn promise(&self, map: &VolumeMap) -> Result<u64, D> {
        let promised = MOST_LEAVES * map.path_length() + MOST_BLOCKS;
        let needed = self.kept_for_volumes() + map.needed() + promised + SPARE;
        if self.has_room(needed) {
            return Ok(promised);
        }
        Err(VolumeFault::Full { name: map.name.to_string() }.into())
    }

    /// Writes the late writes of a volume, and lets nobody make more of them.
    ///
    /// # Errors
    ///
    /// Those of [`write_volume`](Self::write_volume). Then they are kept, and written the next
    /// time.
    pub(super) fn write_late(
        &mut self,
        open: &mut Open,
        beside: &[&dyn UnderWay<D>],
    ) -> Result<(), D> {
        if !open.end_late() {
            open.late = None;
            open.map.promised = 0;
            return Ok(());
        }
        let Some(mut keeper) = open.late.take() else { return Ok(()) };
        let promised = core::mem::take(&mut open.map.promised);
        let mut late = keeper.writes.take();
        let written = self.write_taken(open, &late, beside);
        match written {
            Ok(()) => late.len = 0,
            Err(_) => {
                open.map.promised = promised;
                keeper.refused = Some(whole_blocks(&late));
            }
        }
        keeper.writes.put_back(late);
        if written.is_err() {
            open.late = Some(keeper);
        }
        written
    }

    fn write_taken(
        &mut self,
        open: &mut Open,
        late: &Late,
        beside: &[&dyn UnderWay<D>],
    ) -> Result<(), D> {
        let len = late.len as u64;
        check(open, late.offset, len)?;
        let mut rest = &late.buffer[..late.len];
        let fill = &mut |piece: &mut [u8]| {
            let (now, later) = rest.split_at(piece.len());
            piece.copy_from_slice(now);
            rest = later;
            true
        };
        self.write_volume(&mut open.map, late.offset, len, fill, beside).map(drop)
    }
}

/// Returns the bytes of the blocks that late writes are in.
fn whole_blocks(late: &Late) -> Range<u64> {
    let end = late.offset + late.len as u64;
    late.offset - late.offset % BLOCK as u64..end.next_multiple_of(BLOCK as u64)
}
