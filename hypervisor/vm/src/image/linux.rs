//! An arm64 Linux `Image`: the header is in Documentation/arch/arm64/booting.rst, section 4.

use super::{ImageError, Loaded, in_ram};

const HEADER_LEN: usize = 64;
const TEXT_OFFSET: usize = 8;
const IMAGE_SIZE: usize = 16;
const FLAGS: usize = 24;
const MAGIC: usize = 56;

/// Flags, bit 0: the kernel runs big-endian.
const FLAG_BIG_ENDIAN: u64 = 1;
/// Where a kernel older than 3.17 goes, whose header has no size yet.
const OLD_TEXT_OFFSET: u64 = 0x8_0000;
/// QEMU keeps the first page for its boot code, and puts a kernel that would go there 2 MiB higher. Addresses shall be the
/// same here.
const QEMU_BOOT_CODE: u64 = 4096;
const QEMU_BIAS: u64 = 2 << 20;

pub(super) fn is_image(file: &[u8]) -> bool {
    file.len() >= HEADER_LEN && file[MAGIC..].starts_with(b"ARM\x64")
}

/// Loads an image that [`is_image`].
pub(super) fn load(ram: &mut [u8], file: &[u8]) -> Result<Loaded, ImageError> {
    let field = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&file[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    if field(FLAGS) & FLAG_BIG_ENDIAN != 0 {
        return Err(ImageError::BigEndian);
    }
    let file_size = file.len() as u64;
    let (mut offset, size) = match field(IMAGE_SIZE) {
        0 => (OLD_TEXT_OFFSET, file_size),
        // What it needs in memory, uninitialised data included.
        size => (field(TEXT_OFFSET), size.max(file_size)),
    };
    if offset < QEMU_BOOT_CODE {
        offset += QEMU_BIAS;
    }
    let image = in_ram(ram.len(), offset, size)?;
    ram[image.start..image.start + file.len()].copy_from_slice(file);
    Ok(Loaded { entry: image.start, image })
}
