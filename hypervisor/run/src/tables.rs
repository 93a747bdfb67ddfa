//! Page tables: of the heap for what is mapped once, and of the pool of RAM for blocks of guests' memory that are split into pages.
//!
//! A guest of 1 GiB may need 512 tables for its pages, and many guests more than the heap has. So these come from the pool, and who
//! makes a checkpoint [reserves](reserve) all that its guest can need before that stands still.

use crate::pool;
use alloc::alloc::{alloc, dealloc};
use core::alloc::Layout;
use core::ptr::{self, NonNull};
use spin::mutex::SpinMutex;
use stasis_hw::paging::{Spares, Table, TableSource};
use stasis_memory::range::NoRam;
use stasis_memory::stock::{GivenBack, Stock};

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

/// Pages of the pool that are tables, or will be.
static STOCK: SpinMutex<Stock> = SpinMutex::new(Stock::new());

/// Source of a guest's page tables: the heap for those that map what the guest has from the beginning, the pool for those that a guest's translation is
/// [stocked](stasis_hw::paging::Translation::stock) with. Either takes tables of both back.
pub enum GuestTables {
    /// New tables come from the heap.
    OfHeap,
    /// New tables come from the pool of RAM. The error says why one did not.
    OfPool(Result<(), NoRam>),
}

/// Takes a page of the pool.
fn take_page() -> Result<u64, NoRam> {
    let mut stock = STOCK.lock();
    if let Some(page) = stock.take() {
        return Ok(page);
    }
    let block = pool::take_block()?;
    if stock.add(block.start).is_err() {
        pool::give_back_range(block);
        return Err(NoRam::Unnoted);
    }
    stock.take().ok_or(NoRam::Unknown)
}

// SAFETY: `allocate` writes an empty table to a block of the heap or to a page of the pool. Nobody else has it, it is mapped one to one, and it is
// valid until `release` frees it.
unsafe impl TableSource for GuestTables {
    fn allocate(&mut self) -> Option<NonNull<Table>> {
        let Self::OfPool(why) = self else { return HeapTables.allocate() };
        let page = take_page().inspect_err(|error| *why = Err(*error)).ok()?;
        let table = NonNull::new(ptr::with_exposed_provenance_mut::<Table>(page as usize))?;
        // SAFETY: the page is RAM of the pool, which is mapped one to one for reading and writing, by the caller of `pool::init`; it is as large and as
        // aligned as a table; and the stock gave it to us alone.
        unsafe { table.write(Table::empty()) };
        Some(table)
    }

    unsafe fn release(&mut self, table: NonNull<Table>) {
        // The lock is free again when the block goes back: the pool has one of its own.
        let given_back = STOCK.lock().give_back(table.addr().get() as u64);
        match given_back {
            GivenBack::Kept => {}
            GivenBack::Whole(block) => pool::give_back_range(block),
            // SAFETY: 1. The table is not the stock's, so it came from `HeapTables`, and was not released since, by the caller. 2. Nobody uses it, by
            // the caller.
            GivenBack::Unknown => unsafe { HeapTables.release(table) },
        }
    }
}

/// Takes `count` tables from the pool. Calls `pause` after each.
///
/// # Errors
///
/// [`NoRam`] if the pool does not have them.
pub fn reserve(count: usize, pause: &mut dyn FnMut()) -> Result<Spares, NoRam> {
    let mut source = GuestTables::OfPool(Ok(()));
    let mut spares = Spares::default();
    for _ in 0..count {
        if spares.add(&mut source).is_err() {
            release(spares);
            return Err(match source {
                GuestTables::OfPool(Err(why)) => why,
                _ => NoRam::Unknown,
            });
        }
        pause();
    }
    Ok(spares)
}

/// Gives back tables that were reserved.
pub fn release(spares: Spares) {
    // SAFETY: all tables that guests' translations are stocked with came from `reserve`, so from `GuestTables`.
    unsafe { spares.release(&mut GuestTables::OfHeap) };
}
