//! The volumes of a checkpoint's guest as they were at its instant: [`Instant`].
//!
//! A block of the checkpoint lists them, with the roots of their maps. It is written with the
//! checkpoint, and is in the catalog with it.

use super::{Name, Volume, check_root, root_level};
use crate::block::BlockDevice;
use crate::buffer::buffer;
use crate::catalog::Checkpoint;
use crate::entry::stored_name;
use crate::error::{Error, VolumeFault};
use crate::layout::{BLOCK, InstantEntry, InstantsHeader, MAX_INSTANTS, MapEntry};
use crate::map::{Builder, NodeRef, Visitor, Whose};
use crate::space::Extent;
use crate::store::{Result, Store};
use alloc::string::ToString;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt::{Debug, Display};
use core::ops::Range;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// A volume as it was at the instant of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instant {
    /// The name that it had.
    pub name: Name,
    /// Length in bytes.
    pub length: u64,
    /// The root of its map; `None` if all of it is zeros.
    pub(crate) root: Option<NodeRef>,
    /// As long as it is there, the blocks of a volume that was [taken](Store::take_instants) are
    /// given to nobody. All are equal.
    pub(crate) hold: Arc<()>,
}

/// A volume that was taken for a checkpoint which is not committed yet.
#[derive(Debug)]
pub(crate) struct Taken {
    instant: Instant,
    hold: Weak<()>,
}

/// Where the list of a checkpoint's volumes stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InstantsRef {
    pub block: u32,
    pub crc: u32,
    pub count: u32,
}

impl InstantsRef {
    /// Returns what the entry of a checkpoint says; `None` if it has no volumes.
    pub fn of<E: Display + Debug>(
        entry: &MapEntry,
        data: &Range<u32>,
    ) -> core::result::Result<Option<Self>, Error<E>> {
        let (block, crc) = (entry.instants.get(), entry.instants_crc.get());
        let count = entry.instants_count.get();
        if (block, crc, count) == (0, 0, 0) {
            return Ok(None);
        }
        if !(1..=MAX_INSTANTS).contains(&(count as usize)) || !Extent::one(block).is_within(data) {
            return Err(
                VolumeFault::InstantsInvalid { number: entry.number.get(), block, count }.into()
            );
        }
        Ok(Some(Self { block, crc, count }))
    }
}

impl Instant {
    /// Returns how many blocks it has.
    fn blocks(&self) -> u32 {
        // Checked when it was read, and when the volume was created.
        (self.length / BLOCK as u64) as u32
    }

    /// Returns it as a volume.
    pub(super) fn volume(&self, name: Name, created: u64) -> Volume {
        Volume { name, length: self.length, created, root: self.root }
    }

    fn encode(&self) -> InstantEntry {
        let mut entry = InstantEntry::new_zeroed();
        entry.name[..self.name.len()].copy_from_slice(self.name.as_bytes());
        entry.length = self.length.into();
        if let Some(NodeRef { block, crc, count, level }) = self.root {
            (entry.root, entry.root_crc) = (block.into(), crc.into());
            (entry.root_count, entry.root_level) = (count.into(), level);
        }
        entry
    }

    fn decode(entry: &InstantEntry, data: &Range<u32>) -> Option<Self> {
        let (name, length) = (stored_name(&entry.name)?, entry.length.get());
        let root = NodeRef {
            block: entry.root.get(),
            crc: entry.root_crc.get(),
            count: entry.root_count.get(),
            level: entry.root_level,
        };
        Some(Self { name, length, root: check_root(root, length, data)?, hold: Arc::default() })
    }
}

impl<D: BlockDevice> Store<D> {
    /// Takes volumes as they are now, for the checkpoint of a guest that stands still or has not
    /// written to them since its instant. The checkpoint has them to which
    /// [`Writer::set_instants`](crate::Writer::set_instants) gives them. Their blocks are nobody
    /// else's until they are dropped.
    ///
    /// # Errors
    ///
    /// The errors of [`Volumes`](super::Volumes).
    pub fn take_instants(&mut self, names: &[&str]) -> Result<Vec<Instant>, D> {
        let mut taken = Vec::new();
        self.settle()?;
        for name in names {
            self.check_not_lost(name)?;
            let open = self.open.iter().position(|open| open.volume.name.as_str() == *name);
            let volume = match open.map(|at| self.open.swap_remove(at)) {
                Some(mut open) => {
                    let written = self.write_late(&mut open, &[]);
                    let sealed = written.and_then(|()| self.seal(&mut open.map, &[]));
                    let volume = Volume { root: open.map.root(), ..open.volume.clone() };
                    self.open.push(open);
                    sealed?;
                    volume
                }
                None => self.find_volume(name)?.clone(),
            };
            let Volume { name, length, root, .. } = volume;
            let instant = Instant { name, length, root, hold: Arc::default() };
            let hold = Arc::downgrade(&instant.hold);
            let held = Instant { hold: Arc::default(), ..instant.clone() };
            self.sealed.push(Taken { instant: held, hold });
            taken.push(instant);
        }
        Ok(taken)
    }

