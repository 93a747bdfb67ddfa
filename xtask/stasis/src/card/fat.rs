//! The boot partition's file system: FAT32, which the Raspberry Pi's firmware reads.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions};
use stasis_store::SECTOR;

use super::boot::BootFile;
use super::volume::Volume;

/// Makes a volume with these files in a part of a card. The part must be zeros.
pub fn make(card: &File, part: Range<u64>, files: &[BootFile]) -> Result<()> {
    let hidden = u32::try_from(part.start / SECTOR as u64)?;
    let mut volume = Volume::new(card, part);
    let options = FormatVolumeOptions::new().fat_type(FatType::Fat32).volume_label(*b"STASIS     ");
    fatfs::format_volume(&mut volume, options).context("cannot make the file system")?;
    // The formatter does not know how many sectors lie before its volume (BPB_HiddSec, FAT
    // specification 1.03, 3.1).
    const HIDDEN_SECTORS: u64 = 28;
    const BACKUP: u64 = 6 * SECTOR as u64;
    for boot_sector in [0, BACKUP] {
        volume.seek(SeekFrom::Start(boot_sector + HIDDEN_SECTORS))?;
        volume.write_all(&hidden.to_le_bytes())?;
    }
    volume.rewind()?;
    let system = FileSystem::new(&mut volume, FsOptions::new())?;
    for file in files {
        add(&system.root_dir(), file).with_context(|| format!("cannot add {}", file.name))?;
    }
    system.unmount()?;
    Ok(volume.finish()?)
}

fn add<T: fatfs::ReadWriteSeek>(root: &fatfs::Dir<'_, T>, file: &BootFile) -> Result<()> {
    if let Some((folder, _)) = file.name.rsplit_once('/') {
        root.create_dir(folder)?;
    }
    let mut place = root.create_file(&file.name)?;
    file.data.write_to(&mut place)?;
    Ok(place.flush()?)
}

/// Returns the contents of a file in the boot partition of a card, which is its first partition.
pub fn read(card: &Path, name: &str) -> Result<Vec<u8>> {
    const FIRST_ENTRY: usize = 446;
    let file = File::open(card).with_context(|| format!("cannot open {}", card.display()))?;
    let mut table = [0; SECTOR];
    file.read_exact_at(&mut table, 0)?;
    let word = |at: usize| {
        u64::from(u32::from_le_bytes([table[at], table[at + 1], table[at + 2], table[at + 3]]))
    };
    let (first, sectors) = (word(FIRST_ENTRY + 8), word(FIRST_ENTRY + 12));
    ensure!(first != 0, "{} has no first partition", card.display());
    let part = first * SECTOR as u64..(first + sectors) * SECTOR as u64;
    let volume = FileSystem::new(Volume::open(&file, part), FsOptions::new())?;
    let mut contents = Vec::new();
    volume
        .root_dir()
        .open_file(name)
        .and_then(|mut file| file.read_to_end(&mut contents))
        .with_context(|| format!("cannot read {name} on {}", card.display()))?;
    Ok(contents)
}
