//! Why no guest was resumed: [`ResumeError`], and, of a checkpoint, [`CheckpointReadError`].

use super::regions;
use crate::disks::VolumeInUse;
use crate::guests::GuestError;
use crate::loading::origin::OriginError;
use crate::storage::error::{DiskError, NoStore};
use crate::stream::error::StreamError;
use crate::typed::GivenUp;
use stasis_host::admission::{LoadFailed, Refusal};
use stasis_host::loading::Why;
use stasis_host::sets::CopyError;
use stasis_host::volumes::{NotKept, NotStored};
use stasis_memory::range::NoRam;
use stasis_state::LoadError;
use stasis_store::Error;

/// Why no guest was resumed.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// The guest can't be resumed under another name.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// There is no store.
    #[error(transparent)]
    NoStore(#[from] NoStore),
    /// The store has failed, or has no such checkpoint.
    #[error(transparent)]
    Store(#[from] Error<DiskError>),
    /// A checkpoint is not good. Nothing was changed.
    #[error(transparent)]
    Read(#[from] CheckpointReadError),
    /// A checkpoint is not good, or was not read. Nothing was changed.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// Another guest has a volume of the guest's. Nothing was changed.
    #[error(transparent)]
    VolumeInUse(#[from] VolumeInUse),
    /// A guest that is to keep its disks lacks one. Nothing was changed.
    #[error(transparent)]
    NotKept(#[from] NotKept),
    /// A checkpoint came without a disk of its guest. Nothing was changed.
    #[error(transparent)]
    NotStored(#[from] NotStored<DiskError>),
    /// A guest was refused. Nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The machine lacks memory or cores for a guest, or can't have one more guest.
    #[error(transparent)]
    NoRoom(#[from] GuestError),
    /// The memory of a guest was not loaded to its end.
    #[error("{0}")]
    Load(LoadFailed<CheckpointReadError>),
}

/// Why a checkpoint was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointReadError {
    /// The store has failed.
    #[error(transparent)]
    Store(#[from] Error<DiskError>),
    /// The command was given up.
    #[error(transparent)]
    GivenUp(GivenUp),
    /// The checkpoint was not read, or breaks a rule of the format.
    #[error(transparent)]
    Load(LoadError<StreamError>),
    /// Memory of the guest, or memory that it shares, was not read, or is not what was stored.
    #[error("{0}")]
    Memory(regions::Failed),
    /// The guest that the other one takes the place of has given its memory back, and others have
    /// taken that meanwhile.
    #[error("others have taken its memory: {0}")]
    NoRam(NoRam),
}

impl CheckpointReadError {
    /// Returns whether the machine lacks memory, and the checkpoint is as good as before.
    pub fn lacks_memory(&self) -> bool {
        match self {
            Self::Memory(failed) => matches!(failed.why, Why::NoFrame),
            Self::NoRam(_) => true,
            _ => false,
        }
    }
}

impl ResumeError {
    /// Returns whether the machine lacks memory, and the checkpoint is as good as before.
    pub fn lacks_memory(&self) -> bool {
        match self {
            Self::NoRoom(why) => why.lacks_memory(),
            Self::Read(why) | Self::Load(LoadFailed { why, .. }) => why.lacks_memory(),
            _ => false,
        }
    }
}

impl From<LoadFailed<CheckpointReadError>> for ResumeError {
    fn from(failed: LoadFailed<CheckpointReadError>) -> Self {
        Self::Load(failed)
    }
}

impl From<LoadError<StreamError>> for CheckpointReadError {
    fn from(error: LoadError<StreamError>) -> Self {
        match error {
            LoadError::Source(StreamError::GivenUp(given_up)) => Self::GivenUp(given_up),
            other => Self::Load(other),
        }
    }
}
