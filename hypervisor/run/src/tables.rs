//! Page tables on the heap.

use alloc::alloc::{alloc, dealloc};
use core::alloc::Layout;
use core::ptr::NonNull;
use stasis_hw::paging::{Table, TableSource};

/// Takes them from the heap, which is mapped one to one.
pub struct HeapTables;

// SAFETY: the heap hands a block out once, and is mapped one to one; an empty table is written to it; it is freed by `release` alone.
unsafe impl TableSource for HeapTables {
    fn allocate(&mut self) -> Option<NonNull<Table>> {
        // SAFETY: a table has a size.
        let block = unsafe { alloc(Layout::new::<Table>()) }.cast::<Table>();
        let table = NonNull::new(block)?;
        // SAFETY: the block is ours, large enough and aligned.
        unsafe { table.write(Table::empty()) };
        Some(table)
    }

    unsafe fn release(&mut self, table: NonNull<Table>) {
        // SAFETY: 1. The block came from `alloc` with this layout, for the caller says that it came from `allocate`. 2. Nobody uses it.
        unsafe { dealloc(table.cast().as_ptr(), Layout::new::<Table>()) };
    }
}
