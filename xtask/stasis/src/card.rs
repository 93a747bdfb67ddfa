//! `stasis card`: the image of a card for a Raspberry Pi, with a boot partition for Stasis and its
//! guests, and a partition for checkpoints.
//!
//! [`boot`] has the files of the boot partition, [`fat`] its file system, and `volume` the bytes
//! that it lies in.

pub mod boot;
pub mod fat;
mod volume;

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use stasis_store::mbr::Mbr;
use stasis_store::{BlockDevice, Compression, SECTOR, Store, mbr, partition};

use self::boot::{BootFile, RASPI4_DEVICE_TREE};
use crate::checkout::Checkout;
use crate::config::Config;
use crate::content::Content;
use crate::disk::{self, FileDisk};
use crate::output::{self, Output};
use crate::{archive, report};

/// Bytes of which the beginning and the size of a partition are multiples, as is the custom.
const ALIGNMENT: u64 = 1 << 20;
/// Bytes that the boot partition has free for what a person adds: firmware, overlays, another
/// archive.
const SPARE: u64 = 64 << 20;
/// Bytes that must be left for checkpoints.
const LEAST_STORE: u64 = 16 << 20;
/// The type byte of a FAT32 partition with addresses of sectors.
const FAT32_TYPE: u8 = 0x0c;

/// The text behind the command's help.
pub const DETAILS: &str = "\
The image goes to a card as it is, with any program that writes card images. It has a boot partition, with config.txt,
Stasis as kernel8.img, the boot archive and Linux's device tree of the board; and an empty store for checkpoints. What
is lacking is the Raspberry Pi's own firmware: --firmware copies it from a folder, which the manual says where to get.
QEMU's raspi4b takes the card, too, if SIZE is a power of two. An old file is not touched.";

/// What the command takes.
#[derive(Args, Debug)]
pub struct Arguments {
    /// The card that is made
    #[arg(value_name = "CARD.img")]
    card: PathBuf,
    /// For which board
    #[arg(long, value_enum, default_value_t = Board::Raspi4)]
    board: Board,
    /// The guests' configuration; in a checkout also an example's name, and "linux" by default
    #[arg(long, value_name = "FILE.toml")]
    guest: Option<String>,
    /// How large the card is
    // Room for some checkpoints of the examples, and a power of two, which QEMU wants.
    #[arg(long, default_value = "1G", value_parser = report::size_from)]
    size: u64,
    /// How the store compresses checkpoints: by lz4 if the card is slow
    #[arg(long, default_value = "none", value_name = "HOW", value_parser = disk::compression())]
    compress: Compression,
    /// Stasis's image; a checkout builds it
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Linux's device tree of the board; a checkout fetches it
    #[arg(long, value_name = "FILE")]
    device_tree: Option<PathBuf>,
    /// A folder with the Raspberry Pi's firmware
    #[arg(long, value_name = "FOLDER")]
    firmware: Option<PathBuf>,
}

/// The boards that can start from a card.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Board {
    Raspi4,
}

/// Runs the command.
pub fn main(checkout: &dyn Checkout, arguments: Arguments) -> Result<()> {
    let Arguments { card: path, board: Board::Raspi4, size, compress, .. } = &arguments;
    output::must_be_new(path)?;
    let files = boot_files(checkout, &arguments)?;
    create(path, *size, &files, *compress)?;
    report::step(format_args!("{}: a card of {}", path.display(), report::size(*size)));
    for file in &files {
        report::note(format_args!("{:>12}  {}", report::size(file.data.len()), file.name));
    }
    for name in boot::lacking(&files) {
        report::warn(format_args!(
            "{name} is not on it, and a Raspberry Pi 4 does not start without; docs/raspberry-pi.md says where to get it"
        ));
    }
    if !size.is_power_of_two() {
        report::note("QEMU does not take it: its size is no power of two");
    }
    Ok(())
}

