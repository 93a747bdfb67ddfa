//! Memory for what is read and written: [`buffer`].

use crate::layout::BLOCK;
use alloc::vec::Vec;

/// The heap has no room for a buffer of this many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfMemory {
    pub(crate) bytes: usize,
}

/// Returns a buffer of `len` zeros, or an error where an allocation of that size is too much to ask
/// for.
pub(crate) fn buffer(len: usize) -> Result<Vec<u8>, OutOfMemory> {
    static ZEROS: [u8; BLOCK] = [0; BLOCK];
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(len).map_err(|_| OutOfMemory { bytes: len })?;
    // Copy zeros: this crate is built for size, and there `resize` writes them byte by byte, by six
    // instructions for each.
    while buffer.len() < len {
        buffer.extend_from_slice(&ZEROS[..BLOCK.min(len - buffer.len())]);
    }
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    #[test]
    fn a_buffer_is_as_long_as_it_was_asked_for_and_zeros() {
        for len in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 32 * BLOCK] {
            assert_eq!(buffer(len), Ok(vec![0; len]));
        }
    }
}
