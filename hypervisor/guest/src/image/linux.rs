//! Places an arm64 Linux `Image` by its header: Documentation/arch/arm64/booting.rst, section 4.

use super::{ImageError, Loaded, in_ram};
use crate::sysreg::identity::Granule;

const HEADER_LEN: usize = 64;
const TEXT_OFFSET: usize = 8;
const IMAGE_SIZE: usize = 16;
const FLAGS: usize = 24;
const MAGIC: usize = 56;

/// Flags, bit 0: the kernel runs big-endian.
const FLAG_BIG_ENDIAN: u64 = 1;
/// Lowest bit of the kernel's page size in the flags, bits 2:1.
const FLAGS_PAGE_SIZE: u32 = 1;
/// Bytes from the start of RAM to a kernel older than 3.17, whose header does not have its size.
const OLD_TEXT_OFFSET: u64 = 0x8_0000;
/// Bytes at the start of RAM that QEMU keeps for its boot code. QEMU puts a kernel that would go
/// there 2 MiB higher, and addresses must be the same here.
const QEMU_BOOT_CODE: u64 = 4096;
const QEMU_BIAS: u64 = 2 << 20;

pub(super) fn is_image(file: &[u8]) -> bool {
    file.len() >= HEADER_LEN && file[MAGIC..].starts_with(b"ARM\x64")
}

/// Returns the place and the entry point of a file that [`is_image`]; nothing is written.
pub(super) fn place(ram_size: usize, file: &[u8]) -> Result<Loaded, ImageError> {
    if field(file, FLAGS) & FLAG_BIG_ENDIAN != 0 {
        return Err(ImageError::BigEndian);
    }
    let file_size = file.len() as u64;
    let (mut offset, size) = match field(file, IMAGE_SIZE) {
        0 => (OLD_TEXT_OFFSET, file_size),
        // The header has the bytes that the kernel needs in memory, with its uninitialised data.
        size => (field(file, TEXT_OFFSET), size.max(file_size)),
    };
    if offset < QEMU_BOOT_CODE {
        offset += QEMU_BIAS;
    }
    let image = in_ram(ram_size, offset, size)?;
    Ok(Loaded { entry: image.start, image })
}

/// Returns the size of the pages that a file which [`is_image`] says it uses. Kernels older than
/// 4.6 don't say.
pub(super) fn granule(file: &[u8]) -> Option<Granule> {
    match field(file, FLAGS) >> FLAGS_PAGE_SIZE & 3 {
        1 => Some(Granule::Kib4),
        2 => Some(Granule::Kib16),
        3 => Some(Granule::Kib64),
        _ => None,
    }
}

fn field(file: &[u8], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&file[at..at + 8]);
    u64::from_le_bytes(bytes)
}