    /// Writes the list of a checkpoint's volumes, which is not committed yet, and notes its block
    /// in the checkpoint's map.
    pub(crate) fn write_instants(
        &mut self,
        instants: &[Instant],
        builder: &mut Builder,
    ) -> Result<Option<InstantsRef>, D> {
        if instants.is_empty() {
            return Ok(None);
        }
        let count = instants.len();
        if count > MAX_INSTANTS {
            return Err(VolumeFault::TooManyInstants { count }.into());
        }
        let mut bytes = buffer(BLOCK)?;
        let mut header = InstantsHeader::new_zeroed();
        header.magic = InstantsHeader::MAGIC;
        header.count = (count as u32).into();
        let (head, entries) = bytes.split_at_mut(size_of::<InstantsHeader>());
        head.copy_from_slice(header.as_bytes());
        for (bytes, one) in entries.chunks_exact_mut(size_of::<InstantEntry>()).zip(instants) {
            bytes.copy_from_slice(one.encode().as_bytes());
        }
        let taken = self.take_blocks(1, builder)?;
        // Whoever looks for room for the map sees it there.
        builder.list = Some(taken);
        let block = taken.first;
        self.begin_blocks(block, &bytes)?;
        Ok(Some(InstantsRef { block, crc: self.crc32c(&bytes), count: count as u32 }))
    }

    /// Returns the volumes of a checkpoint's guest as they were at its instant.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchCheckpoint`], [`Error::MapDamaged`], and what the device says.
    pub fn instants(&mut self, number: u64) -> Result<Vec<Instant>, D> {
        let checkpoint = self.find(number)?.clone();
        self.read_instants(&checkpoint)
    }

    fn read_instants(&mut self, checkpoint: &Checkpoint) -> Result<Vec<Instant>, D> {
        let Some(InstantsRef { block, crc, count }) = checkpoint.instants else {
            return Ok(Vec::new());
        };
        let damaged = || Error::MapDamaged { number: checkpoint.number, block };
        let mut bytes = buffer(BLOCK)?;
        self.read_blocks(block, &mut bytes)?;
        let (header, rest) = InstantsHeader::read_from_prefix(&bytes).map_err(|_| damaged())?;
        let is_it = header.magic == InstantsHeader::MAGIC && header.count.get() == count;
        if !is_it || self.crc32c(&bytes) != crc {
            return Err(damaged());
        }
        let entries = rest.chunks_exact(size_of::<InstantEntry>()).take(count as usize);
        let entries = entries.map(|bytes| {
            let entry = InstantEntry::read_from_bytes(bytes).ok()?;
            Instant::decode(&entry, &self.data)
        });
        entries.map(|entry| entry.ok_or_else(damaged)).collect()
    }

    /// Shows a visitor the volumes of a checkpoint as they were at its instant, and the list of
    /// them.
    pub(crate) fn show_instants(
        &mut self,
        checkpoint: &Checkpoint,
        visitor: &mut dyn Visitor,
    ) -> Result<(), D> {
        let Some(InstantsRef { block, .. }) = checkpoint.instants else { return Ok(()) };
        visitor.run(Extent::one(block));
        let instants = self.read_instants(checkpoint).inspect_err(|_| visitor.fault())?;
        let whose = Whose::Instant(checkpoint.number);
        let mut result = Ok(());
        for one in &instants {
            result = result.and(self.show_instant(whose, one, visitor));
        }
        result
    }

    fn show_instant(
        &mut self,
        whose: Whose,
        instant: &Instant,
        visitor: &mut dyn Visitor,
    ) -> Result<(), D> {
        debug_assert!(instant.root.is_none_or(|root| root.level == root_level(instant.blocks())));
        instant.root.map_or(Ok(()), |root| self.visit(whose, root, instant.blocks(), visitor))
    }

    /// Returns whether a volume that was taken for a checkpoint is there still.
    pub(crate) fn has_taken(&mut self) -> bool {
        self.forget_dropped();
        !self.sealed.is_empty()
    }

    /// Forgets what was taken of volumes and dropped since: its blocks may be free.
    pub(crate) fn forget_dropped(&mut self) {
        let before = self.sealed.len();
        self.sealed.retain(|one| one.hold.strong_count() > 0);
        if self.sealed.len() < before {
            self.space_is_stale();
        }
    }

    /// Shows a visitor what volumes in use have, and what was taken of them for checkpoints that
    /// are not committed yet.
    pub(crate) fn mark_open(&mut self, visitor: &mut dyn Visitor) -> Result<(), D> {
        let mut result = Ok(());
        self.forget_dropped();
        let sealed = core::mem::take(&mut self.sealed);
        for Taken { instant, .. } in &sealed {
            result = result.and(self.show_instant(Whose::Volume(instant.name), instant, visitor));
        }
        self.sealed = sealed;
        // Nobody else opens a volume meanwhile.
        let open = core::mem::take(&mut self.open);
        for one in &open {
            result = result.and(crate::free::UnderWay::visit(&one.map, self, visitor));
        }
        self.open = open;
        result
    }

    /// Returns the volume `name` of a checkpoint as it was at its instant.
    pub(super) fn instant(&mut self, number: u64, name: &str) -> Result<Instant, D> {
        let all = self.instants(number)?;
        let found = all.into_iter().find(|one| one.name.as_str() == name);
        found
            .ok_or_else(|| Error::Volume(VolumeFault::NoInstant { number, name: name.to_string() }))
    }
}
