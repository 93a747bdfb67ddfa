//! The inner loops: CRC-32C, as a function that can be replaced, and the search for zero pages.
//!
//! This crate has portable versions of both. A caller that can use a CRC instruction passes its own
//! [`Routines`] for the headers and the registers; for the guest's memory, the owner of that memory
//! has its own ([`crate::ram`]). The bytes of the file are the same.
//!
//! To read a whole guest takes long. So its bytes are read in pieces, and the reader or the writer
//! may pause between two.

use crc::{CRC_32_ISCSI, Crc, Table};
use zerocopy::FromBytes;

/// Bytes of a page: 4096. A checkpoint stores memory in pages of this size, whatever granule the
/// guest itself uses.
pub const PAGE_SIZE: usize = 4096;

/// A page of guest memory.
pub type Page = [u8; PAGE_SIZE];

/// The functions that are applied to every byte of a file.
#[derive(Clone, Copy, Debug)]
pub struct Routines {
    /// Returns the CRC-32C of a sequence that continues with these bytes, from the CRC of the bytes
    /// before them.
    ///
    /// The CRC of nothing is 0: `crc32c(crc32c(0, a), b)` is the CRC of `a` followed by `b`.
    pub crc32c: fn(u32, &[u8]) -> u32,
}

impl Default for Routines {
    fn default() -> Self {
        Self { crc32c }
    }
}

/// Bytes that are read between two pauses.
pub(crate) const PIECE: usize = 32 << 10;

static CRC32C: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISCSI);

/// Returns the CRC-32C (Castagnoli) of a sequence that continues with `bytes`, from the CRC of the
/// bytes before them, which is 0 at first. Looks it up in a table of 1 KiB: tables that are faster
/// take 16 KiB of the image, and most CPUs have an instruction.
pub fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    // The crate wants the register's start value unreflected, before the final inversion.
    let mut digest = CRC32C.digest_with_initial((!crc).reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

/// Returns which of these pages, 64 at most, have a byte that is not 0: one bit for each, the
/// lowest for the first. Uses no vector registers.
pub fn with_content(pages: &[Page]) -> u64 {
    pages.iter().zip(0..).fold(0, |map, (page, bit)| map | u64::from(!is_zero(page)) << bit)
}

/// Returns whether every byte of the page is 0.
///
/// An aligned page, which guest memory always is, is read through a reference to words. For a
/// target that may not load unaligned words, the compiler would otherwise read single bytes.
fn is_zero(page: &Page) -> bool {
    /// Words between two tests. A page that is not zero mostly shows it in the first block.
    const BLOCK: usize = 32;
    match <[[u64; BLOCK]; PAGE_SIZE / 8 / BLOCK]>::ref_from_bytes(page) {
        Ok(blocks) => blocks.iter().all(|block| block.iter().fold(0, |all, word| all | word) == 0),
        Err(_) => page.iter().all(|&byte| byte == 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_is_the_castagnoli_crc_and_can_be_continued() {
        assert_eq!(crc32c(0, b""), 0);
        assert_eq!(crc32c(0, b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(crc32c(0, b"1234"), b"56789"), 0xe306_9283);
    }

    #[test]
    fn each_page_with_content_has_its_bit() {
        let mut pages = [[0; PAGE_SIZE]; 64];
        assert_eq!(with_content(&pages), 0);
        for page in [0, 1, 40, 63] {
            pages[page][PAGE_SIZE - 1] = 1;
        }
        assert_eq!(with_content(&pages), 1 | 1 << 1 | 1 << 40 | 1 << 63);
        assert_eq!(with_content(&pages[1..3]), 1);
        assert_eq!(with_content(&[]), 0);
    }

    #[test]
    fn a_page_with_one_bit_set_anywhere_is_not_zero() {
        let mut memory = [0; PAGE_SIZE + 8];
        for start in 0..8 {
            let page: &mut Page = (&mut memory[start..start + PAGE_SIZE]).try_into().unwrap();
            assert!(is_zero(page));
            for i in 0..PAGE_SIZE {
                page[i] = 1 << (i % 8);
                assert!(!is_zero(page), "byte {i}");
                page[i] = 0;
            }
        }
    }
}
