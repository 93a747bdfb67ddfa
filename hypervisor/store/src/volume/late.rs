//! Late writes of a volume: those that its user has completed and keeps in memory for a while
//! ([`LateWrites`]).
//!
//! They are as good as written. Whatever is done to the volume by its name writes them first, and
//! so does [`Store::take_instants`]: nobody sees the volume without them, a flush has them, and
//! they keep their order. What else is not flushed goes the same way: [`Volumes::close`] gives them
//! up, and they are lost with a disk. Room is kept free for them from the moment at which they
//! begin.

use super::Volumes;
use super::access::{SPARE, check};
use super::map::{Open, VolumeMap};
use crate::block::BlockDevice;
use crate::error::Error;
use crate::free::UnderWay;
use crate::layout::BLOCK;
use crate::store::{Result, Store};
use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt::Debug;

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
pub(crate) struct Keeper(Box<dyn LateWrites>);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Open {
    /// Lets nobody make more late writes. Returns whether there are some.
    pub(super) fn end_late(&self) -> bool {
        self.late.as_ref().is_some_and(|late| late.0.end())
    }
}

impl<D: BlockDevice> Volumes<'_, D> {
    /// Begins late writes of a volume: its user makes them through `writes` from now on, those of
    /// up to [`MOST_LATE`] bytes from `offset` on, until something is done to the volume.
    ///
    /// # Errors
    ///
    /// [`Error::VolumeFull`], if there is no room for them. Nothing has begun then.
    pub fn begin_late(
        &mut self,
        name: &str,
        offset: u64,
        writes: Box<dyn LateWrites>,
    ) -> Result<(), D> {
        self.with(name, |store, open, beside| {
            check(open, offset, 0)?;
            open.map.promised = store.promise(&mut open.map, beside)?;
            // The one before may be of the same user: its end comes first.
            let writes = open.late.insert(Keeper(writes));
            writes.0.begin(offset);
            Ok(())
        })
    }
}

impl<D: BlockDevice> Store<D> {
    /// Finds room for late writes. Returns how many blocks must stay free for them.
    fn promise(&mut self, map: &mut VolumeMap, beside: &[&dyn UnderWay<D>]) -> Result<u64, D> {
        let promised = MOST_LEAVES * map.path_length() + MOST_BLOCKS;
        let needed = self.kept_for_volumes() + map.needed() + promised + SPARE;
        let mut under_way: Vec<&dyn UnderWay<D>> = beside.to_vec();
        under_way.push(map);
        if self.make_room(needed, &under_way)? {
            return Ok(promised);
        }
        Err(Error::VolumeFull { name: map.name.to_string() })
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
        let Some(keeper) = open.late.take() else { return Ok(()) };
        let promised = core::mem::take(&mut open.map.promised);
        let mut late = keeper.0.take();
        let written = self.write_taken(open, &late, beside);
        match written {
            Ok(()) => late.len = 0,
            Err(_) => open.map.promised = promised,
        }
        keeper.0.put_back(late);
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
