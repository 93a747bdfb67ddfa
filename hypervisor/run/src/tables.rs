//! Page tables: of the heap for what is mapped once, and of the pool of RAM for blocks of guests'
//! memory that are split into pages. Frames for guests that share memory.
//!
//! A guest of 1 GiB may need 512 tables for its pages, and many guests more than the heap has. So
//! these come from the pool, and who makes a checkpoint [reserves](reserve) all that its guest can
//! need before that stands still. The pages that a clone writes come from the same stock, one by
//! one, as the clone writes them ([`PoolFrames`]).

use crate::pool::{self, Taken};
use alloc::alloc::{alloc, dealloc};
use core::alloc::Layout;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, Ordering};
use spin::mutex::SpinMutex;
use stasis_arch::cache;
use stasis_devices::machine::RAM_UNIT;
use stasis_host::admission::frames;
use stasis_hw::paging::{Spares, Table, TableSource};
use stasis_memory::frames::Frames;
use stasis_memory::range::{NoRam, Range};
use stasis_memory::stock::{GivenBack, NoNote, NotShared, Stock};

/// Source of page tables: the heap, which is mapped one to one.
pub struct HeapTables;

// SAFETY: `allocate` writes an empty table to a block of the heap, which nobody else has, which is
// mapped one to one, and which is valid until `release` frees it.
unsafe impl TableSource for HeapTables {
    fn allocate(&mut self) -> Option<NonNull<Table>> {
        // SAFETY: the layout of a table has a size that is not 0.
        let block = unsafe { alloc(Layout::new::<Table>()) }.cast::<Table>();
        let table = NonNull::new(block)?;
        // SAFETY: `alloc` returned the block, so it is valid for writes, large enough and aligned,
        // and nobody else has it.
        unsafe { table.write(Table::empty()) };
        Some(table)
    }

    unsafe fn release(&mut self, table: NonNull<Table>) {
        // SAFETY: 1. The block came from `alloc` with this layout, for the caller says that it came
        // from `allocate`, and was not released since. 2. Nobody uses it, by the caller.
        unsafe { dealloc(table.cast().as_ptr(), Layout::new::<Table>()) };
    }
}

/// Pages of the pool that are tables, or will be.
static STOCK: SpinMutex<Stock> = SpinMutex::new(Stock::new());

/// Source of a guest's page tables: the heap for those that map what the guest has from the
/// beginning, the pool for those that a guest's translation is
/// [stocked](stasis_hw::paging::Translation::stock) with. Either takes tables of both back.
pub enum GuestTables {
    /// New tables come from the heap.
    OfHeap,
    /// New tables come from the pool of RAM. The error says why one did not.
    OfPool(Result<(), NoRam>),
}

/// Whether instruction caches may have something of a free page: guests have used it before. Under
/// the lock of [`STOCK`], so all accesses are relaxed.
static MAY_BE_FETCHED: AtomicBool = AtomicBool::new(false);

/// Frames of the pool of RAM.
#[derive(Debug)]
pub struct PoolFrames;

/// Gives a page back, which is a table or a frame.
///
/// # Safety
///
/// The caller is a user of the page, and uses it no more; or it is no page of the stock's.
unsafe fn give_back_page(page: u64) -> GivenBack {
    let mut stock = STOCK.lock();
    let given_back = stock.give_back(page);
    if given_back != GivenBack::Used {
        MAY_BE_FETCHED.store(true, Ordering::Relaxed);
    }
    // Before the block goes back: the pool has a lock of its own.
    drop(stock);
    if let GivenBack::Whole(block) = given_back {
        // SAFETY: `take_from` alone adds blocks to the stock, of what it keeps. No page of this one
        // has a user any more, by the callers of this, and the stock has forgotten it.
        drop(unsafe { Taken::back(block) });
    }
    given_back
}

// SAFETY: 1. A page of the stock is RAM of the pool, which is mapped one to one for reading and
// writing, by the caller of `pool::init`, and has its provenance from its address. 2. The stock
// gives a page that is free to one user, and counts the others. 3. Nobody can fetch from a page
// that is free: EL2 maps it as data, and no guest has it. So what instruction caches have of it is
// from before, and is dropped when a page is taken after one was given back.
unsafe impl Frames for PoolFrames {
    fn take(&self) -> Option<NonNull<u8>> {
        let mut stock = STOCK.lock();
        let page = take_from(&mut stock, KEPT).ok()?;
        // Under the lock: whoever takes the next page finds the caches without it, too.
        if MAY_BE_FETCHED.swap(false, Ordering::Relaxed) {
            cache::invalidate_instructions();
        }
        NonNull::new(ptr::with_exposed_provenance_mut(page as usize))
    }

