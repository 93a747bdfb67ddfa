//! The two inner loops, CRC-32C and the search for zero pages, as functions that can be replaced.
//!
//! This crate has portable ones. A caller with a CRC instruction or vector registers at hand passes
//! its own; the bytes of the file are the same.

use crc::{CRC_32_ISCSI, Crc, Table};

/// Bytes of a page. Memory is stored in pages of this size whatever the guest's own granule is.
pub const PAGE_SIZE: usize = 4096;

/// A page of guest memory.
pub type Page = [u8; PAGE_SIZE];

/// How to do what is done to every byte.
#[derive(Clone, Copy, Debug)]
pub struct Routines {
    /// The CRC-32C of a sequence that goes on with these bytes, from the CRC of what came before.
    ///
    /// The CRC of nothing is 0: `crc32c(crc32c(0, a), b)` is the CRC of `a` followed by `b`.
    pub crc32c: fn(u32, &[u8]) -> u32,
    /// Whether every byte of the page is 0.
    pub is_zero: fn(&Page) -> bool,
}

impl Default for Routines {
    fn default() -> Self {
        Self { crc32c, is_zero }
    }
}

static CRC32C: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// CRC-32C (Castagnoli) by table.
pub fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    // The crate wants the register's start value unreflected, before the final inversion.
    let mut digest = CRC32C.digest_with_initial((!crc).reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

/// Whether a page is zero, without vector registers.
///
/// One test for 128 bytes: a page that is not zero mostly shows it there.
pub fn is_zero(page: &Page) -> bool {
    const BLOCK: usize = 128;
    let (blocks, _) = page.as_chunks::<BLOCK>();
    blocks.iter().all(|block| {
        let (words, _) = block.as_chunks::<8>();
        words.iter().fold(0, |all, word| all | u64::from_le_bytes(*word)) == 0
    })
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
    fn a_page_with_one_bit_set_anywhere_is_not_zero() {
        let mut page = [0; PAGE_SIZE];
        assert!(is_zero(&page));
        for i in 0..PAGE_SIZE {
            page[i] = 1 << (i % 8);
            assert!(!is_zero(&page), "byte {i}");
            page[i] = 0;
        }
    }
}
