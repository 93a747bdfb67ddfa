//! CRC-32C, for devices whose machine has nothing faster.

use crc::{CRC_32_ISCSI, Crc, Table};

static CRC32C: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISCSI);

/// Returns the CRC-32C of bytes, each of which it looks up in a table.
pub fn crc32c(bytes: &[u8]) -> u32 {
    CRC32C.checksum(bytes)
}
