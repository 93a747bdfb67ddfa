//! The boot partition's file system: FAT32, which the Raspberry Pi's firmware reads.

use std::io::{Cursor, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions};
use stasis_store::SECTOR;

use super::boot::BootFile;

/// Returns a volume of `size` bytes with these files, which lies behind `hidden` sectors of the card.
pub fn volume(size: u64, hidden: u64, files: &[BootFile]) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(size)?];
    let options = FormatVolumeOptions::new().fat_type(FatType::Fat32).volume_label(*b"STASIS     ");
    fatfs::format_volume(Cursor::new(&mut bytes[..]), options)
        .context("cannot make the file system")?;
    // The formatter does not know how many sectors lie before its volume (BPB_HiddSec, FAT specification 1.03, 3.1).
    const HIDDEN_SECTORS: usize = 28;
    const BACKUP: usize = 6 * SECTOR;
    for boot_sector in [0, BACKUP] {
        let place = boot_sector + HIDDEN_SECTORS;
        bytes[place..place + 4].copy_from_slice(&u32::try_from(hidden)?.to_le_bytes());
    }
    {
        let volume = FileSystem::new(Cursor::new(&mut bytes[..]), FsOptions::new())?;
        for file in files {
            add(&volume.root_dir(), file).with_context(|| format!("cannot add {}", file.name))?;
        }
        volume.unmount()?;
    }
    Ok(bytes)
}

fn add<T: fatfs::ReadWriteSeek>(root: &fatfs::Dir<'_, T>, file: &BootFile) -> Result<()> {
    if let Some((folder, _)) = file.name.rsplit_once('/') {
        root.create_dir(folder)?;
    }
    let mut place = root.create_file(&file.name)?;
    place.write_all(&file.data)?;
    Ok(place.flush()?)
}

/// Returns the contents of a file in the boot partition of a card, which is its first partition.
pub fn read(card: &Path, name: &str) -> Result<Vec<u8>> {
    const FIRST_ENTRY: usize = 446;
    let file =
        std::fs::File::open(card).with_context(|| format!("cannot open {}", card.display()))?;
    let mut table = [0; SECTOR];
    file.read_exact_at(&mut table, 0)?;
    let word = |at: usize| {
        u64::from(u32::from_le_bytes([table[at], table[at + 1], table[at + 2], table[at + 3]]))
    };
    let (first, sectors) = (word(FIRST_ENTRY + 8), word(FIRST_ENTRY + 12));
    ensure!(first != 0, "{} has no first partition", card.display());
    let mut bytes = vec![0; usize::try_from(sectors)? * SECTOR];
    file.read_exact_at(&mut bytes, first * SECTOR as u64)?;
    let volume = FileSystem::new(Cursor::new(&mut bytes[..]), FsOptions::new())?;
    let mut contents = Vec::new();
    volume
        .root_dir()
        .open_file(name)
        .and_then(|mut file| file.read_to_end(&mut contents))
        .with_context(|| format!("cannot read {name} on {}", card.display()))?;
    Ok(contents)
}
