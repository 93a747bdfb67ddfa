//! Disk images with a partition for checkpoints, and the store in one. A card in a reader works as
//! well.
//!
//! [`lock`] keeps two programs from writing to a disk at the same time.

pub mod lock;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use stasis_store::gpt::{self, Guid, NewPartition};
use stasis_store::{
    BlockDevice, Compression, Error, Partition, PartitionFault, SECTOR, Store, partition,
};

use self::lock::Access;
use crate::output::Output;
use crate::report;

/// Bytes of an image for which nobody gives a size.
pub const DEFAULT_SIZE: u64 = 512 << 20;

/// A disk image, or a disk. Nobody else can write to it while it is open.
pub struct FileDisk {
    file: File,
    sectors: u64,
}

impl FileDisk {
    /// Opens an image or a disk. Fails if a machine or another tool has it open, as [`lock`] says.
    pub fn open(path: &Path, writable: bool) -> Result<Self> {
        Self::of(lock::open(path, if writable { Access::Exclusive } else { Access::Shared })?)
    }

    /// Opens an image to read it while a machine has it open. The caller must know that nobody
    /// writes to it meanwhile.
    pub fn open_unlocked(path: &Path) -> Result<Self> {
        Self::of(File::open(path).with_context(|| format!("cannot open {}", path.display()))?)
    }

    fn of(mut file: File) -> Result<Self> {
        // A block device has no length in its metadata, but it has an end.
        let bytes = file.seek(SeekFrom::End(0))?;
        Ok(Self { file, sectors: bytes / SECTOR as u64 })
    }
}

impl BlockDevice for FileDisk {
    type Error = std::io::Error;

    fn block_count(&self) -> u64 {
        self.sectors
    }

    fn read(&mut self, lba: u64, buf: &mut [u8]) -> std::io::Result<()> {
        self.file.read_exact_at(buf, lba * SECTOR as u64)
    }

    fn write(&mut self, lba: u64, data: &[u8]) -> std::io::Result<()> {
        self.file.write_all_at(data, lba * SECTOR as u64)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.sync_data()
    }

    fn crc32c(&self, bytes: &[u8]) -> u32 {
        crc32c::crc32c(bytes)
    }
}

/// Makes a sparse image of `size` bytes, with a GPT and an empty store in its only partition.
/// Replaces an older image.
pub fn create(path: &Path, size: u64) -> Result<()> {
    create_with(path, size, Compression::None)
}

/// Makes an image as [`create`] does, with a store that compresses in this way.
pub fn create_with(path: &Path, size: u64, compression: Compression) -> Result<()> {
    let mut output = Output::create(path)?;
    give_size(output.file(), path, size)?;
    let mut disk = FileDisk::open(output.path(), true)?;
    let whole = NewPartition::stasis(random_guid()?, None, disk.block_count());
    gpt::create(&mut disk, random_guid()?, &[whole])?;
    let partition = partition::find(&mut disk)?;
    Store::format(&mut disk, partition)?.set_compression(compression)?;
    output.finish()
}

/// Makes a sparse image of zeros, like a disk without partitions.
pub fn create_empty(path: &Path, size: u64) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
    give_size(&file, path, size)
}

/// Gives a new file the size of a disk of `size` bytes. `path` is only for the error.
pub(crate) fn give_size(file: &File, path: &Path, size: u64) -> Result<()> {
    ensure!(
        size.is_multiple_of(SECTOR as u64),
        "a disk of {size} bytes is not a whole number of sectors of {SECTOR} bytes"
    );
    file.set_len(size).with_context(|| format!("cannot give {} its size", path.display()))
}

/// Opens the store of an image, a disk or a partition.
pub fn store(path: &Path, writable: bool) -> Result<Store<FileDisk>> {
    let (disk, partition) = stasis_partition(path, writable, false)?;
    Store::open(disk, partition).with_context(|| format!("in {}", path.display()))
}

/// Returns the parser of the name of a way to compress, for the command line.
pub fn compression() -> impl TypedValueParser<Value = Compression> {
    let names = PossibleValuesParser::new(Compression::ALL.map(Compression::name));
    names.map(|name| {
        let named = Compression::ALL.into_iter().find(|one| one.name() == name);
        named.unwrap_or(Compression::None)
    })
}

/// Warns if a command has changed the version of the store.
pub fn warn_of_version(store: &Store<FileDisk>, before: u32) {
    let version = store.version();
    if version != before {
        report::warn(format_args!(
            "the store has version {version} now: older versions of Stasis refuse it"
        ));
    }
}

/// Returns the Stasis partition of an image or a disk. A device that is itself a partition has no
/// partition table; unless `blank` is true, it must have a store.
pub fn stasis_partition(path: &Path, writable: bool, blank: bool) -> Result<(FileDisk, Partition)> {
    let mut disk = FileDisk::open(path, writable)?;
    let whole = Partition::whole(&disk);
    let partition = match partition::find(&mut disk) {
        Err(Error::Partition(PartitionFault::NoTable))
            if blank || Store::open(&mut disk, whole).is_ok() =>
        {
            Ok(whole)
        }
        found => found,
    };
    let partition = partition.with_context(|| format!("in {}", path.display()))?;
    Ok((disk, partition))
}

/// Returns a random GUID of version 4 (RFC 9562, 5.4).
fn random_guid() -> Result<Guid> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .context("cannot read /dev/urandom")?;
    bytes[7] = bytes[7] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Ok(Guid(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_image_has_an_empty_store_and_is_sparse() {
        use std::os::unix::fs::MetadataExt;
        let path = std::env::temp_dir().join(format!("stasis-disk-{}.img", std::process::id()));
        create(&path, 64 << 20).unwrap();
        let mut store = store(&path, false).unwrap();
        assert!(store.list().is_empty());
        assert!(store.usage().free > 60 << 20);
        assert!(std::fs::metadata(&path).unwrap().blocks() * 512 < 1 << 20);
        std::fs::remove_file(&path).unwrap();
    }
}
