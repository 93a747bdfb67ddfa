//! Memory for what is read and written: [`buffer`].

use crate::error::Error;
use crate::layout::BLOCK;
use alloc::vec::Vec;
use core::fmt::{Debug, Display};

/// Returns a buffer of `len` zeros, or an error where an allocation of that size is too much to ask
/// for.
pub(crate) fn buffer<E: Display + Debug>(len: usize) -> Result<Vec<u8>, Error<E>> {
    static ZEROS: [u8; BLOCK] = [0; BLOCK];
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(len).map_err(|_| Error::OutOfMemory { bytes: len })?;
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
    use core::convert::Infallible;
    use std::vec;

    #[test]
    fn a_buffer_is_as_long_as_it_was_asked_for_and_zeros() {
        for len in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 32 * BLOCK] {
            let found: Result<Vec<u8>, Error<Infallible>> = buffer(len);
            assert_eq!(found.ok(), Some(vec![0; len]));
        }
    }
}
