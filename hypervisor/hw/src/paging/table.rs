//! One table of a translation, its entries, the source of tables, and tables that are kept for
//! later.

use super::attributes::STAGE2;
use super::{Attributes, MapError, PAGE_SIZE};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use tock_registers::register_bitfields;

pub(super) const ENTRIES: usize = 512;
pub(super) const ROOT_LEVEL: u32 = 1;
pub(super) const LAST_LEVEL: u32 = 3;
pub(super) const OUTPUT_ADDRESS: u64 = 0x0000_ffff_ffff_f000;

register_bitfields! { u64,
    /// Fields that all descriptors share, D8.3.
    pub(super) DESCRIPTOR [
        VALID OFFSET(0) NUMBITS(1) [],
        /// Levels 1 and 2: a table; level 3: a page.
        TABLE_OR_PAGE OFFSET(1) NUMBITS(1) []
    ]
}

/// One table of descriptors. The entries are atomics, since the walkers of cores read them at any
/// moment.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct Table(pub(super) [AtomicU64; ENTRIES]);

const _: () = assert!(size_of::<Table>() == PAGE_SIZE as usize);

impl Table {
    /// Returns a table that maps nothing.
    pub const fn empty() -> Self {
        Self([const { AtomicU64::new(0) }; ENTRIES])
    }
}

/// Source of memory for tables.
///
/// # Safety
///
/// `allocate` returns an [empty table](Table::empty) that nothing else uses, at a physical address
/// equal to its virtual one, and that stays valid until it is released.
pub unsafe trait TableSource {
    /// Returns a fresh table, or `None` when there is no memory.
    fn allocate(&mut self) -> Option<NonNull<Table>>;

    /// Takes a table back.
    ///
    /// # Safety
    ///
    /// 1. `table` came from `allocate`, and was not released since.
    /// 2. Nobody uses it any more: no table refers to it, and no core remembers that one did.
    unsafe fn release(&mut self, table: NonNull<Table>);
}

/// A table and its level. The [`Translation`](super::Translation) that owns it is borrowed for 't.
pub(super) struct Level<'t> {
    table: &'t Table,
    level: u32,
}

impl<'t> Level<'t> {
    /// Returns the first level of a translation.
    ///
    /// # Safety
    ///
    /// 1. `root` came from `allocate`, and is not released for 't. 2. Its entries were written
    ///    through [`Entry`] alone.
    pub(super) unsafe fn first(root: NonNull<Table>) -> Self {
        // SAFETY: 1. `root` is an initialised table, one to one, for 't, by condition 1. 2. All its
        // entries are atomics, and nobody has an exclusive reference to it.
        Self { table: unsafe { root.as_ref() }, level: ROOT_LEVEL }
    }

    /// Returns the entry that `input` is looked up in.
    pub(super) fn entry(&self, input: u64) -> Entry<'t> {
        Entry { descriptor: &self.table.0[index(input, self.level)], level: self.level }
    }

    /// Returns the entry with this number, below 512.
    pub(super) fn nth(&self, number: usize) -> Entry<'t> {
        Entry { descriptor: &self.table.0[number % ENTRIES], level: self.level }
    }

    /// Returns all entries of the table.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry<'t>> + use<'t> {
        let level = self.level;
        self.table.0.iter().map(move |descriptor| Entry { descriptor, level })
    }
}

/// An entry and the level of its table. The [`Translation`](super::Translation) that owns it is
/// borrowed for 't.
pub(super) struct Entry<'t> {
    descriptor: &'t AtomicU64,
    level: u32,
}

impl<'t> Entry<'t> {
    /// Returns the descriptor, 0 if it maps nothing.
    pub(super) fn load(&self) -> u64 {
        self.descriptor.load(Ordering::Relaxed)
    }

    /// Returns the number of bytes that the entry covers.
    pub(super) fn size(&self) -> u64 {
        block_size(self.level)
    }