    fn share(&self, frame: u64) -> Result<(), NotShared> {
        STOCK.lock().share(frame)
    }

    fn is_shared(&self, frame: u64) -> bool {
        STOCK.lock().is_shared(frame)
    }

    unsafe fn give_back(&self, frame: u64) {
        // SAFETY: the caller promises that it was a user.
        let given_back = unsafe { give_back_page(frame) };
        debug_assert!(given_back != GivenBack::Unknown, "{frame:#x} is no frame");
    }

    unsafe fn give_back_block(&self, start: u64) {
        // SAFETY: the caller promises that nobody uses the block any more, which is one of a memory
        // that `pool` has made of what it keeps.
        drop(unsafe { Taken::back(Range::new(start, RAM_UNIT)) });
    }
}

/// Returns the frames that there are now, without a guest that gives any back.
pub fn frames() -> frames::Frames {
    let loose = STOCK.lock().free_pages() as u64;
    frames::Frames { loose, free_bytes: pool::free_bytes(), kept_bytes: KEPT, before: None }
}

/// Returns whether there is memory for a frame.
pub fn is_any_free() -> bool {
    let page = take_page(KEPT);
    // SAFETY: the page was taken here, and nobody was told of it.
    page.inspect(|page| _ = unsafe { give_back_page(*page) }).is_ok()
}

/// Returns whether the pool has `len` bytes beside those that are not for frames.
pub fn has_beside_kept(len: u64) -> bool {
    pool::free_bytes().checked_sub(KEPT).is_some_and(|most| len <= most)
}

/// Bytes of the pool that are not for frames: checkpoints, of any guest, need some.
const KEPT: u64 = 8 << 20;

/// Takes a page of the stock, or else of the pool, of which `kept` bytes are left.
fn take_page(kept: u64) -> Result<u64, NoRam> {
    take_from(&mut STOCK.lock(), kept)
}

/// Takes a page of the stock, which is locked, as [`take_page`] does.
fn take_from(stock: &mut Stock, kept: u64) -> Result<u64, NoRam> {
    if let Some(page) = stock.take() {
        return Ok(page);
    }
    let block = pool::take_block(kept)?;
    MAY_BE_FETCHED.store(true, Ordering::Relaxed);
    stock.add(block.range().start).map_err(|NoNote| NoRam::Unnoted)?;
    block.keep();
    stock.take().ok_or(NoRam::Unknown)
}

// SAFETY: `allocate` writes an empty table to a block of the heap or to a page of the pool. Nobody
// else has it, it is mapped one to one, and it is valid until `release` frees it.
unsafe impl TableSource for GuestTables {
    fn allocate(&mut self) -> Option<NonNull<Table>> {
        let Self::OfPool(why) = self else { return HeapTables.allocate() };
        let page = take_page(0).inspect_err(|error| *why = Err(*error)).ok()?;
        let table = NonNull::new(ptr::with_exposed_provenance_mut::<Table>(page as usize))?;
        // SAFETY: the page is RAM of the pool, which is mapped one to one for reading and writing,
        // by the caller of `pool::init`; it is as large and as aligned as a table; and the stock
        // gave it to us alone.
        unsafe { table.write(Table::empty()) };
        Some(table)
    }

    unsafe fn release(&mut self, table: NonNull<Table>) {
        // SAFETY: the caller promises that the table came from `allocate`, which took a page for it
        // or none of the stock's, and that nobody uses it.
        let given_back = unsafe { give_back_page(table.addr().get() as u64) };
        if given_back == GivenBack::Unknown {
            // SAFETY: 1. The table is not the stock's, so it came from `HeapTables`, and was not
            // released since, by the caller. 2. Nobody uses it, by the caller.
            unsafe { HeapTables.release(table) };
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
    // SAFETY: all tables that guests' translations are stocked with came from `reserve`, so from
    // `GuestTables`.
    unsafe { spares.release(&mut GuestTables::OfHeap) };
}
