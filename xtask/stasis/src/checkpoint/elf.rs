//! The parts that all ELF files have in common, to write them (elf(5)).

/// Bytes of the file's header.
pub const HEADER_LEN: usize = 64;
/// Bytes of a section's header.
pub const SECTION_LEN: usize = 64;
/// The value of e_ident: ELFCLASS64, ELFDATA2LSB, EV_CURRENT, ELFOSABI_NONE.
pub const LITTLE_ENDIAN_64: &[u8; 16] = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0";
/// The value of e_machine for AArch64.
pub const EM_AARCH64: u16 = 183;

/// A buffer for little-endian numbers, one after the other.
#[derive(Default)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    /// Appends bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Appends `len` bytes that are 0.
    pub fn zero(&mut self, len: usize) -> &mut Self {
        self.0.resize(self.0.len() + len, 0);
        self
    }

    /// Appends a number of two bytes.
    pub fn u16(&mut self, number: u16) -> &mut Self {
        self.bytes(&number.to_le_bytes())
    }

    /// Appends a number of four bytes.
    pub fn u32(&mut self, number: u32) -> &mut Self {
        self.bytes(&number.to_le_bytes())
    }

    /// Appends a number of eight bytes.
    pub fn u64(&mut self, number: u64) -> &mut Self {
        self.bytes(&number.to_le_bytes())
    }
}