    /// Returns the table that the entry refers to; `None` if it maps a block or a page, or nothing.
    pub(super) fn next(&self) -> Option<Level<'t>> {
        let table = next_table(self.load(), self.level)?;
        // SAFETY: 1. Only `link` writes a table descriptor, and its table came from `allocate`,
        // initialised and one to one. 2. The table stays until `clear` takes its descriptor out of
        // the tree. `clear` borrows the translation mutably, which is borrowed for 't here. 3. All
        // of the table are atomics, and nobody has an exclusive reference to it.
        Some(Level { table: unsafe { table.as_ref() }, level: self.level + 1 })
    }

    /// Makes the entry map the block or page at `output`.
    pub(super) fn map(&self, output: u64, attributes: Attributes) {
        let kind = if self.level == LAST_LEVEL {
            DESCRIPTOR::TABLE_OR_PAGE::SET
        } else {
            DESCRIPTOR::TABLE_OR_PAGE::CLEAR
        };
        let descriptor = output | attributes.bits() | (kind + DESCRIPTOR::VALID::SET).value;
        self.descriptor.store(descriptor, Ordering::Relaxed);
    }

    /// Allows writes to the RAM of a guest that the entry maps.
    pub(super) fn allow_writes(&self) {
        self.descriptor.fetch_or(STAGE2::S2AP::ReadWrite.value, Ordering::Relaxed);
    }

    /// Does what [`Self::allow_writes`] says, if the entry maps anything.
    pub(super) fn allow_writes_to_mapped(&self) {
        if self.load() != 0 {
            self.allow_writes();
        }
    }

    /// Forbids writes to the RAM of a guest that the entry maps.
    pub(super) fn forbid_writes(&self) {
        let write = STAGE2::S2AP::ReadWrite.value & !STAGE2::S2AP::ReadOnly.value;
        // Nobody else writes the entry: walkers only read it.
        self.descriptor.store(self.load() & !write, Ordering::Relaxed);
    }

    /// Makes the entry, which is invalid, and maps a page, valid again, and map the page at
    /// `output`.
    pub(super) fn lead_to(&self, output: u64) {
        let attributes = self.load() & !OUTPUT_ADDRESS;
        let descriptor = attributes | output | DESCRIPTOR::VALID::SET.value;
        self.descriptor.store(descriptor, Ordering::Relaxed);
    }

    /// Fills `pages` with pages that map what the entry, a block of level 2, maps, with its
    /// attributes.
    pub(super) fn fill(&self, pages: &Pages) {
        pages.fill_from(self.load() | DESCRIPTOR::TABLE_OR_PAGE::SET.value);
    }

    /// Makes the entry, which is invalid, refer to a table of pages.
    pub(super) fn refer_to(&self, pages: Pages) {
        let kind = DESCRIPTOR::TABLE_OR_PAGE::SET + DESCRIPTOR::VALID::SET;
        self.descriptor.store(address_of(pages.0) | kind.value, Ordering::Release);
    }

    /// Makes the entry, which referred to a table that was [filled](Self::fill) and is invalid for
    /// walkers, the block of which these pages are. Returns the table.
    ///
    /// # Safety
    ///
    /// No core has a copy of what the entry was before it became invalid.
    pub(super) unsafe fn join(&self, allow_writes: bool) -> Option<Pages> {
        let pages = next_table(self.load(), self.level)?;
        // SAFETY: 1. Only `link` and `refer_to` write a table descriptor, and both write that of an
        // initialised table, one to one. 2. The table is released or filled again only by who owns
        // the result. 3. All its entries are atomics. The reference ends with this statement.
        let first = unsafe { pages.as_ref() }.0[0].load(Ordering::Relaxed);
        let access = if allow_writes { STAGE2::S2AP::ReadWrite } else { STAGE2::S2AP::ReadOnly };
        let page = DESCRIPTOR::TABLE_OR_PAGE::SET.value | STAGE2::S2AP::ReadWrite.value;
        // One store: a core may look the entry up at once, and keep what it finds.
        self.descriptor.store(first & !page | access.value, Ordering::Relaxed);
        Some(Pages(pages))
    }

    /// Makes the entry, which is invalid for walkers, map nothing. Returns the table of pages that
    /// it referred to, if it did.
    ///
    /// # Safety
    ///
    /// No core has a copy of what the entry was before it became invalid.
    pub(super) unsafe fn take_pages(&self) -> Option<Pages> {
        // The table is released or filled again only by who owns the result: the entry does not
        // refer to it any more.
        next_table(self.take(), self.level).map(Pages)
    }

    /// Makes the entry invalid for walkers. Its other bits stay, for [`take`](Self::take).
    pub(super) fn invalidate(&self) {
        self.descriptor.fetch_and(!DESCRIPTOR::VALID::SET.value, Ordering::Relaxed);
    }

    /// Makes the entry map nothing, and returns the descriptor that it had.
    pub(super) fn take(&self) -> u64 {
        self.descriptor.swap(0, Ordering::Relaxed)
    }

    /// Makes the entry, which is not of the last level, refer to a fresh table, and returns that
    /// table.
    pub(super) fn link(&self, tables: &mut impl TableSource) -> Result<Level<'t>, MapError> {
        let table = tables.allocate().ok_or(MapError::OutOfMemory)?;
        let kind = DESCRIPTOR::TABLE_OR_PAGE::SET + DESCRIPTOR::VALID::SET;
        self.descriptor.store(address_of(table) | kind.value, Ordering::Release);
        // SAFETY: 1. The table came from `allocate`, initialised and one to one. 2. It stays until
        // `clear` takes its descriptor out of the tree. `clear` borrows the translation mutably,
        // which is borrowed for 't here. 3. All of the table are atomics, and nobody has an
        // exclusive reference to it.
        Ok(Level { table: unsafe { table.as_ref() }, level: self.level + 1 })
    }
}

