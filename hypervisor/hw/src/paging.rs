//! Page tables of VMSAv8-64 with the 4 KiB granule and 39-bit addresses: the EL2 stage 1, and the
//! guests' stage 2 (DDI 0487, D8). Both start at level 1, so one walker serves them.
//!
//! A table is only ever added to: where a range leads never changes while it is in use, which would
//! take break-before-make; but writes to it may become [allowed](Translation::allow_writes). A guest
//! that is removed has its whole translation [cleared](Translation::clear), which is not in use any
//! more. Tables lie in memory that is mapped one to one.

mod attributes;
#[cfg(test)]
mod tests;

use attributes::STAGE2;
pub use attributes::{Attributes, MAIR_DEVICE, MAIR_NORMAL};
use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};
use tock_registers::register_bitfields;

/// Bytes of a page.
pub const PAGE_SIZE: u64 = 4096;
/// Bits of an address that a table translates.
pub const ADDRESS_BITS: u32 = 39;

const ENTRIES: usize = 512;
const LAST_LEVEL: u32 = 3;
const OUTPUT_ADDRESS: u64 = 0x0000_ffff_ffff_f000;

register_bitfields! { u64,
    /// What all descriptors share, D8.3.
    DESCRIPTOR [
        VALID OFFSET(0) NUMBITS(1) [],
        /// Levels 1 and 2: a table; level 3: a page.
        TABLE_OR_PAGE OFFSET(1) NUMBITS(1) []
    ]
}

/// One table of descriptors.
#[repr(C, align(4096))]
pub struct Table([u64; ENTRIES]);

impl Table {
    /// A table that maps nothing.
    pub const EMPTY: Self = Self([0; ENTRIES]);
}

/// Where tables come from.
///
/// # Safety
///
/// `allocate` must return a [`Table::EMPTY`] that nothing else uses, at a physical address equal to
/// its virtual one, and that stays valid for as long as the translation that it is given to.
pub unsafe trait TableSource {
    /// A fresh table, or nothing when memory is out.
    fn allocate(&mut self) -> Option<NonNull<Table>>;

    /// Takes a table back.
    ///
    /// # Safety
    ///
    /// It came from `allocate`, once, and nobody uses it any more: no table refers to it, and no core remembers that one did.
    unsafe fn release(&mut self, table: NonNull<Table>);
}

/// Why a range could not be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// An address or the length is no multiple of 4096.
    Unaligned {
        /// The address in the translation.
        input: u64,
        /// The physical address.
        output: u64,
        /// Bytes.
        len: u64,
    },
    /// The range ends beyond [`ADDRESS_BITS`].
    OutOfRange {
        /// The first address past it.
        end: u64,
    },
    /// Something is mapped there already.
    Mapped {
        /// The address that is.
        input: u64,
    },
    /// No memory for a table.
    OutOfMemory,
}

/// A translation.
#[derive(Debug)]
pub struct Translation {
    root: NonNull<Table>,
}

// SAFETY: the tables belong to the translation alone; the table walker reads them on any core.
unsafe impl Send for Translation {}

impl Translation {
    /// A translation that maps nothing.
    pub fn new(tables: &mut impl TableSource) -> Result<Self, MapError> {
        Ok(Self { root: tables.allocate().ok_or(MapError::OutOfMemory)? })
    }

    /// The physical address of the first table, for TTBR0_EL2 or VTTBR_EL2.
    pub fn root(&self) -> u64 {
        self.root.as_ptr() as u64
    }

    /// Maps `input..input + len` to `output`, in the largest blocks that the alignment allows.
    ///
    /// # Errors
    ///
    /// [`MapError`]; a part of the range may then be mapped.
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

