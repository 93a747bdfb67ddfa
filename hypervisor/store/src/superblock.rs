//! The superblock: reading it, and taking a store from one version to the next so that power may
//! fail at any instant.
//!
//! Since version 2 there is a copy of it in a block of its own. The copy is written, and flushed,
//! before sector 0 is; so where sector 0 was torn, the copy holds, and sector 0 is written again
//! before anything else is.

use crate::block::{BlockDevice, SECTOR};
use crate::error::{Error, PartitionFault};
use crate::layout::{
    BLOCK, BLOCK_SECTORS, FIRST_DATA_BLOCK, METHOD_LZ4, METHOD_NONE, SUPERBLOCK_COPY, Superblock,
    VERSION, VERSION_OF_UNITS, checksum,
};
use crate::store::{Result, Store};
use core::fmt::{Debug, Display};
use zerocopy::IntoBytes;

/// How a store compresses the checkpoints that it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// In units of 64 KiB at most, each as one block of LZ4.
    Lz4,
}

impl Compression {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::None, Self::Lz4];

    /// Returns the name by which a person calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
        }
    }

    const fn method(self) -> u8 {
        match self {
            Self::None => METHOD_NONE,
            Self::Lz4 => METHOD_LZ4,
        }
    }

    /// Returns what a superblock of this version says.
    fn of<E: Display + Debug>(version: u32, method: u32) -> core::result::Result<Self, Error<E>> {
        let known = Self::ALL.into_iter().find(|one| u32::from(one.method()) == method);
        match known {
            _ if version < VERSION_OF_UNITS => Ok(Self::None),
            Some(known) => Ok(known),
            None => Err(Error::UnknownCompression { found: method }),
        }
    }
}

/// What the superblock says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    /// Size of the store in blocks, as it stands there.
    pub blocks: u64,
    /// The version of the store's layout.
    pub version: u32,
    /// How new checkpoints are compressed.
    pub compression: Compression,
    /// Whether sector 0 is not whole, and the copy is.
    pub copy_holds: bool,
}

impl Found {
    /// Returns the blocks that can be used: block numbers have 32 bits, so of a partition beyond 16
    /// TiB the rest stays unused.
    pub fn usable_blocks(&self) -> u32 {
        u32::try_from(self.blocks).unwrap_or(u32::MAX)
    }
}

/// A superblock as it stands in a sector. None if the sector has another checksum than it states.
fn parse(sector: &[u8; SECTOR]) -> Option<Superblock> {
    let superblock: Superblock = zerocopy::transmute!(*sector);
    let whole = superblock.magic == Superblock::MAGIC && superblock.crc.get() == checksum(sector);
    whole.then_some(superblock)
}

impl<D: BlockDevice> Store<D> {
    /// Reads the superblock, or its copy where it was torn.
    pub(crate) fn read_superblock(&mut self) -> Result<Found, D> {
        let mut sector = [0; SECTOR];
        if self.partition().sectors() == 0 {
            return Err(Error::Unformatted);
        }
        self.read_sectors(0, &mut sector)?;
        // Making a store begins with zeros here: then no copy counts.
        if sector[..8] != Superblock::MAGIC {
            return Err(Error::Unformatted);
        }
        let first = parse(&sector);
        let superblock = match first {
            Some(first) => first,
            None => self.superblock_copy()?.ok_or(Error::SuperblockDamaged {
                stored: u32::from_le_bytes([sector[8], sector[9], sector[10], sector[11]]),
                computed: checksum(&sector),
            })?,
        };
        let (version, blocks) = (superblock.version.get(), superblock.blocks.get());
        if !(1..=VERSION).contains(&version) {
            return Err(Error::UnsupportedVersion { found: version });
        }
        if blocks > self.partition().sectors() / BLOCK_SECTORS {
            return Err(Error::StoreOutsidePartition {
                store: blocks.saturating_mul(BLOCK as u64),
                partition: self.partition().bytes(),
            });
        }
        if blocks <= FIRST_DATA_BLOCK.into() {
            return Err(PartitionFault::too_small(blocks).into());
        }
        let compression = Compression::of(version, superblock.compress.get())?;
        Ok(Found { blocks, version, compression, copy_holds: first.is_none() })
    }

    fn superblock_copy(&mut self) -> Result<Option<Superblock>, D> {
        let mut sector = [0; SECTOR];
        if self.partition().sectors() <= SUPERBLOCK_COPY {
            return Ok(None);
        }
        self.read_sectors(SUPERBLOCK_COPY, &mut sector)?;
        // In version 1, anything may stand there.
        Ok(parse(&sector).filter(|copy| copy.version.get() >= 2))
    }

    /// Writes the superblock with this version and the store's compression, as
    /// [`write_superblock_with`](Self::write_superblock_with) does.
    pub(crate) fn write_superblock(&mut self, version: u32) -> Result<(), D> {
        self.write_superblock_with(version, self.superblock.compression)
    }

    /// Writes the superblock with this version and compression, first its copy and then itself, so
    /// that one of them is whole at any instant. If it fails, another call goes on from there.
    pub(crate) fn write_superblock_with(
        &mut self,
        version: u32,
        compression: Compression,
    ) -> Result<(), D> {
        let mut superblock = Superblock {
            magic: Superblock::MAGIC,
            crc: 0.into(),
            version: version.into(),
            blocks: self.superblock.blocks.into(),
            compress: u32::from(compression.method()).into(),
            reserved: [0; 484],
        };
        superblock.crc = checksum(superblock.as_bytes()).into();
        if !self.superblock.copy_holds {
            self.write_sectors(SUPERBLOCK_COPY, superblock.as_bytes())?;
            self.flush()?;
            self.superblock = Found { version, compression, copy_holds: true, ..self.superblock };
        }
        self.write_sectors(0, superblock.as_bytes())?;
        self.flush()?;
        self.superblock.copy_holds = false;
        Ok(())
    }
}