/// Returns the files of the boot partition: those that were given, and those that the checkout
/// makes in the place of others.
fn boot_files(checkout: &dyn Checkout, arguments: &Arguments) -> Result<Vec<BootFile>> {
    let config = Config::read(checkout, &checkout.configuration(arguments.guest.as_deref())?)?;
    let firmware = arguments.firmware.as_deref().map(boot::firmware).transpose()?;
    let mut firmware = firmware.unwrap_or_default();
    if let Some(path) = &arguments.device_tree {
        firmware.retain(|file| file.name != RASPI4_DEVICE_TREE);
        firmware.push(BootFile::new(RASPI4_DEVICE_TREE, Content::open(path)?));
    }
    let image = match &arguments.image {
        Some(path) => Content::open(path)?,
        None => checkout.image()?,
    };
    let archive = archive::from_config(checkout, &config)?;
    boot::files(image, archive, firmware, || checkout.device_tree())
}

/// Makes the image of a card of `size` bytes, with these files in its boot partition and with an
/// empty store, which compresses in this way.
pub fn create(
    path: &std::path::Path,
    size: u64,
    files: &[BootFile],
    compression: Compression,
) -> Result<()> {
    let contents: u64 = files.iter().map(|file| file.data.len()).sum();
    let boot = (contents + SPARE).next_multiple_of(ALIGNMENT);
    let store = ALIGNMENT + boot;
    ensure!(
        size >= store + LEAST_STORE,
        "a card of {} is too small: the boot partition takes {}, and the one for checkpoints {} at least",
        report::size(size),
        report::size(boot),
        report::size(LEAST_STORE)
    );
    let sectors = |bytes: u64| u32::try_from(bytes / SECTOR as u64);
    let (Ok(boot_sectors), Ok(store_first), Ok(store_sectors)) =
        (sectors(boot), sectors(store), sectors(size - store))
    else {
        bail!("a card of {} is too large for a partition table of its kind", report::size(size));
    };
    let mut output = Output::create(path)?;
    let made = (|| {
        disk::give_size(output.file(), path, size)?;
        let mut card = FileDisk::open(output.path(), true)?;
        let table = Mbr::new(&[
            (FAT32_TYPE, (ALIGNMENT / SECTOR as u64) as u32, boot_sectors),
            (mbr::STASIS_TYPE, store_first, store_sectors),
        ]);
        card.write(0, &table.to_bytes())?;
        fat::make(output.file(), ALIGNMENT..store, files)?;
        let partition = partition::find(&mut card)?;
        Store::format(&mut card, partition)?.set_compression(compression)?;
        anyhow::Ok(())
    })();
    made.with_context(|| format!("cannot make the card {}", path.display()))?;
    output.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, len: usize) -> BootFile {
        BootFile::new(name, (0..len).map(|n| n as u8).collect::<Vec<u8>>())
    }

    #[test]
    fn a_card_has_its_files_and_an_empty_store() {
        let path = std::env::temp_dir().join(format!("stasis-image-{}.img", std::process::id()));
        let files = [file("kernel8.img", 3_000_000), file("overlays/x.dtbo", 10), file("a", 0)];
        create(&path, 128 << 20, &files, Compression::None).unwrap();
        for wanted in &files {
            let data = wanted.data.to_bytes().unwrap();
            assert!(fat::read(&path, &wanted.name).unwrap() == data, "{}", wanted.name);
        }
        assert!(fat::read(&path, "none").is_err());
        let mut store = disk::store(&path, false).unwrap();
        assert!(store.list().is_empty() && store.usage().free > 40 << 20);
        // The store does not begin before the boot partition ends.
        drop(store);
        let (_, partition) = disk::stasis_partition(&path, false, false).unwrap();
        assert_eq!(partition.first(), (1 << 20 >> 9) + (67 << 20 >> 9));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_card_that_is_too_small_is_refused_before_it_is_made() {
        let path = std::env::temp_dir().join("stasis-small-card.img");
        let error =
            create(&path, 64 << 20, &[file("a", 10)], Compression::None).unwrap_err().to_string();
        assert!(error.starts_with("a card of 64.0 MiB is too small"), "{error}");
        assert!(!path.exists());
    }
}