/// A table of the last level that no other table refers to, and no core remembers. Whoever has it
/// owns the table.
pub(super) struct Pages(NonNull<Table>);

impl Pages {
    /// Returns a fresh table; `None` if there is no memory.
    pub(super) fn allocate(tables: &mut impl TableSource) -> Option<Self> {
        tables.allocate().map(Self)
    }

    /// Makes the table map nothing.
    pub(super) fn clear(&self) {
        self.entries().iter().for_each(|entry| entry.store(0, Ordering::Relaxed));
    }

    /// Makes the table map the block at `output`, page by page.
    pub(super) fn fill(&self, output: u64, attributes: Attributes) {
        let kind = DESCRIPTOR::TABLE_OR_PAGE::SET + DESCRIPTOR::VALID::SET;
        self.fill_from(output | attributes.bits() | kind.value);
    }

    /// Writes all entries: the descriptor of the first page, and those of the pages behind it.
    fn fill_from(&self, mut descriptor: u64) {
        for entry in self.entries() {
            entry.store(descriptor, Ordering::Relaxed);
            descriptor += PAGE_SIZE;
        }
    }

    /// Makes the entry with this number, which maps a page, map the page at `output`.
    pub(super) fn lead_to(&self, number: usize, output: u64) {
        let entry = &self.entries()[number % ENTRIES];
        let attributes = entry.load(Ordering::Relaxed) & !OUTPUT_ADDRESS;
        entry.store(attributes | output, Ordering::Relaxed);
    }

    fn entries(&self) -> &[AtomicU64; ENTRIES] {
        // SAFETY: 1. The table came from `allocate`, initialised and one to one, and is released by
        // whoever takes `self` apart. 2. All its entries are atomics, and nobody has an exclusive
        // reference to it.
        unsafe { &self.0.as_ref().0 }
    }
}

/// Tables for blocks that will be split into pages. Each has the address of the next one in its
/// first entry, so they take no memory besides.
///
/// The tables are lost if this is dropped: whoever has them [gives them to a
/// translation](super::Translation::stock), or [releases](Self::release) them.
#[derive(Debug, Default)]
pub struct Spares {
    first: Option<NonNull<Table>>,
    count: usize,
}

