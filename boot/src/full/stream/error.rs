//! [`StreamError`]: why a checkpoint was not written or read.

use crate::storage::error::DiskError;
use crate::typed::GivenUp;
use alloc::boxed::Box;
use stasis_host::admission::Refusal;
use stasis_store::Error;

/// Why a checkpoint was not written or read to its end.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The store has failed.
    #[error(transparent)]
    Store(#[from] Error<DiskError>),
    /// The checkpoint that blocks are shared with was not read.
    #[error("the checkpoint before was not read: {0}")]
    Base(Box<Error<DiskError>>),
    /// The machine can't have the guest of the checkpoint.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A person or a program has given the command up.
    #[error(transparent)]
    GivenUp(#[from] GivenUp),
}
