//! The GUID partition table (UEFI 2.10, 5.3): [`find`] reads it, [`create`] makes one.
//!
//! There are two copies, each a header and an array of entries under checksums: at the start of the
//! disk and at its end. The second is asked when the first is damaged.

mod create;

use crate::block::{BlockDevice, SECTOR};
use crate::partition::read;
use crate::store::Result;
use core::fmt;
use crc::{CRC_32_ISO_HDLC, Crc, Table};
pub use create::{NewPartition, create};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The type of a Stasis partition: `d77d842f-e184-404d-a3c7-44157384538c`, drawn at random for it.
pub const STASIS_TYPE: Guid =
    Guid::new(0xd77d842f, 0xe184, 0x404d, [0xa3, 0xc7, 0x44, 0x15, 0x73, 0x84, 0x53, 0x8c]);

/// A GUID as it stands on the disk: its first three numbers are little-endian.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(transparent)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// The GUID of an entry that is not in use.
    pub const ZERO: Self = Self([0; 16]);

    /// Returns the GUID that is written `a-b-c-dddd-dddddddddddd`.
    pub const fn new(a: u32, b: u16, c: u16, d: [u8; 8]) -> Self {
        let (a, b, c) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes());
        Self([
            a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5],
            d[6], d[7],
        ])
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a0, a1, a2, a3, b0, b1, c0, c1, d @ ..] = self.0;
        let a = u32::from_le_bytes([a0, a1, a2, a3]);
        let (b, c) = (u16::from_le_bytes([b0, b1]), u16::from_le_bytes([c0, c1]));
        write!(f, "{a:08x}-{b:04x}-{c:04x}-{:02x}{:02x}-", d[0], d[1])?;
        d[2..].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is wrong with one copy of a GPT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// There is no header.
    #[error("sector {lba} is no GPT header")]
    NoHeader {
        /// Where it was looked for.
        lba: u64,
    },
    /// The header's checksum is wrong.
    #[error("the GPT header in sector {lba} has a wrong checksum")]
    HeaderChecksum {
        /// Where it stands.
        lba: u64,
    },
    /// The header is of a kind, or says something, that can't be.
    #[error("the GPT header in sector {lba} contradicts itself")]
    HeaderContents {
        /// Where it stands.
        lba: u64,
    },
    /// The checksum of the entries is wrong.
    #[error("the GPT entries in sector {lba} have a wrong checksum")]
    EntriesChecksum {
        /// Where they begin.
        lba: u64,
    },
}

/// UEFI 2.10, table 5.5.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Header {
    signature: [u8; 8],
    revision: U32,
    header_size: U32,
    header_crc: U32,
    reserved: U32,
    my_lba: U64,
    alternate_lba: U64,
    first_usable: U64,
    last_usable: U64,
    disk_guid: Guid,
    entries_lba: U64,
    entry_count: U32,
    entry_size: U32,
    entries_crc: U32,
}

/// UEFI 2.10, table 5.6.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Entry {
    kind: Guid,
    unique: Guid,
    first: U64,
    last: U64,
    attributes: U64,
    name: [U16; 36],
}

const HEADER_LEN: usize = size_of::<Header>();
const ENTRY_LEN: usize = size_of::<Entry>();
const _: () = assert!(HEADER_LEN == 92 && ENTRY_LEN == 128);

const SIGNATURE: [u8; 8] = *b"EFI PART";
const REVISION: u32 = 0x1_0000;
/// The largest array of entries that is read: 64 times the usual. What claims more is taken for
/// damaged.
const MAX_ENTRIES_LEN: u64 = 1 << 20;

static CRC32: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISO_HDLC);

/// First and last sector of a partition.
type Sectors = (u64, u64);

/// Finds the first and last sector of the first Stasis partition, from the first of the two copies
/// that is intact, or what is wrong with each of them.
pub(crate) fn find<D: BlockDevice>(
    device: &mut D,
) -> Result<core::result::Result<Option<Sectors>, (Fault, Fault)>, D> {
    let primary = match find_in(device, 1)? {
        Ok(found) => return Ok(Ok(found)),
        Err(fault) => fault,
    };
    let last = device.block_count() - 1;
    Ok(find_in(device, last)?.map_err(|backup| (primary, backup)))
}

fn find_in<D: BlockDevice>(
    device: &mut D,
    lba: u64,
) -> Result<core::result::Result<Option<Sectors>, Fault>, D> {
    let disk = device.block_count();
    if lba == 0 || lba >= disk {
        return Ok(Err(Fault::NoHeader { lba }));
    }
    let mut sector = [0; SECTOR];
    read(device, lba, &mut sector)?;
    let header = match check_header(&sector, lba, disk) {
        Ok(header) => header,
        Err(fault) => return Ok(Err(fault)),
    };

    let entry_size = header.entry_size.get() as usize;
    let mut left = entry_size * header.entry_count.get() as usize;
    let mut digest = CRC32.digest();
    let mut found = None;
    // An entry may be longer than a sector, or shorter; only its first 128 bytes count, and as its
    // size is 128 times a power of two, they never lie across two sectors.
    let (first, mut position) = (header.entries_lba.get(), 0);
    for lba in first.. {
        if left == 0 {
            break;
        }
        read(device, lba, &mut sector)?;
        let used = &sector[..left.min(SECTOR)];
        digest.update(used);
        for entry in used.chunks(ENTRY_LEN) {
            if position % entry_size == 0
                && let Ok(entry) = Entry::ref_from_bytes(entry)
                && entry.kind == STASIS_TYPE
            {
                found = found.or(Some((entry.first.get(), entry.last.get())));
            }
            position += entry.len();
        }
        left -= used.len();
    }
    if digest.finalize() != header.entries_crc.get() {
        return Ok(Err(Fault::EntriesChecksum { lba: first }));
    }
    Ok(Ok(found))
}

/// The header in a sector, if it can be believed: what its array of entries is made of, too.
fn check_header(sector: &[u8; SECTOR], lba: u64, disk: u64) -> core::result::Result<Header, Fault> {
    let no_header = Fault::NoHeader { lba };
    let (header, _) = Header::read_from_prefix(sector).map_err(|_| no_header)?;
    if header.signature != SIGNATURE {
        return Err(no_header);
    }
    let size = header.header_size.get() as usize;
    let mut summed = *sector;
    summed[16..20].fill(0);
    match summed.get(..size) {
        Some(bytes) if size >= HEADER_LEN => {
            if CRC32.checksum(bytes) != header.header_crc.get() {
                return Err(Fault::HeaderChecksum { lba });
            }
        }
        _ => return Err(Fault::HeaderContents { lba }),
    }
    let entry_size = header.entry_size.get();
    let len = u64::from(entry_size) * u64::from(header.entry_count.get());
    let end = header.entries_lba.get().checked_add(len.div_ceil(SECTOR as u64));
    let valid = header.my_lba.get() == lba
        && entry_size.is_multiple_of(ENTRY_LEN as u32)
        && (entry_size / ENTRY_LEN as u32).is_power_of_two()
        && len <= MAX_ENTRIES_LEN
        && end.is_some_and(|end| end <= disk);
    if valid { Ok(header) } else { Err(Fault::HeaderContents { lba }) }
}
