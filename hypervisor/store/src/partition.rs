//! Finds the store's partition on a disk.
//!
//! Sector 0 decides, as in the UEFI specification (2.10, 5.2): a protective entry says that a GPT
//! describes the disk, an MBR without one describes it itself. Where sector 0 is destroyed, a GPT
//! is looked for too. Of several Stasis partitions the first in the table counts.

use crate::block::{BlockDevice, SECTOR};
use crate::error::{Doing, Error, PartitionFault};
use crate::layout::BLOCK_SECTORS;
use crate::store::Result;
use crate::{gpt, mbr};
use core::fmt::{Debug, Display};

/// A run of sectors of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    first: u64,
    sectors: u64,
}

impl Partition {
    /// Returns everything that `device` has as a partition: for a device that is one, as
    /// `/dev/sdb2` is.
    pub fn whole(device: &impl BlockDevice) -> Self {
        Self { first: 0, sectors: device.block_count() }
    }

    /// Returns the partition of the sectors `first..=last`, if they lie on a disk of `disk`
    /// sectors.
    pub fn checked<E: Display + Debug>(
        first: u64,
        last: u64,
        disk: u64,
    ) -> core::result::Result<Self, Error<E>> {
        if first > last || last >= disk {
            return Err(PartitionFault::OutsideDisk { first, last, disk }.into());
        }
        Ok(Self { first, sectors: last - first + 1 })
    }

    /// Returns the first sector.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Returns the number of sectors.
    pub fn sectors(&self) -> u64 {
        self.sectors
    }

    /// Returns whether the partition begins with a block of 4096 bytes, which is what many disks
    /// write at once. If not, a block of the disk can hold parts of two checkpoints, or of both
    /// catalogs.
    pub fn is_aligned(&self) -> bool {
        self.first.is_multiple_of(BLOCK_SECTORS)
    }

    /// Returns the number of bytes.
    pub fn bytes(&self) -> u64 {
        self.sectors.saturating_mul(SECTOR as u64)
    }
}

/// Finds the Stasis partition of a disk.
pub fn find<D: BlockDevice>(device: &mut D) -> Result<Partition, D> {
    let disk = device.block_count();
    let mut sector = [0; SECTOR];
    if disk == 0 {
        return Err(PartitionFault::NoTable.into());
    }
    read(device, 0, &mut sector)?;
    let (first, last) = match mbr::parse(&sector) {
        Some(mbr) if !mbr.is_protective() => {
            let found = match (mbr.stasis(), mbr.extended()) {
                (None, Some(chain)) => logical(device, chain)?,
                (found, _) => found,
            };
            found.ok_or(PartitionFault::NoStasisPartition)?
        }
        mbr => {
            let found = match gpt::find(device)? {
                Ok(found) => found,
                // Without a word of a GPT in sector 0, its absence is no damage.
                Err(_) if mbr.is_none() => return Err(PartitionFault::NoTable.into()),
                Err((primary, backup)) => {
                    return Err(PartitionFault::GptDamaged { primary, backup }.into());
                }
            };
            found.ok_or(PartitionFault::NoStasisPartition)?
        }
    };
    if first == 0 {
        return Err(PartitionFault::OutsideDisk { first, last, disk }.into());
    }
    Partition::checked(first, last, disk)
}

/// The first and last sector of the first Stasis partition among the logical ones, whose chain
/// begins at `chain`. A chain that is broken ends there.
fn logical<D: BlockDevice>(device: &mut D, chain: u64) -> Result<Option<(u64, u64)>, D> {
    /// More links than anybody makes: a chain may be a ring.
    const MAX_LINKS: usize = 128;
    let (mut sector, mut link) = ([0; SECTOR], chain);
    for _ in 0..MAX_LINKS {
        if link == 0 || link >= device.block_count() {
            break;
        }
        read(device, link, &mut sector)?;
        let Some(table) = mbr::parse(&sector) else { break };
        if let Some((first, last)) = table.stasis() {
            return Ok(Some((link + first, link + last)));
        }
        let Some(next) = table.extended() else { break };
        link = chain + next;
    }
    Ok(None)
}

pub(crate) fn read<D: BlockDevice>(device: &mut D, lba: u64, buf: &mut [u8]) -> Result<(), D> {
    device.read(lba, buf).map_err(|error| Error::Device { doing: Doing::Reading, lba, error })
}
