//! The owner of the map that a node stands in: [`Whose`].

use crate::error::{Error, VolumeFault};
use crate::volume::Name;
use alloc::string::ToString;
use core::fmt::{Debug, Display};

/// The owner of a map, for the rules that its nodes keep, and for errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// The checkpoint with this number; 0 while it is being written.
    Checkpoint(u64),
    /// The volume with this name.
    Volume(Name),
    /// A volume as it was at the instant of the checkpoint with this number.
    Instant(u64),
}

impl Whose {
    /// Returns whether blocks may stand nowhere, which are zeros then, and every node has its
    /// place: as in the map of a volume.
    pub fn is_sparse(self) -> bool {
        !matches!(self, Self::Checkpoint(_))
    }

    /// Returns the error that says that a block of the map is not as it was written.
    pub fn damaged<E: Display + Debug>(self, block: u32) -> Error<E> {
        match self {
            Self::Checkpoint(number) | Self::Instant(number) => Error::MapDamaged { number, block },
            Self::Volume(name) => VolumeFault::Damaged { name: name.to_string(), block }.into(),
        }
    }
}
