//! Page tables on the heap.

use alloc::alloc::{alloc, dealloc};
use core::alloc::Layout;
use core::ptr::NonNull;
use stasis_hw::paging::{Table, TableSource};

/// Source of page tables: the heap, which is mapped one to one.
pub struct HeapTables;

// SAFETY: `allocate` writes an empty table to a block of the heap, which nobody else has, which is mapped one to one, and which is valid until
// `release` frees it.
unsafe impl TableSource for HeapTables {
    fn allocate(&mut self) -> Option<NonNull<Table>> {
        // SAFETY: the layout of a table has a size that is not 0.
        let block = unsafe { alloc(Layout::new::<Table>()) }.cast::<Table>();
        let table = NonNull::new(block)?;
        // SAFETY: `alloc` returned the block, so it is valid for writes, large enough and aligned, and nobody else has it.
        unsafe { table.write(Table::empty()) };
        Some(table)
    }

    unsafe fn release(&mut self, table: NonNull<Table>) {
        // SAFETY: 1. The block came from `alloc` with this layout, for the caller says that it came from `allocate`, and was not released since. 2.
        // Nobody uses it, by the caller.
        unsafe { dealloc(table.cast().as_ptr(), Layout::new::<Table>()) };
    }
}
