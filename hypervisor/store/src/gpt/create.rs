//! Makes a GPT: for host tools that make disk images, and for tests.

use super::{CRC32, ENTRY_LEN, Entry, Guid, HEADER_LEN, Header, REVISION, SIGNATURE, STASIS_TYPE};
use crate::block::{BlockDevice, SECTOR};
use crate::error::{Doing, Error, PartitionFault};
use crate::mbr::Mbr;
use crate::store::Result;
use alloc::vec;
use zerocopy::{FromZeros, IntoBytes};

/// Entries of the array: the least that the specification allows, and what every tool makes.
const ENTRY_COUNT: usize = 128;
const ENTRIES_LEN: usize = ENTRY_COUNT * ENTRY_LEN;
const ENTRIES_SECTORS: u64 = (ENTRIES_LEN / SECTOR) as u64;
/// Where partitions begin by custom: 1 MiB.
const ALIGNMENT: u64 = 2048;

/// A partition to be made.
#[derive(Clone, Copy, Debug)]
pub struct NewPartition<'a> {
    /// What it is for.
    pub kind: Guid,
    /// What tells it from every other one in the world; random.
    pub unique: Guid,
    /// The first sector.
    pub first: u64,
    /// The last sector.
    pub last: u64,
    /// What people call it: up to 36 UTF-16 units count.
    pub name: &'a str,
}

impl NewPartition<'_> {
    /// Returns a Stasis partition from `first`, or where the first partition belongs, to the end of
    /// a disk of `disk` sectors.
    pub fn stasis(unique: Guid, first: Option<u64>, disk: u64) -> Self {
        Self {
            kind: STASIS_TYPE,
            unique,
            first: first.unwrap_or(ALIGNMENT),
            last: disk.saturating_sub(ENTRIES_SECTORS + 2),
            name: "Stasis checkpoints",
        }
    }
}

/// Writes a GPT with these partitions to a disk: protective MBR, both headers, both arrays of
/// entries. What stands in the partitions is not touched.
pub fn create<D: BlockDevice>(
    device: &mut D,
    disk_guid: Guid,
    partitions: &[NewPartition<'_>],
) -> Result<(), D> {
    let disk = device.block_count();
    let first_usable = 2 + ENTRIES_SECTORS;
    let last_usable = disk.saturating_sub(ENTRIES_SECTORS + 2);
    check(partitions, first_usable, last_usable)?;

    let mut entries = vec![0; ENTRIES_LEN];
    for (bytes, partition) in entries.chunks_exact_mut(ENTRY_LEN).zip(partitions) {
        bytes.copy_from_slice(entry(partition).as_bytes());
    }
    let header = |my_lba: u64, alternate_lba: u64, entries_lba: u64| {
        let mut header = Header {
            signature: SIGNATURE,
            revision: REVISION.into(),
            header_size: (HEADER_LEN as u32).into(),
            header_crc: 0.into(),
            reserved: 0.into(),
            my_lba: my_lba.into(),
            alternate_lba: alternate_lba.into(),
            first_usable: first_usable.into(),
            last_usable: last_usable.into(),
            disk_guid,
            entries_lba: entries_lba.into(),
            entry_count: (ENTRY_COUNT as u32).into(),
            entry_size: (ENTRY_LEN as u32).into(),
            entries_crc: CRC32.checksum(&entries).into(),
        };
        header.header_crc = CRC32.checksum(header.as_bytes()).into();
        let mut sector = [0; SECTOR];
        sector[..HEADER_LEN].copy_from_slice(header.as_bytes());
        sector
    };
    let last = disk - 1;
    write(device, 0, Mbr::protective(disk).as_bytes())?;
    write(device, 1, &header(1, last, 2))?;
    write(device, 2, &entries)?;
    write(device, last - ENTRIES_SECTORS, &entries)?;
    write(device, last, &header(last, 1, last - ENTRIES_SECTORS))?;
    device.flush().map_err(|error| Error::Device { doing: Doing::Flushing, lba: 0, error })
}

fn check<E: core::fmt::Display + core::fmt::Debug>(
    partitions: &[NewPartition<'_>],
    from: u64,
    to: u64,
) -> core::result::Result<(), Error<E>> {
    for (index, &NewPartition { first, last, .. }) in partitions.iter().enumerate() {
        if first < from || last > to || first > last || index >= ENTRY_COUNT {
            return Err(PartitionFault::NoRoom { index, first, last, from, to }.into());
        }
        let overlap = |p: &NewPartition<'_>| p.first <= last && first <= p.last;
        if let Some(other) = partitions[..index].iter().position(overlap) {
            return Err(PartitionFault::Overlap { index, other }.into());
        }
    }
    // Without any partition, the table itself must still fit.
    if from > to {
        return Err(PartitionFault::NoRoom { index: 0, first: from, last: to, from, to }.into());
    }
    Ok(())
}

fn entry(partition: &NewPartition<'_>) -> Entry {
    let mut entry = Entry::new_zeroed();
    entry.kind = partition.kind;
    entry.unique = partition.unique;
    entry.first = partition.first.into();
    entry.last = partition.last.into();
    for (stored, unit) in entry.name.iter_mut().zip(partition.name.encode_utf16()) {
        *stored = unit.into();
    }
    entry
}

fn write<D: BlockDevice>(device: &mut D, lba: u64, data: &[u8]) -> Result<(), D> {
    device.write(lba, data).map_err(|error| Error::Device { doing: Doing::Writing, lba, error })
}
