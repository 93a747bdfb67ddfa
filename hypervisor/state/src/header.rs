//! The header of the file. Its layout is fixed, new fields are only appended, and it can be read
//! without a codec.

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{RecordType, error::Error};

/// The first bytes of every checkpoint. A transfer that converts line ends changes the last two.
pub const MAGIC: [u8; 8] = *b"STASIS\r\n";

/// The newest version that this crate reads and writes.
pub const VERSION: Version = Version { major: 1, minor: RecordType::newest_minor() };

/// Bits of [`Header::incompatible`] that this crate understands.
pub const KNOWN_INCOMPATIBLE: u64 = 0;

/// A version of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Major number. A reader refuses a file with a major number that it does not know.
    pub major: u16,
    /// Minor number, which grows with each register, record or feature bit that is added.
    pub minor: u16,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The header at the beginning of a file. All numbers are little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Header {
    /// The value of [`MAGIC`].
    pub magic: [u8; 8],
    /// Major number of the file's [`Version`].
    pub major: u16,
    /// Minor number of the file's [`Version`].
    pub minor: u16,
    /// Bytes of the header. The first record follows right behind it.
    pub header_len: u32,
    /// Bits of the features that a reader must know to read the file.
    pub incompatible: u64,
    /// Bits of the features that a reader may ignore.
    pub compatible: u64,
    /// Bytes of the whole file.
    pub total_len: u64,
    /// Reserved, 0.
    pub reserved: u32,
    /// CRC-32C of the whole header, with 0 in place of this field.
    pub crc: u32,
}

const _: () = assert!(size_of::<Header>() == Header::LEN);

/// What follows the [`Header`] in files of minor 5 and later whose `header_len` has room for it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct HeaderTail {
    /// Offset of the record RAM_DIRECTORY in the file; 0 if there is none.
    pub directory: u64,
    /// Reserved, 0.
    pub reserved: u64,
}

impl HeaderTail {
    /// Bytes of the header and its tail.
    pub const END: usize = Header::LEN + size_of::<Self>();
    /// The first minor whose files may have a tail.
    pub const SINCE: u16 = RecordType::RamDirectory.since();
}

impl Header {
    /// Bytes of the header of version 1.0. The header of a later version may be longer, never
    /// shorter.
    pub const LEN: usize = 48;
    /// Bytes of the longest header that is read.
    pub const MAX_LEN: usize = 4096;
    /// Offset of the field `crc` in bytes.
    pub const CRC_OFFSET: usize = 44;

    /// Returns the bytes of the header of a file of this version and of `total_len` bytes, with
    /// this tail.
    pub fn encode(
        version: Version,
        total_len: u64,
        tail: HeaderTail,
        crc32c: fn(u32, &[u8]) -> u32,
    ) -> [u8; HeaderTail::END] {
        let mut header = Self {
            magic: MAGIC,
            major: version.major,
            minor: version.minor,
            header_len: HeaderTail::END as u32,
            incompatible: 0,
            compatible: 0,
            total_len,
            reserved: 0,
            crc: 0,
        };
        header.crc = crc32c(crc32c(0, header.as_bytes()), tail.as_bytes());
        let mut bytes = [0; HeaderTail::END];
        bytes[..Self::LEN].copy_from_slice(header.as_bytes());
        bytes[Self::LEN..].copy_from_slice(tail.as_bytes());
        bytes
    }

    /// Returns whether a [`HeaderTail`] follows.
    pub(crate) const fn has_tail(&self) -> bool {
        self.minor >= HeaderTail::SINCE && self.header_len as usize >= HeaderTail::END
    }

    /// Returns the version of the format that the file was written in.
    pub const fn version(&self) -> Version {
        Version { major: self.major, minor: self.minor }
    }

    /// Checks the first `present` bytes of a header that the end of the file cuts short: they must
    /// be those of [`MAGIC`].
    pub(crate) fn check_beginning(&self, present: usize) -> Result<(), Error> {
        let present = present.min(MAGIC.len());
        if self.magic[..present] != MAGIC[..present] {
            return Err(Error::NotACheckpoint);
        }
        Ok(())
    }

    /// Checks the fields that say whether this is a header at all and how long it is, before its
    /// CRC can be computed.
    pub(crate) fn check_shape(&self) -> Result<(), Error> {
        if self.magic != MAGIC {
            return Err(Error::NotACheckpoint);
        }
        let len = self.header_len as usize;
        if !(Self::LEN..=Self::MAX_LEN).contains(&len) || !len.is_multiple_of(8) {
            return Err(Error::HeaderLength { found: self.header_len });
        }
        Ok(())
    }

    /// Checks that this version can read the file, and that the file has as many bytes as its
    /// header says.
    pub(crate) fn check_content(&self, file_len: u64) -> Result<(), Error> {
        if self.major != VERSION.major {
            return Err(Error::Version { found: self.version() });
        }
        let unknown = self.incompatible & !KNOWN_INCOMPATIBLE;
        if unknown != 0 {
            return Err(Error::UnknownFeatures { bits: unknown, version: self.version() });
        }
        if self.reserved != 0 {
            return Err(Error::HeaderReserved { found: self.reserved });
        }
        if file_len < self.total_len {
            return Err(Error::Truncated { has: file_len, needs: self.total_len });
        }
        if file_len > self.total_len {
            return Err(Error::TooLong { has: file_len, said: self.total_len });
        }
        Ok(())
    }
}
