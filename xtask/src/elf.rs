//! Makes of an ELF file the flat arm64 `Image` that a boot loader takes: the segments at their load
//! addresses.

use anyhow::{Context, Result, bail, ensure};
use object::elf::{DT_NEEDED, EM_AARCH64, FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, pod};

/// The greatest distance of a segment from the first one, in bytes. A larger one comes from a
/// mistake in a linker script.
const MAX_IMAGE: u64 = 64 << 20;

/// The four bytes at offset 56 of an arm64 `Image`.
const IMAGE_MAGIC: &[u8] = b"ARM\x64";

/// Returns the flat image of `elf`. Bytes at its end that only memory has (bss) are left out:
/// `image_size` in the header tells a loader of them.
pub fn flatten(elf: &[u8]) -> Result<Vec<u8>> {
    let header = FileHeader64::<Endianness>::parse(elf).context("it is no 64-bit ELF file")?;
    let endian = header.endian()?;
    ensure!(header.e_machine(endian) == EM_AARCH64, "it is not for AArch64");
    let segments: Vec<_> = header
        .program_headers(endian, elf)?
        .iter()
        .filter(|segment| segment.p_type(endian) == PT_LOAD && segment.p_filesz(endian) > 0)
        .collect();
    let Some(base) = segments.iter().map(|segment| segment.p_paddr(endian)).min() else {
        bail!("it has no segment to load");
    };

    let mut image = Vec::new();
    for segment in segments {
        let data = segment
            .data(endian, elf)
            .map_err(|()| anyhow::anyhow!("a segment lies outside of the file"))?;
        let start = segment.p_paddr(endian) - base;
        ensure!(start < MAX_IMAGE, "a segment lies {start:#x} bytes above the first one");
        let start = usize::try_from(start)?;
        let end = start + data.len();
        if image.len() < end {
            image.resize(end, 0);
        }
        image[start..end].copy_from_slice(pod::bytes_of_slice(data));
    }
    Ok(image)
}

/// Returns the names of the libraries that `elf` needs: its DT_NEEDED.
pub fn needed(elf: &[u8]) -> Result<Vec<String>> {
    let header = FileHeader64::<Endianness>::parse(elf).context("it is no 64-bit ELF file")?;
    let endian = header.endian()?;
    let table = header.sections(endian, elf)?.dynamic_table(endian, elf)?;
    let mut names = Vec::new();
    for entry in table.iter().filter(|entry| entry.tag == DT_NEEDED) {
        let name = table.string(entry)?;
        names.push(str::from_utf8(name).context("the name of a library is no text")?.to_owned());
    }
    Ok(names)
}

/// Checks that `image` begins with the header of an arm64 Linux `Image`.
pub fn check_image(image: &[u8]) -> Result<()> {
    ensure!(
        image.get(56..60) == Some(IMAGE_MAGIC),
        "it does not begin with the header of an arm64 Image (\"ARM\\x64\" at offset 56)"
    );
    Ok(())
}
