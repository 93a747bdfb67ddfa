//! The configuration of a device, as its driver reads it. VIRTIO 1.2, 5.

use crate::access::Width;

/// Bytes of the longest configuration.
pub(super) const LENGTH: usize = 64;

/// A configuration, of which the driver may read any part with any width.
#[derive(Clone, Copy, Debug)]
pub(super) struct Config {
    bytes: [u8; LENGTH],
    len: usize,
}

impl Config {
    /// Returns a configuration of `len` bytes, all 0.
    pub fn zeros(len: usize) -> Self {
        Self { bytes: [0; LENGTH], len: len.min(LENGTH) }
    }

    /// Sets the field at `offset`, as far as there is room.
    pub fn set(&mut self, offset: usize, value: &[u8]) {
        if let Some(field) = self.bytes.get_mut(offset..offset + value.len()) {
            field.copy_from_slice(value);
        }
    }

    /// Returns a number of `width` at `offset`. What is behind the end reads as ones, as of QEMU's
    /// transport.
    pub fn read(&self, offset: u64, width: Width) -> u64 {
        let mut value = [0xff; 8];
        for (at, byte) in (offset..).zip(&mut value[..width.bytes() as usize]) {
            *byte = usize::try_from(at)
                .ok()
                .filter(|at| *at < self.len)
                .map_or(0xff, |at| self.bytes[at]);
        }
        width.truncate(u64::from_le_bytes(value))
    }
}
