//! Page tables of VMSAv8-64 with the 4 KiB granule and 39-bit addresses: the EL2 stage 1, and the
//! guests' stage 2 (DDI 0487, D8). Both start at level 1, so one walker serves them.
//!
//! While a table is in use, entries are added to it, and writes to what an entry maps may become
//! [allowed](Translation::allow_writes). What goes further takes break-before-make, and is in
//! `protect`: writes are forbidden again, blocks become pages, and pages a block. When a guest is
//! removed, its whole translation is [cleared](Translation::clear), which is not in use any more.
//! RAM that is loaded while its guest runs is in `arrive`. Tables lie in memory that is mapped one
//! to one.
//!
//! The table walkers of all cores may read a table in use at any moment. So an entry is an atomic,
//! written by one store of one doubleword (DDI 0487, D8.2.4), and nobody holds an exclusive
//! reference to a table:
//!
//! | atomic | who writes | who reads | ordering |
//! |---|---|---|---|
//! | an entry | the owner of the [`Translation`], which it borrows mutably | walkers; the owner | a store that links a new table is a Release: whoever finds the table finds it empty. All others are Relaxed, for the caller's barrier (`dsb`) makes them seen before they are relied upon |

mod arrive;
mod attributes;
mod protect;
mod table;
#[cfg(test)]
mod tests;

pub use attributes::{Attributes, MAIR_DEVICE, MAIR_NORMAL};
use core::ptr::NonNull;
pub use protect::{Forget, Writable};
use table::{Entry, Level, OUTPUT_ADDRESS, ROOT_LEVEL, address_of, release_below};
pub use table::{Spares, Table, TableSource};

/// Bytes of a page.
pub const PAGE_SIZE: u64 = 4096;
/// Bits of an address that a translation translates.
pub const ADDRESS_BITS: u32 = 39;

/// Reason why a range could not be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// An address or the length is no multiple of 4096.
    Unaligned {
        /// Address in the translation.
        input: u64,
        /// Physical address.
        output: u64,
        /// Length of the range in bytes.
        len: u64,
    },
    /// The range ends beyond the addresses of [`ADDRESS_BITS`] bits.
    OutOfRange {
        /// First address past the range.
        end: u64,
    },
    /// An address of the range is mapped already.
    Mapped {
        /// Address in the translation that is mapped already.
        input: u64,
    },
    /// There is no memory for a table.
    OutOfMemory,
}

/// A translation: a tree of tables, which it owns.
#[derive(Debug)]
pub struct Translation {
    root: NonNull<Table>,
    /// Tables for blocks that will be split.
    spares: Spares,
    /// Blocks that are split now.
    split: usize,
}

// SAFETY: the translation owns its tables, which are mapped on every core, and whose entries are
// atomics. So it may move to another core.
unsafe impl Send for Translation {}

impl Translation {
    /// Returns a translation that maps nothing.
    ///
    /// # Errors
    ///
    /// [`MapError::OutOfMemory`] if there is no table for its root.
    pub fn new(tables: &mut impl TableSource) -> Result<Self, MapError> {
        let root = tables.allocate().ok_or(MapError::OutOfMemory)?;
        Ok(Self { root, spares: Spares::default(), split: 0 })
    }

    /// Returns the physical address of the first table, for TTBR0_EL2 or VTTBR_EL2.
    pub fn root(&self) -> u64 {
        address_of(self.root)
    }

    /// Maps `input..input + len` to the physical addresses from `output` on, in the largest blocks
    /// that the alignment allows.
    ///
    /// # Errors
    ///
    /// A [`MapError`] says why not all of the range could be mapped. A part of it may then be
    /// mapped.
    pub fn map(
        &mut self,
        tables: &mut impl TableSource,
        input: u64,
        output: u64,
        len: u64,
        attributes: Attributes,
    ) -> Result<(), MapError> {
        if (input | output | len) & (PAGE_SIZE - 1) != 0 {
            return Err(MapError::Unaligned { input, output, len });
        }
        let end = input.saturating_add(len);
        if end > 1 << ADDRESS_BITS {
            return Err(MapError::OutOfRange { end });
        }
        let mut done = 0;
        while done < len {
            done += self.map_block(tables, input + done, output + done, len - done, attributes)?;
        }
        Ok(())
    }

    /// Maps one block or page, and returns how many bytes it covers.
    fn map_block(
        &mut self,
        tables: &mut impl TableSource,
        input: u64,
        output: u64,
        len: u64,
        attributes: Attributes,
    ) -> Result<u64, MapError> {
        let mut level = self.first_level();
        loop {
            let entry = level.entry(input);
            let descriptor = entry.load();
            let size = entry.size();
            if descriptor == 0 && (input | output) & (size - 1) == 0 && len >= size {
                entry.map(output, attributes);
                return Ok(size);
            }
            level = match entry.next() {
                Some(next) => next,
                None if descriptor == 0 => entry.link(tables)?,
                None => return Err(MapError::Mapped { input }),
            };
        }
    }

    /// Makes the translation map nothing again. `forget` is called with its [root](Self::root) once
    /// all entries of that are invalid, and must make all cores drop their copies of the
    /// translation. After that no core can find a table but the root, and all others are given back
    /// to `tables`.
    ///
    /// # Safety
    ///
    /// 1. Every table of the translation came from `tables`: it was passed to [`new`](Self::new)
    ///    and to each [`map`](Self::map), or what was [stocked](Self::stock) came from it.
    /// 2. When `forget` returns, no core has a copy of any of the translation's entries, in a TLB
    ///    or in a walk that is under way, until something is mapped again.
    /// 3. No core needs what the translation maps.
    pub unsafe fn clear(&mut self, tables: &mut impl TableSource, forget: impl FnOnce(u64)) {
        let entries = || self.first_level().entries();
        entries().for_each(|entry| entry.invalidate());
        forget(self.root());
        for entry in entries() {
            // SAFETY: 1. The entry is the root's of this translation, whose tables came from
            // `tables`, by condition 1. 2. The entry was made invalid, and no core has a copy of it
            // or of what is below, by condition 2. `take` leaves 0 in the entry, so the tables
            // below are given back once.
            unsafe { release_below(tables, entry.take(), ROOT_LEVEL) };
        }
        self.split = 0;
        // SAFETY: the tables of this translation came from such a source, by condition 1.
        unsafe { core::mem::take(&mut self.spares).release(tables) };
    }

    /// Returns the physical address behind `input`, if it is mapped.
    pub fn translate(&self, input: u64) -> Option<u64> {
        let leaf = self.leaf(input)?;
        Some((leaf.load() & OUTPUT_ADDRESS) + (input & (leaf.size() - 1)))
    }

    /// Allows a guest's writes to the block or page of RAM that `input` lies in, if one is mapped
    /// there. A core that still has a copy of the old entry takes one more fault, and must drop the
    /// copy then.
    pub fn allow_writes(&mut self, input: u64) {
        if let Some(leaf) = self.leaf(input) {
            leaf.allow_writes();
        }
    }

    /// Returns the entry that maps `input`, if one does.
    fn leaf(&self, input: u64) -> Option<Entry<'_>> {
        let mut level = self.first_level();
        loop {
            let entry = level.entry(input);
            match entry.next() {
                Some(next) => level = next,
                None => return (entry.load() != 0).then_some(entry),
            }
        }
    }

    fn first_level(&self) -> Level<'_> {
        // SAFETY: 1. The root came from `allocate`, and is never released. 2. This module writes
        // its entries through `Entry` alone.
        unsafe { Level::first(self.root) }
    }
}
