//! Why there is no store, or an access to its disk has failed.

use stasis_hw::{sd, virtio_blk};
use stasis_store::Error;

/// Why an access to a disk has failed.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum DiskError {
    /// A virtio disk.
    #[error(transparent)]
    Virtio(#[from] virtio_blk::Error),
    /// An SD card.
    #[error(transparent)]
    Card(#[from] sd::Error),
}

impl DiskError {
    /// Returns whether the disk itself is not there, or can't be set up: it may be back later. If
    /// not, it is there, and refuses what it was asked for.
    pub fn is_absence(&self) -> bool {
        matches!(
            self,
            Self::Card(
                sd::Error::NoCard
                    | sd::Error::Controller(_)
                    | sd::Error::Start { .. }
                    | sd::Error::Unusable { .. }
                    | sd::Error::Lost { .. }
            )
        )
    }
}

/// Why there is no store.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NoStore {
    /// The machine has no disk, or the disk does not work.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The disk has no partition with a store that can be used.
    #[error(transparent)]
    Unusable(#[from] Error<DiskError>),
    /// Somebody has the store already.
    #[error("the store is in use")]
    InUse,
}

impl From<virtio_blk::Error> for NoStore {
    fn from(error: virtio_blk::Error) -> Self {
        Self::Disk(error.into())
    }
}

impl From<sd::Error> for NoStore {
    fn from(error: sd::Error) -> Self {
        Self::Disk(error.into())
    }
}