impl Spares {
    /// Returns how many tables these are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Adds a fresh table.
    ///
    /// # Errors
    ///
    /// [`MapError::OutOfMemory`] if `tables` has none.
    pub fn add(&mut self, tables: &mut impl TableSource) -> Result<(), MapError> {
        self.push(Pages::allocate(tables).ok_or(MapError::OutOfMemory)?);
        Ok(())
    }

    /// Adds the tables of `others`.
    pub(super) fn append(&mut self, mut others: Self) {
        if self.first.is_none() {
            *self = others;
            return;
        }
        while let Some(pages) = others.pop() {
            self.push(pages);
        }
    }

    /// Gives all tables back.
    ///
    /// # Safety
    ///
    /// The tables came from such a source as `tables`.
    pub unsafe fn release(mut self, tables: &mut impl TableSource) {
        while let Some(pages) = self.pop() {
            // SAFETY: 1. The table came from such a source, by the condition, and was not released:
            // then there would be no `Pages`. 2. No table refers to it and no core remembers it, as
            // `Pages` says.
            unsafe { tables.release(pages.0) };
        }
    }

    /// Adds a table.
    pub(super) fn push(&mut self, pages: Pages) {
        let next = self.first.map_or(0, address_of);
        pages.entries()[0].store(next, Ordering::Relaxed);
        self.first = Some(pages.0);
        self.count += 1;
    }

    /// Takes a table out; `None` if there is none.
    pub(super) fn pop(&mut self) -> Option<Pages> {
        let pages = Pages(self.first?);
        let next = pages.entries()[0].load(Ordering::Relaxed) as usize;
        self.first = NonNull::new(core::ptr::with_exposed_provenance_mut(next));
        self.count -= 1;
        Some(pages)
    }
}

/// Returns the table that a descriptor of a table of `level` refers to; `None` if it maps a block
/// or a page, or nothing.
fn next_table(descriptor: u64, level: u32) -> Option<NonNull<Table>> {
    if level == LAST_LEVEL || !DESCRIPTOR::TABLE_OR_PAGE.is_set(descriptor) {
        return None;
    }
    let address = (descriptor & OUTPUT_ADDRESS) as usize;
    NonNull::new(core::ptr::with_exposed_provenance_mut(address))
}

/// Gives back the tables below an entry of a table of `level` that had `descriptor`.
///
/// # Safety
///
/// 1. `descriptor` was an entry of a translation whose tables came from `tables`.
/// 2. No table refers to what is below it any more, and no core remembers that one did; nobody else
///    gives it back.
pub(super) unsafe fn release_below(tables: &mut impl TableSource, descriptor: u64, level: u32) {
    let Some(table) = next_table(descriptor, level) else {
        return;
    };
    for index in 0..ENTRIES {
        // SAFETY: 1. The table came from `allocate`, by condition 1, so it is initialised and one
        // to one. 2. It was not released yet: that happens below, and nobody else does it, by
        // condition 2. The reference ends with this statement.
        let below = unsafe { table.as_ref() }.0[index].load(Ordering::Relaxed);
        // SAFETY: 1. `below` was an entry of a table of the same translation. 2. Only that table
        // referred to what is below, and no other table or core refers to that table any more, by
        // condition 2; it is given back below, once.
        unsafe { release_below(tables, below, level + 1) };
    }
    // SAFETY: 1. The table came from `allocate`, by condition 1, and is released once, by
    // condition 2. 2. No table refers to it, and no core remembers that one did, by condition 2.
    unsafe { tables.release(table) };
}

/// Returns the physical address of a table, which is its virtual one.
pub(super) fn address_of(table: NonNull<Table>) -> u64 {
    table.as_ptr().expose_provenance() as u64
}

/// Returns the bytes that one entry of a table of `level` covers: 1 GiB, 2 MiB or 4 KiB.
pub(super) const fn block_size(level: u32) -> u64 {
    PAGE_SIZE << (9 * (LAST_LEVEL - level))
}

/// Returns the number of the entry that `input` is looked up in, in a table of `level`.
pub(super) const fn index(input: u64, level: u32) -> usize {
    (input / block_size(level)) as usize % ENTRIES
}
