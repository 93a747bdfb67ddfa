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

/// Source of tables for blocks that are split during a checkpoint: the heap, of which [`Self::LEFT`] bytes stay free in one piece. All other users of the
/// heap can't go on without memory; a vCPU whose block can't be split can wait.
pub struct SparingTables;

impl SparingTables {
    /// Bytes of the heap that stay free.
    const LEFT: usize = 256 << 10;

    /// Returns whether that much of the heap is free in one piece.
    fn is_enough_left() -> bool {
        let layout = Layout::new::<[u8; Self::LEFT]>();
        // SAFETY: the layout has a size that is not 0.
        let block = unsafe { alloc(layout) };
        if block.is_null() {
            return false;
        }
        // SAFETY: `alloc` returned the block for this layout, and nobody else has it.
        unsafe { dealloc(block, layout) };
        true
    }
}

// SAFETY: all is done by `HeapTables`, which keeps the conditions, and from which the tables come.
unsafe impl TableSource for SparingTables {
    fn allocate(&mut self) -> Option<NonNull<Table>> {
        Self::is_enough_left().then(|| HeapTables.allocate())?
    }

    unsafe fn release(&mut self, table: NonNull<Table>) {
        // SAFETY: the table came from `HeapTables`, and nobody uses it, by the caller.
        unsafe { HeapTables.release(table) };
    }
}
