//! The proof that the records of a file were checked: [`Sound`].

use alloc::vec::Vec;
use core::ops::Range;

use crate::{error::Error, header::Version, invariants, records::Records};

/// The guest's memory, as sound records say it. Whoever has one need not check the records again,
/// if no record of registers is read any more.
#[derive(Debug)]
pub(crate) struct Sound {
    memory: Vec<Range<u64>>,
}

impl Sound {
    /// Returns the proof that all records of registers keep the invariants of a file of this
    /// version.
    ///
    /// # Errors
    ///
    /// [`Error::Invariant`] with the first rule that is broken.
    pub(crate) fn check(records: &Records<'_>, version: Version) -> Result<Self, Error> {
        invariants::check_file(records, version)?;
        Ok(Self { memory: records.memory() })
    }

    /// Returns the ranges of the guest's memory, in ascending order.
    pub(crate) fn memory(&self) -> &[Range<u64>] {
        &self.memory
    }
}
