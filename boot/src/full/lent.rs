//! The store as it is lent to whoever works with it: [`Lent`], so that a page can be read also
//! while a checkpoint is written or read.

use crate::storage::disk::Disk;
use crate::storage::error::{DiskError, NoStore};
use crate::stream::error::StreamError;
use crate::work::Work;
use alloc::boxed::Box;
use alloc::sync::Arc;
use stasis_devices::virtio::late::{self, Late};
use stasis_run::turns::Task;
use stasis_state::Source;
use stasis_store::catalog::Checkpoint;
use stasis_store::reader::Reader;
use stasis_store::writer::Writer;
use stasis_store::{Error, Store, Volumes, volume};

/// What is done to a volume in the store. Offsets and lengths are in bytes.
pub enum VolumeAccess<'b> {
    /// Reads as many bytes at this offset, and hands them to this, piece by piece, for as long as
    /// it returns true.
    Read(u64, u64, &'b mut dyn FnMut(&[u8]) -> bool),
    /// Writes as many bytes at an offset, which this makes, piece by piece, for as long as it
    /// returns true.
    Write(u64, u64, &'b mut dyn FnMut(&mut [u8]) -> bool),
    /// Makes as many bytes at an offset zeros.
    Zero(u64, u64),
    /// Makes what was written part of the store.
    Flush,
    /// Begins late writes from this offset on, which have this place.
    BeginLate(u64, Arc<Late>),
}

/// The late writes of a guest, as the store takes them.
#[derive(Debug)]
struct OfGuest(Arc<Late>);

const _: () = assert!(late::MOST_LATE == volume::MOST_LATE);

impl volume::LateWrites for OfGuest {
    fn begin(&self, offset: u64) {
        self.0.begin(offset);
    }

    fn end(&self) -> bool {
        self.0.end()
    }

    fn take(&self) -> volume::Late {
        let (offset, len, buffer) = self.0.take();
        volume::Late { offset, len, buffer }
    }

    fn put_back(&self, late: volume::Late) {
        self.0.put_back((late.offset, late.len, late.buffer));
    }
}

/// A store, or what somebody works with who has borrowed it.
pub trait Lent {
    /// Returns the task that waits for the disk.
    fn task(&mut self) -> &mut Task;

    /// Returns whether the store has this very checkpoint.
    fn has(&self, checkpoint: &Checkpoint) -> bool;

    /// Does something to a volume.
    ///
    /// # Errors
    ///
    /// The error of the store.
    fn access_volume(&mut self, name: &str, access: VolumeAccess) -> Result<(), Error<DiskError>>;

    /// Hands the `len` bytes at `offset` of the checkpoint with this number to `take` in pieces, in
    /// their order.
    ///
    /// # Errors
    ///
    /// The error of the store.
    fn read_of(
        &mut self,
        number: u64,
        offset: u64,
        len: usize,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Error<DiskError>>;
}

/// Does something to one of these volumes.
fn access(
    mut volumes: Volumes<Disk>,
    name: &str,
    access: VolumeAccess,
) -> Result<(), Error<DiskError>> {
    match access {
        VolumeAccess::Read(offset, len, take) => {
            volumes.read_while(name, offset, len, take).map(drop)
        }
        VolumeAccess::Write(offset, len, fill) => {
            volumes.write_while(name, offset, len, fill).map(drop)
        }
        VolumeAccess::Zero(offset, len) => volumes.zero(name, offset, len),
        VolumeAccess::Flush => volumes.flush(name),
        VolumeAccess::BeginLate(offset, late) => {
            volumes.begin_late(name, offset, Box::new(OfGuest(late)))
        }
    }
}

impl Lent for Store<Disk<'_>> {
    fn task(&mut self) -> &mut Task {
        self.device_mut().task()
    }

    fn access_volume(&mut self, name: &str, what: VolumeAccess) -> Result<(), Error<DiskError>> {
        access(self.volumes_mut(), name, what)
    }

    fn has(&self, checkpoint: &Checkpoint) -> bool {
        let key = |one: &Checkpoint| (one.name, one.length, one.created, one.identity);
        self.find(checkpoint.number).is_ok_and(|found| key(found) == key(checkpoint))
    }

    fn read_of(
        &mut self,
        number: u64,
        offset: u64,
        len: usize,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Error<DiskError>> {
        Self::read_of(self, number, offset, len, take)
    }
}

/// Makes those `Lent` who have borrowed the store. It can't be opened anew meanwhile, so what it
/// had it has.
macro_rules! borrowers {
    ($($borrower:ident),*) => {$(
        impl Lent for $borrower<'_, Disk<'_>> {
            fn task(&mut self) -> &mut Task {
                self.device_mut().task()
            }

            fn access_volume(
                &mut self,
                name: &str,
                what: VolumeAccess,
            ) -> Result<(), Error<DiskError>> {
                access(self.volumes_mut(), name, what)
            }

            fn has(&self, checkpoint: &Checkpoint) -> bool {
                self.store().has(checkpoint)
            }

            fn read_of(
                &mut self,
                number: u64,
                offset: u64,
                len: usize,
                take: &mut dyn FnMut(&[u8]),
            ) -> Result<(), Error<DiskError>> {
                Self::read_of(self, number, offset, len, take)
            }
        }
    )*};
}

borrowers!(Reader, Writer);

/// A checkpoint as a source of the format, whose reads need no buffer and can't be given up.
pub struct File<'l> {
    pub lent: &'l mut dyn Lent,
    pub number: u64,
    pub length: u64,
}

impl Source for File<'_> {
    type Error = StreamError;

    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&mut self, offset: u64, mut buf: &mut [u8]) -> Result<(), StreamError> {
        self.read_with(offset, buf.len(), &mut |piece| {
            let (now, later) = core::mem::take(&mut buf).split_at_mut(piece.len());
            now.copy_from_slice(piece);
            buf = later;
        })
    }

    fn read_with(
        &mut self,
        offset: u64,
        len: usize,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<(), StreamError> {
        Ok(self.lent.read_of(self.number, offset, len, take)?)
    }

    fn pause(&mut self) {
        self.lent.task().yield_now();
    }
}

impl Work<'_> {
    /// Calls `action` with the store, and returns its result. The disk has the task meanwhile: see
    /// [`Disk::task`].
    ///
    /// # Errors
    ///
    /// Why there is no store, or the error of `action`.
    pub fn with_store<T, E: From<NoStore>>(
        &mut self,
        action: impl FnOnce(&mut Store<Disk>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.storage.with_store(self.task, action)
    }
}
