//! The files of the boot partition: Stasis, its guests, and what tells the firmware to start them.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::content::Content;

/// The name of Stasis's image. The firmware also looks for this name by itself.
pub const KERNEL: &str = "kernel8.img";
/// The name of the boot archive.
pub const ARCHIVE: &str = "stasis.cpio";
/// The name of the Raspberry Pi 4's device tree in Linux and in the firmware.
pub const RASPI4_DEVICE_TREE: &str = "bcm2711-rpi-4-b.dtb";
/// The names of the Raspberry Pi 4's firmware. A Raspberry Pi 5 has its firmware in a chip.
const FIRMWARE: [&str; 2] = ["start4.elf", "fixup4.dat"];
/// The names of further files that are taken from a folder with firmware if it has them: device
/// trees, and the overlay that connects the PL011 to the pins of the header.
const OPTIONAL: [&str; 3] = [RASPI4_DEVICE_TREE, "bcm2712-rpi-5-b.dtb", "overlays/disable-bt.dtbo"];

/// The firmware's configuration, as its documentation describes "config.txt".
const CONFIG: &str = "\
# Stasis on a Raspberry Pi: docs/raspberry-pi.md tells more.

# The image is an arm64 one. The firmware's own stub starts it at EL2, with the GIC-400 set up, and leaves the
# other cores waiting in a spin table. With `armstub=` another stub can be named, such as TF-A's BL31, which has PSCI.
arm_64bit=1
enable_gic=1
kernel=kernel8.img
initramfs stasis.cpio followkernel

# Memory is for guests.
gpu_mem=16

# The serial console, at 115200 baud.
enable_uart=1

[pi4]
# It is on pins 8 and 10 of the header. The overlay gives them to the PL011; without it they are the mini UART's,
# which does as well.
dtoverlay=disable-bt

[pi5]
# The kernel is none that the firmware knows.
os_check=0
";
/// The command line. The firmware replaces `serial0` by Linux's name of the UART that it has set
/// up.
const CMDLINE: &str = "console=serial0,115200\n";

/// A file of the boot partition.
#[derive(Debug)]
pub struct BootFile {
    /// The file's name, with its folder.
    pub name: String,
    /// The file's contents.
    pub data: Content,
}

impl BootFile {
    /// Returns the file of this name with these contents.
    pub fn new(name: &str, data: impl Into<Content>) -> Self {
        Self { name: name.to_owned(), data: data.into() }
    }
}

/// Returns all files of the boot partition. `device_tree` is called if `firmware` has no device
/// tree.
pub fn files(
    image: Content,
    archive: Content,
    firmware: Vec<BootFile>,
    device_tree: impl FnOnce() -> Result<Content>,
) -> Result<Vec<BootFile>> {
    let mut files = vec![
        BootFile::new("config.txt", CONFIG),
        BootFile::new("cmdline.txt", CMDLINE),
        BootFile::new(KERNEL, padded(image)?),
        BootFile::new(ARCHIVE, archive),
    ];
    files.extend(firmware);
    if !files.iter().any(|file| file.name == RASPI4_DEVICE_TREE) {
        files.push(BootFile::new(RASPI4_DEVICE_TREE, device_tree()?));
    }
    Ok(files)
}

/// Returns the image with zeros behind it for all of its memory. "followkernel" loads the archive
/// right behind the file, and the image has more memory than its file has bytes: its stacks and its
/// heap would lie on the archive.
fn padded(mut image: Content) -> Result<Content> {
    const IMAGE_SIZE: u64 = 16;
    let mut size = [0; 8];
    image.read_at(IMAGE_SIZE, &mut size).context("the image has no header")?;
    let size = u64::from_le_bytes(size);
    ensure!(size >= image.len() && size < 64 << 20, "the image's header says {size} bytes");
    image.pad_to(size);
    Ok(image)
}

/// Returns the firmware's files in a folder.
pub fn firmware(folder: &Path) -> Result<Vec<BootFile>> {
    let mut files = Vec::new();
    for name in FIRMWARE {
        let data = Content::open(&folder.join(name)).with_context(|| {
            format!("{} is no folder with the Raspberry Pi's firmware", folder.display())
        })?;
        files.push(BootFile::new(name, data));
    }
    for name in OPTIONAL {
        if folder.join(name).exists() {
            files.push(BootFile::new(name, Content::open(&folder.join(name))?));
        }
    }
    Ok(files)
}

/// Returns the names of the firmware's files that are not among these.
pub fn lacking(files: &[BootFile]) -> Vec<&'static str> {
    FIRMWARE.into_iter().filter(|name| !files.iter().any(|file| file.name == *name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(size: u64) -> Content {
        let mut image = vec![1; 100];
        image[16..24].copy_from_slice(&size.to_le_bytes());
        image.into()
    }

    #[test]
    fn the_archive_lies_behind_all_of_the_images_memory() {
        let files = files(image(4096), "2".into(), vec![], || Ok("3".into())).unwrap();
        let kernel = files.iter().find(|file| file.name == KERNEL).unwrap();
        let mut expected = image(4096).to_bytes().unwrap();
        expected.resize(4096, 0);
        assert_eq!(kernel.data.to_bytes().unwrap(), expected);
        assert!(padded(image(50)).is_err() && padded(image(1 << 40)).is_err());
        assert!(padded(vec![0; 10].into()).is_err());
    }

    #[test]
    fn firmware_brings_its_own_device_tree_and_none_is_told_of() {
        let folder = std::env::temp_dir().join(format!("stasis-firmware-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let error = format!("{:#}", firmware(&folder).unwrap_err());
        assert!(error.contains("no folder with the Raspberry Pi's firmware"), "{error}");
        for name in ["start4.elf", "fixup4.dat", RASPI4_DEVICE_TREE] {
            std::fs::write(folder.join(name), "theirs").unwrap();
        }
        let with =
            files(image(100), "".into(), firmware(&folder).unwrap(), || unreachable!()).unwrap();
        let trees: Vec<_> = with
            .iter()
            .filter(|file| file.name == RASPI4_DEVICE_TREE)
            .map(|file| file.data.to_bytes().unwrap())
            .collect();
        assert_eq!(trees, [b"theirs"]);
        assert!(lacking(&with).is_empty());
        let without = files(image(100), "".into(), vec![], || Ok("3".into())).unwrap();
        assert_eq!(lacking(&without), ["start4.elf", "fixup4.dat"]);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_configuration_names_the_files_that_there_are() {
        assert!(CONFIG.contains(&format!("kernel={KERNEL}\n")));
        assert!(CONFIG.contains(&format!("initramfs {ARCHIVE} followkernel\n")));
    }
}
