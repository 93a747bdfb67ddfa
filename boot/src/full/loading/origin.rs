//! The checkpoint that a guest's memory is loaded from: [`Origin`].
//!
//! Between two units, the store may have been opened anew, on another card. So each time the
//! checkpoint must be the one that it was. Stores before version 3 do not have checkpoints'
//! identities: there, the beginning of the file must be the same, which has the guest's clock, and
//! the identity since format 1.5.

use crate::lent::{File, Lent};
use crate::storage::disk::Disk;
use crate::storage::error::{DiskError, NoStore};
use crate::stream::error::StreamError;
use crate::stream::routines::routines;
use alloc::vec::Vec;
use stasis_host::loading::{Kind, Page, PageSource};
use stasis_state::{Checkpoint, Content, Index, LoadError, PAGE_SIZE, Piece};
use stasis_store::catalog::{self, Identity};
use stasis_store::{Error, Store};

/// Why a checkpoint's memory was not read.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// There is no store.
    #[error(transparent)]
    NoStore(#[from] NoStore),
    /// The store has failed.
    #[error(transparent)]
    Store(#[from] Error<DiskError>),
    /// The checkpoint was not read, or breaks a rule of the format.
    #[error(transparent)]
    Read(#[from] LoadError<StreamError>),
    /// There is no page table for a block that was read.
    #[error("there is no memory for the block's page table")]
    NoTable,
    /// The store is another one, or was changed elsewhere.
    #[error("checkpoint {0} is another one now")]
    Exchanged(u64),
}

impl OriginError {
    /// Returns whether the checkpoint is not what it was, and was read.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Exchanged(_) | Self::Read(LoadError::Format(_)) => true,
            Self::Store(error) | Self::Read(LoadError::Source(StreamError::Store(error))) => {
                error.is_of_damage()
            }
            _ => false,
        }
    }

    /// Returns what may become of it when it is tried again; `None` if nothing else.
    pub(super) fn kind(&self) -> Option<Kind> {
        match self {
            Self::NoStore(_) => Some(Kind::Absent),
            Self::Store(error) | Self::Read(LoadError::Source(StreamError::Store(error))) => {
                let Error::Device { error, .. } = error else { return None };
                Some(if error.is_absence() { Kind::Absent } else { Kind::Refused })
            }
            _ => None,
        }
    }
}

/// Blocks whose metadata is kept, for faults that go to and fro.
const KEPT: usize = 4;

/// A checkpoint in the store, and where it has a guest's memory.
pub struct Origin {
    entry: catalog::Checkpoint,
    index: Index,
    /// CRC-32C of the beginning of the file, if the store does not have its identity.
    fingerprint: Option<u32>,
    /// The metadata that was read last, the last one at the end.
    pieces: Vec<Piece>,
}

impl Origin {
    /// Reads the checkpoint with this number but for its pages, checks it, and returns it, with
    /// what it holds.
    ///
    /// # Errors
    ///
    /// The store has no such checkpoint, or it is not good, or has no directory.
    pub fn open(store: &mut Store<Disk>, number: u64) -> Result<(Checkpoint, Self), OriginError> {
        let entry = store.find(number)?.clone();
        let has_identity = entry.identity != Identity::default();
        let fingerprint = if has_identity { None } else { Some(fingerprint(store, &entry)?) };
        let file = &mut File { number, length: entry.length, lent: store };
        let (checkpoint, index) = Index::open(file, routines())?;
        Ok((checkpoint, Self { entry, index, fingerprint, pieces: Vec::new() }))
    }

    /// Returns where its memory is in the file.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Returns the checkpoint's number.
    pub fn number(&self) -> u64 {
        self.entry.number
    }

    /// Returns the pages of the checkpoint in the store, which is lent.
    ///
    /// # Errors
    ///
    /// [`OriginError::Exchanged`], if the store has another checkpoint, or none; what the store
    /// says if that can't be read.
    pub fn of<'o>(&'o mut self, lent: &'o mut dyn Lent) -> Result<Pages<'o>, OriginError> {
        let is_it = lent.has(&self.entry)
            && match self.fingerprint {
                Some(expected) => fingerprint(lent, &self.entry)? == expected,
                None => true,
            };
        if is_it {
            Ok(Pages { origin: self, lent })
        } else {
            Err(OriginError::Exchanged(self.entry.number))
        }
    }
}

/// Bytes at the beginning of a file that tell it from others: the header and the first records,
/// CLOCK and CHECKPOINT among them.
const BEGINNING: usize = 512;

/// Returns the CRC-32C of the beginning of a checkpoint's file.
fn fingerprint(lent: &mut dyn Lent, entry: &catalog::Checkpoint) -> Result<u32, OriginError> {
    let len = BEGINNING.min(entry.length as usize);
    let (mut crc, crc32c) = (0, routines().crc32c);
    lent.read_of(entry.number, 0, len, &mut |piece| crc = crc32c(crc, piece))?;
    Ok(crc)
}

/// The pages of a checkpoint in a store that is lent.
pub struct Pages<'o> {
    origin: &'o mut Origin,
    lent: &'o mut dyn Lent,
}

impl Pages<'_> {
    /// Returns the metadata of the block at this guest-physical address, which is read if it is not
    /// kept; `None` if the block is zeros.
    fn piece(&mut self, address: u64) -> Result<Option<&Piece>, OriginError> {
        let Origin { entry, index, pieces, .. } = &mut *self.origin;
        let Some(place) = index.entry(address) else { return Ok(None) };
        let kept = pieces.iter().position(|piece| piece.entry == place);
        if kept.is_none() {
            let (number, length) = (entry.number, entry.length);
            let file = &mut File { number, length, lent: &mut *self.lent };
            let Some(piece) = index.piece(file, address)? else { return Ok(None) };
            if pieces.len() == KEPT {
                pieces.remove(0);
            }
            pieces.push(piece);
        }
        Ok(kept.map_or(pieces.last(), |kept| pieces.get(kept)))
    }
}

impl PageSource for Pages<'_> {
    type Error = OriginError;

    fn describe(&mut self, address: u64, pages: &mut [Page]) -> Result<(), OriginError> {
        pages.fill(Page::Zero);
        let Some(piece) = self.piece(address)? else { return Ok(()) };
        let first = ((address - piece.block.address()) / PAGE_SIZE as u64) as usize;
        let (before, rest) = piece.block.contents().split_at(first);
        let is_raw = |content: &&Content| matches!(content, Content::Raw(_));
        let raw_before = before.iter().filter(is_raw).count();
        let begin = piece.entry.bytes().start + piece.block.meta_len() as u64;
        let mut offset = begin + (raw_before * PAGE_SIZE) as u64;
        for (page, content) in pages.iter_mut().zip(rest) {
            *page = match *content {
                Content::Zero => Page::Zero,
                Content::Word(word) => Page::Word(word),
                Content::Raw(crc) => {
                    let stored = Page::Stored { offset, crc };
                    offset += PAGE_SIZE as u64;
                    stored
                }
            };
        }
        Ok(())
    }

    fn read_with(
        &mut self,
        offset: u64,
        len: usize,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<(), OriginError> {
        Ok(self.lent.read_of(self.origin.entry.number, offset, len, take)?)
    }
}
