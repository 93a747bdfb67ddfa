//! The partition table in sector 0: four entries, addresses of 32 bits.
//!
//! An entry of an extended type has further, logical partitions behind it: a chain of sectors that
//! look like this one. Each has a partition, whose address counts from that sector, and the next
//! link, whose address counts from the chain's beginning.

use crate::block::SECTOR;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The type byte of a Stasis partition. 0x7f is the one that is set aside for local and
/// experimental use (Alternative OS Development Partition Standard), so nothing common claims it.
pub const STASIS_TYPE: u8 = 0x7f;
/// The type bytes of extended partitions: by cylinders, heads and sectors, by sectors, and Linux's
/// own.
const EXTENDED_TYPES: [u8; 3] = [0x05, 0x0f, 0x85];
/// The type byte that says: a GPT describes this disk.
pub const PROTECTIVE_TYPE: u8 = 0xee;

/// Sector 0.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Mbr {
    code: [u8; 446],
    entries: [Entry; 4],
    signature: [u8; 2],
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Entry {
    status: u8,
    first_chs: [u8; 3],
    kind: u8,
    last_chs: [u8; 3],
    first: U32,
    sectors: U32,
}

const _: () = assert!(size_of::<Mbr>() == SECTOR);

const SIGNATURE: [u8; 2] = [0x55, 0xaa];

/// Returns the MBR, if sector 0 is one.
///
/// A boot sector of a FAT without any partition table carries the signature too. What stands where
/// the entries would be is code or text there, and its status bytes give that away.
pub fn parse(sector: &[u8; SECTOR]) -> Option<&Mbr> {
    let mbr: &Mbr = zerocopy::transmute_ref!(sector);
    let plausible = |entry: &Entry| matches!(entry.status, 0 | 0x80);
    (mbr.signature == SIGNATURE && mbr.entries.iter().all(plausible)).then_some(mbr)
}

impl Mbr {
    /// Returns whether the MBR only says that a GPT describes the disk.
    pub fn is_protective(&self) -> bool {
        self.entries.iter().any(|e| e.kind == PROTECTIVE_TYPE)
    }

    /// Returns the first and the last sector of the first Stasis partition.
    pub fn stasis(&self) -> Option<(u64, u64)> {
        let found = |e: &&Entry| e.kind == STASIS_TYPE && e.sectors.get() != 0;
        let entry = self.entries.iter().find(found)?;
        let first = u64::from(entry.first.get());
        Some((first, first + u64::from(entry.sectors.get()) - 1))
    }

    /// Returns where the next link of a chain of logical partitions is. In sector 0: where the
    /// chain begins.
    pub fn extended(&self) -> Option<u64> {
        let is_extended = |e: &&Entry| EXTENDED_TYPES.contains(&e.kind) && e.sectors.get() != 0;
        self.entries.iter().find(is_extended).map(|e| e.first.get().into())
    }

    /// Returns the MBR in front of a GPT on a disk of `disk` sectors (UEFI 2.10, table 5.4).
    pub fn protective(disk: u64) -> Self {
        let mut mbr: Self = zerocopy::FromZeros::new_zeroed();
        mbr.signature = SIGNATURE;
        mbr.entries[0] = Entry {
            status: 0,
            first_chs: [0x00, 0x02, 0x00],
            kind: PROTECTIVE_TYPE,
            last_chs: [0xff, 0xff, 0xff],
            first: 1.into(),
            sectors: u32::try_from(disk - 1).unwrap_or(u32::MAX).into(),
        };
        mbr
    }

    /// Returns what to write to sector 0.
    pub fn to_bytes(&self) -> [u8; SECTOR] {
        zerocopy::transmute!(*self)
    }

    /// Returns an MBR with the given partitions: type byte, first sector, number of sectors.
    pub fn new(partitions: &[(u8, u32, u32)]) -> Self {
        let mut mbr: Self = zerocopy::FromZeros::new_zeroed();
        mbr.signature = SIGNATURE;
        for (entry, &(kind, first, sectors)) in mbr.entries.iter_mut().zip(partitions) {
            *entry = Entry {
                status: 0,
                // Beyond what cylinders, heads and sectors can say.
                first_chs: [0xfe, 0xff, 0xff],
                kind,
                last_chs: [0xfe, 0xff, 0xff],
                first: first.into(),
                sectors: sectors.into(),
            };
        }
        mbr
    }
}
