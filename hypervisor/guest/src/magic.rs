//! Recognizes a file by its first bytes, for errors that say what was found instead.

use core::fmt;

/// The format that a file seems to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A known format, with its name.
    Known(&'static str),
    /// No known format: the file's first bytes, and how many of them there are.
    Unknown([u8; 4], usize),
}

impl fmt::Display for Found {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::Known(name) => out.write_str(name),
            Found::Unknown(_, 0) => out.write_str("nothing"),
            Found::Unknown(bytes, count) => {
                out.write_str("bytes")?;
                bytes.iter().take(*count).try_for_each(|byte| write!(out, " {byte:02x}"))
            }
        }
    }
}

/// Formats that someone might take for an image or an archive: their first bytes, and their names.
const KNOWN: [(&[u8], &str); 15] = [
    (b"\x1f\x8b", "gzip data"),
    (b"\xfd7zXZ\0", "xz data"),
    (b"\x28\xb5\x2f\xfd", "zstd data"),
    (b"\x02\x21\x4c\x18", "lz4 data"),
    (b"\x04\x22\x4d\x18", "lz4 data"),
    (b"BZh", "bzip2 data"),
    (b"\x5d\0\0", "lzma data"),
    (b"\x89LZO", "lzop data"),
    (b"\x27\x05\x19\x56", "a U-Boot uImage"),
    (b"\xd0\x0d\xfe\xed", "a device tree"),
    (b"070701", "a cpio archive"),
    (b"070702", "a cpio archive"),
    (b"070707", "a cpio archive of the old format"),
    (b"!<arch>", "an ar archive"),
    (b"\x7fELF", "an ELF file"),
];

/// Linux kernels for other architectures: the offset of their magic bytes, these bytes, and a name.
/// The bytes are x86's "HdrS" (Documentation/arch/x86/boot.rst), the magic number of a zImage, and
/// that of RISC-V's Image.
const KERNELS: [(usize, &[u8], &str); 3] = [
    (0x202, b"HdrS", "a Linux kernel for x86"),
    (0x24, &[0x18, 0x28, 0x6f, 0x01], "a Linux kernel for 32-bit Arm"),
    (0x38, b"RSC\x05", "a Linux kernel for RISC-V"),
];

/// Returns the format that a file with these `bytes` seems to have.
pub fn identify(bytes: &[u8]) -> Found {
    let has = |at: usize, magic: &[u8]| bytes.get(at..).is_some_and(|rest| rest.starts_with(magic));
    if let Some((.., name)) = KERNELS.iter().find(|(at, magic, _)| has(*at, magic)) {
        return Found::Known(name);
    }
    if let Some((_, name)) = KNOWN.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Found::Known(name);
    }
    if bytes.starts_with(b"MZ") {
        return Found::Known(match bytes.get(4..8) {
            Some(b"zimg") => "a compressed EFI image (zboot)",
            _ => "an EFI or DOS program",
        });
    }
    let count = bytes.len().min(4);
    let mut first = [0; 4];
    first[..count].copy_from_slice(&bytes[..count]);
    Found::Unknown(first, count)
}