    /// Maps one block or page and says how many bytes it covers.
    fn map_block(
        &mut self,
        tables: &mut impl TableSource,
        input: u64,
        output: u64,
        len: u64,
        attributes: Attributes,
    ) -> Result<u64, MapError> {
        let mut table = self.root;
        for level in 1..=LAST_LEVEL {
            // SAFETY: 1. `table` is the root or was taken from a table descriptor, both of which came
            // from a `TableSource` and are used by this translation alone, which is borrowed mutably.
            // 2. The walker may read it meanwhile, but each store is one aligned doubleword.
            let entry = unsafe { &mut table.as_mut().0[index(input, level)] };
            let size = block_size(level);
            if *entry == 0 && (input | output) & (size - 1) == 0 && len >= size {
                let kind = if level == LAST_LEVEL {
                    DESCRIPTOR::TABLE_OR_PAGE::SET
                } else {
                    DESCRIPTOR::TABLE_OR_PAGE::CLEAR
                };
                *entry = output | attributes.bits() | (kind + DESCRIPTOR::VALID::SET).value;
                return Ok(size);
            }
            if *entry == 0 && level < LAST_LEVEL {
                let next = tables.allocate().ok_or(MapError::OutOfMemory)?;
                // Whoever finds the table finds it empty.
                fence(Ordering::Release);
                *entry = next.as_ptr() as u64
                    | (DESCRIPTOR::TABLE_OR_PAGE::SET + DESCRIPTOR::VALID::SET).value;
            } else if level == LAST_LEVEL || !DESCRIPTOR::TABLE_OR_PAGE.is_set(*entry) {
                return Err(MapError::Mapped { input });
            }
            table = next_table(*entry);
        }
        unreachable!("the last level maps a page or returns an error")
    }

    /// Has it map nothing again. `forget` has all cores forget what they have kept of it, by its [root](Self::root); after that
    /// nobody can find a table but the root, and they go back.
    pub fn clear(&mut self, tables: &mut impl TableSource, forget: impl FnOnce(u64)) {
        // SAFETY: as in `map_block`.
        let root = unsafe { &mut self.root.as_mut().0 };
        for entry in root.iter_mut() {
            *entry &= !DESCRIPTOR::VALID::SET.value;
        }
        forget(self.root.as_ptr() as u64);
        for entry in root.iter_mut().filter(|entry| **entry != 0) {
            release_below(tables, *entry, 1);
            *entry = 0;
        }
    }

    /// The physical address behind `input`, if it is mapped.
    pub fn translate(&self, input: u64) -> Option<u64> {
        let (entry, level) = self.leaf(input)?;
        // SAFETY: as in `map_block`; the translation is borrowed, so nothing writes the table.
        let entry = unsafe { entry.read() };
        Some((entry & OUTPUT_ADDRESS) + (input & (block_size(level) - 1)))
    }

    /// Allows a guest's writes to the block or page of RAM that `input` lies in, if one is mapped there. A core that has kept the
    /// entry as it was has the guest fault once more, and must forget it then.
    pub fn allow_writes(&mut self, input: u64) {
        if let Some((entry, _)) = self.leaf(input) {
            // SAFETY: as in `map_block`.
            unsafe { entry.write(entry.read() | STAGE2::S2AP::ReadWrite.value) };
        }
    }

    /// The entry that maps `input`, and its level.
    fn leaf(&self, input: u64) -> Option<(NonNull<u64>, u32)> {
        let mut table = self.root;
        for level in 1..=LAST_LEVEL {
            // SAFETY: as in `map_block`; nothing writes the table meanwhile, as the translation is borrowed.
            let entry = NonNull::from(unsafe { &mut table.as_mut().0[index(input, level)] });
            // SAFETY: as before.
            let value = unsafe { entry.read() };
            if value == 0 {
                return None;
            }
            if level == LAST_LEVEL || !DESCRIPTOR::TABLE_OR_PAGE.is_set(value) {
                return Some((entry, level));
            }
            table = next_table(value);
        }
        None
    }
}

/// Gives back the tables below an entry of a table of `level`, which nobody can find any more.
fn release_below(tables: &mut impl TableSource, entry: u64, level: u32) {
    if level == LAST_LEVEL || !DESCRIPTOR::TABLE_OR_PAGE.is_set(entry) {
        return;
    }
    let mut table = next_table(entry);
    // SAFETY: the entry refers to a table that this translation was given, and nobody but its owner has it.
    let entries = unsafe { table.as_mut().0 };
    for entry in entries.into_iter().filter(|entry| *entry != 0) {
        release_below(tables, entry, level + 1);
    }
    // SAFETY: 1. It came from `allocate`. 2. Its only reference is dropped by the caller, who says that nobody can follow it.
    unsafe { tables.release(table) };
}

fn next_table(entry: u64) -> NonNull<Table> {
    NonNull::new((entry & OUTPUT_ADDRESS) as *mut Table).expect("no table lies at address 0")
}

/// Bytes that one entry covers: 1 GiB, 2 MiB, 4 KiB.
const fn block_size(level: u32) -> u64 {
    PAGE_SIZE << (9 * (LAST_LEVEL - level))
}

const fn index(input: u64, level: u32) -> usize {
    (input / block_size(level)) as usize % ENTRIES
}
