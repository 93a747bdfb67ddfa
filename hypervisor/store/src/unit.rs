//! Packed units: up to 64 KiB of a checkpoint's contents, compressed into fewer blocks than they
//! have. [`Packer`] makes one, [`unpack`] reads it.
//!
//! A unit has no checksum: what is in it has those of the state format, over the bytes as they were
//! before. What can't be unpacked is damaged for certain, and what is unpacked is no more trusted
//! than a block that was read.

use crate::buffer::buffer;
use crate::error::Error;
use crate::layout::{BLOCK, METHOD_LZ4, UNIT_BLOCKS, UnitHeader};
use alloc::vec::Vec;
use core::fmt::{Debug, Display};
use lz4_flex::block::{
    CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size,
};
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of contents of a unit, at most.
pub(crate) const UNIT: usize = UNIT_BLOCKS as usize * BLOCK;

/// Bytes of a unit's header.
const HEADER: usize = size_of::<UnitHeader>();

/// Makes packed units, in memory that is taken once.
pub(crate) struct Packer {
    /// One table of 16 KiB.
    table: Vec<CompressTable>,
    /// The unit that was made last, and room for what grows when it is compressed.
    unit: Vec<u8>,
}

impl Packer {
    /// Returns a packer.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`].
    pub fn new<E: Display + Debug>() -> Result<Self, Error<E>> {
        let mut table = Vec::new();
        let bytes = size_of::<CompressTable>();
        table.try_reserve_exact(1).map_err(|_| Error::OutOfMemory { bytes })?;
        table.push(CompressTable::large());
        Ok(Self { table, unit: buffer(HEADER + get_maximum_output_size(UNIT))? })
    }

    /// Returns whole blocks as a packed unit, which is whole blocks, too; `None` if that saves
    /// none. There are [`UNIT`] bytes of contents at most.
    pub fn pack(&mut self, contents: &[u8]) -> Option<&[u8]> {
        let blocks = contents.len() / BLOCK;
        let table = self.table.first_mut()?;
        if !(2..=UNIT_BLOCKS as usize).contains(&blocks) {
            return None;
        }
        let packed =
            compress_into_with_table(contents, self.unit.get_mut(HEADER..)?, table).ok()?;
        let (used, whole) = (HEADER + packed, (HEADER + packed).next_multiple_of(BLOCK));
        if whole >= contents.len() {
            return None;
        }
        // Less than 15 blocks, of 16.
        let header =
            UnitHeader { length: (packed as u16).into(), blocks: blocks as u8, method: METHOD_LZ4 };
        let unit = self.unit.get_mut(..whole)?;
        unit[..HEADER].copy_from_slice(header.as_bytes());
        unit[used..].fill(0);
        Some(unit)
    }
}

impl Debug for Packer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Packer")
    }
}

/// Unpacks a unit into `contents`, which has room for [`UNIT`] bytes. Returns how many bytes there
/// are; `None` if the unit is damaged.
pub(crate) fn unpack(unit: &[u8], contents: &mut [u8]) -> Option<usize> {
    let (UnitHeader { length, blocks, method }, rest) = UnitHeader::read_from_prefix(unit).ok()?;
    let packed = rest.get(..usize::from(length.get()))?;
    let contents = contents.get_mut(..usize::from(blocks) * BLOCK)?;
    let is_it = method == METHOD_LZ4
        && (2..=UNIT_BLOCKS).contains(&blocks.into())
        && unit.len() < contents.len()
        && (HEADER + packed.len()).next_multiple_of(BLOCK) == unit.len();
    let done = decompress_into(packed, contents).ok().filter(|_| is_it)?;
    (done == contents.len()).then_some(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::convert::Infallible;
    use proptest::prelude::*;

    fn packer() -> Packer {
        Packer::new::<Infallible>().unwrap()
    }

    fn unpacked(unit: &[u8]) -> Option<Vec<u8>> {
        let mut contents = alloc::vec![0xa5; UNIT];
        let len = unpack(unit, &mut contents)?;
        contents.truncate(len);
        Some(contents)
    }

    /// Returns bytes that shrink, and differ from block to block.
    fn text(blocks: usize) -> Vec<u8> {
        (0..blocks * BLOCK).map(|at| (at / 97 % 11 * (at / BLOCK)) as u8).collect()
    }

    #[test]
    fn what_shrinks_is_unpacked_as_it_was() {
        let mut packer = packer();
        for blocks in 2..=16 {
            let contents = text(blocks);
            let unit = packer.pack(&contents).unwrap();
            assert!(unit.len() < contents.len() && unit.len().is_multiple_of(BLOCK));
            assert!(unpacked(unit).unwrap() == contents, "{blocks} blocks");
        }
    }

    #[test]
    fn what_saves_no_block_is_not_packed() {
        let mut random = 1_u64;
        let noise: Vec<u8> = (0..UNIT)
            .map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (random >> 56) as u8
            })
            .collect();
        let mut packer = packer();
        assert!(packer.pack(&noise).is_none());
        assert!(packer.pack(&text(1)).is_none());
        assert!(packer.pack(&[]).is_none());
        assert!(packer.pack(&text(17)).is_none());
    }

    #[test]
    fn a_unit_that_is_cut_short_or_too_long_is_damaged() {
        let mut packer = packer();
        let unit = packer.pack(&text(16)).unwrap().to_vec();
        assert!(unpacked(&unit[..unit.len() - BLOCK]).is_none());
        assert!(unpacked(&[&unit[..], &[0; BLOCK]].concat()).is_none());
        for (at, byte) in [(0, 7), (2, 0), (2, 1), (2, 15), (2, 17), (3, 0), (3, 2)] {
            let mut forged = unit.clone();
            forged[at] = byte;
            assert!(unpacked(&forged).is_none(), "byte {at} as {byte}");
        }
        assert!(unpacked(&[]).is_none());
    }

    proptest! {
        /// Whatever is in a unit, unpacking it ends, and writes nothing but its contents.
        #[test]
        fn a_forged_unit_hurts_nobody(
            blocks in 0_u8..=255,
            mut bytes in prop::collection::vec(any::<u8>(), BLOCK),
            changes in prop::collection::vec((0..BLOCK, any::<u8>()), 0..20),
            is_changed in any::<bool>(),
        ) {
            if is_changed {
                bytes = packer().pack(&text(3)).unwrap()[..BLOCK].to_vec();
                changes.iter().for_each(|(at, byte)| bytes[*at] = *byte);
            } else {
                bytes[1] &= 0x0f;
                (bytes[2], bytes[3]) = (blocks, METHOD_LZ4);
            }
            let len = unpacked(&bytes).map_or(0, |contents| contents.len());
            prop_assert!(len <= UNIT);
        }
    }
}
