//! A guest that writes past the caches in which the hypervisor reads: what is read is what the
//! guest has stored, and no line is left that is older.

use super::super::*;
use crate::machine::Machine;
use core::cell::RefCell;
use core::ptr::NonNull;

use std::collections::BTreeMap;
use std::vec;

const LINE: usize = 64;

std::thread_local! {
    /// The lines that the hypervisor's core has, by their address, and whether each is dirty.
    static CACHE: RefCell<BTreeMap<usize, ([u8; LINE], bool)>> = const { RefCell::new(BTreeMap::new()) };
}

/// A core with a cache that drops nothing by itself.
#[derive(Debug)]
struct Cached;

impl Cached {
    /// Calls `access` with each byte of `len` at `start`, as the cache has it.
    fn bytes(start: *const u8, len: usize, is_store: bool, mut access: impl FnMut(usize, &mut u8)) {
        CACHE.with_borrow_mut(|cache| {
            for at in 0..len {
                let address = start.addr() + at;
                let (line, place) = (address / LINE * LINE, address % LINE);
                let (bytes, is_dirty) = cache.entry(line).or_insert_with(|| {
                    let memory: *const [u8; LINE] = start.with_addr(line).cast();
                    // SAFETY: pages are whole lines, so the line is mapped, as the byte is; and
                    // nobody has a reference to it.
                    (unsafe { memory.read_volatile() }, false)
                });
                access(at, &mut bytes[place]);
                *is_dirty |= is_store;
            }
        });
    }

    fn loaded(shared: *const u8, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        Self::bytes(shared, len, false, |at, byte| bytes[at] = *byte);
        bytes
    }
}

// SAFETY: each method accesses shared memory by `bytes` alone, at the addresses that it is told of,
// or in lines that these lie in, by volatile accesses; no reference to it is made.
unsafe impl Machine for Cached {
    unsafe fn load(shared: *const u8, into: *mut u8, len: usize) {
        // SAFETY: `into` has `len` bytes of the caller's.
        Self::bytes(shared, len, false, |at, byte| unsafe { into.add(at).write(*byte) });
    }

    unsafe fn store(from: *const u8, shared: *mut u8, len: usize) {
        // SAFETY: `from` has `len` bytes of the caller's.
        Self::bytes(shared, len, true, |at, byte| *byte = unsafe { from.add(at).read() });
    }

    unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
        let bytes = Self::loaded(from, len);
        Self::bytes(to, len, true, |at, byte| *byte = bytes[at]);
    }

    unsafe fn zero(shared: *mut u8, len: usize) {
        Self::bytes(shared, len, true, |_, byte| *byte = 0);
    }

    unsafe fn crc32c(crc: u32, shared: *const u8, len: usize) -> u32 {
        stasis_state::routines::crc32c(crc, &Self::loaded(shared, len))
    }

    unsafe fn pages_with_content(shared: *const u8, count: usize) -> u64 {
        let pages = Self::loaded(shared, count * PAGE_SIZE);
        pages
            .chunks(PAGE_SIZE)
            .enumerate()
            .fold(0, |map, (n, page)| map | u64::from(*page != [0; PAGE_SIZE]) << n)
    }

    fn clean_and_invalidate(addresses: Range<usize>) {
        CACHE.with_borrow_mut(|cache| {
            cache.retain(|line, (bytes, is_dirty)| {
                let is_told = addresses.start < line + LINE && *line < addresses.end;
                if is_told && *is_dirty {
                    let memory: *mut [u8; LINE] = core::ptr::with_exposed_provenance_mut(*line);
                    // SAFETY: the line is one of memory that was leaked, and nobody has a reference
                    // to it.
                    unsafe { memory.write_volatile(*bytes) };
                }
                !is_told
            });
        });
    }

    fn invalidate_instructions() {}
}

#[repr(align(4096))]
struct Pages<const N: usize>([u8; N]);

/// Memory that is never freed, and the guest's way to it, which is past the caches.
fn leaked<const N: usize>() -> (GuestRam<Cached>, *mut u8) {
    let start: NonNull<u8> = NonNull::from(Box::leak(Box::new(Pages([0; N])))).cast();
    start.as_ptr().expose_provenance();
    // SAFETY: 1. The pages were leaked, so they live for ever, and one `GuestRam` is made of
    // them. 2. The reference to them became a pointer, which the guest alone uses. 3. The guest
    // does not run at the same time.
    let ram = unsafe { GuestRam::new(start, N, &mut || ()) }.unwrap();
    (ram, start.as_ptr())
}

/// A guest with its caches off, whose memory the hypervisor has in its cache.
struct Guest {
    ram: GuestRam<Cached>,
    memory: *mut u8,
}

impl Guest {
    fn new() -> Self {
        let (mut ram, memory) = leaked::<{ 2 * PAGE_SIZE }>();
        ram.mark_written(0..1);
        ram.finish_writing(&mut || ());
        let guest = Self { ram, memory };
        let _ = guest.seen();
        guest.store(1);
        guest
    }

    /// Stores past the caches, to both pages.
    fn store(&self, value: u8) {
        for page in 0..2 {
            // SAFETY: the memory was leaked, and nobody has a reference to it.
            unsafe { self.memory.add(page * PAGE_SIZE).write_volatile(value) };
        }
    }

    /// Returns what the guest finds in both pages once its caches are on.
    fn seen(&self) -> [u8; 2] {
        [0, 1].map(|page| Cached::loaded(self.memory, 2 * PAGE_SIZE)[page * PAGE_SIZE])
    }

    fn snapshot(&mut self) -> Arc<Snapshot<Cached>> {
        let (frames, _) = leaked::<{ 2 * PAGE_SIZE }>();
        let room = Room::new(Marks::new(2 * PAGE_SIZE).unwrap(), frames, &mut || ());
        self.ram.begin_snapshot(room, crate::ram::Since::Ever)
    }
}

/// Returns the first byte of each page.
fn read(snapshot: &Snapshot<Cached>) -> [u8; 2] {
    [0, 1].map(|page| {
        let mut byte = [0];
        snapshot.read(page * PAGE_SIZE, &mut byte).unwrap();
        byte[0]
    })
}

#[test]
fn the_reader_finds_what_was_stored_past_the_caches() {
    let mut guest = Guest::new();
    let snapshot = guest.snapshot();
    snapshot.begin_reading(&mut || ());
    assert_eq!(read(&snapshot), [1, 1]);
    assert_eq!(snapshot.pages_with_content(0, 2), Ok(0b11));
}

#[test]
fn a_page_is_kept_as_it_was_stored_past_the_caches() {
    let mut guest = Guest::new();
    let snapshot = guest.snapshot();
    snapshot.keep(0).unwrap();
    guest.store(2);
    assert_eq!(read(&snapshot)[0], 1);
}

#[test]
fn a_page_is_kept_as_it_was_stored_once_reading_has_begun() {
    let mut guest = Guest::new();
    let snapshot = guest.snapshot();
    snapshot.begin_reading(&mut || ());
    snapshot.keep(0).unwrap();
    guest.store(2);
    assert_eq!(read(&snapshot)[0], 1);
}

#[test]
#[cfg_attr(miri, ignore = "each byte of 65 pages passes through the model of the cache")]
fn a_page_is_kept_as_it_was_stored_while_reading_begins() {
    /// The page behind the first piece that begins to be read.
    const LAST: usize = 64 * PAGE_SIZE;
    const LEN: usize = LAST + PAGE_SIZE;
    let (mut ram, memory) = leaked::<LEN>();
    ram.mark_written(0..LEN);
    ram.finish_writing(&mut || ());
    // SAFETY: the memory was leaked, the page is in it, and nobody has a reference to it.
    let store = |value: u8| unsafe { memory.add(LAST).write_volatile(value) };
    // The hypervisor has a line that is older than what is stored past it.
    let _ = Cached::loaded(memory.wrapping_add(LAST), 1);
    store(1);
    let (frames, _) = leaked::<{ 2 * PAGE_SIZE }>();
    let room = Room::new(Marks::new(LEN).unwrap(), frames, &mut || ());
    let snapshot = ram.begin_snapshot(room, crate::ram::Since::Ever);
    let mut kept = None;
    snapshot.begin_reading(&mut || {
        kept.get_or_insert_with(|| snapshot.keep(LAST).unwrap());
        store(2);
    });
    let mut byte = [0];
    snapshot.read(LAST, &mut byte).unwrap();
    assert_eq!(byte, [1]);
}

#[test]
fn no_line_is_left_of_a_page_that_was_kept() {
    let mut guest = Guest::new();
    let snapshot = guest.snapshot();
    snapshot.begin_reading(&mut || ());
    let _ = read(&snapshot);
    snapshot.keep(0).unwrap();
    guest.store(2);
    assert_eq!(guest.seen()[0], 2, "its caches are on again");
}

#[test]
fn no_line_is_left_of_what_was_released() {
    let mut guest = Guest::new();
    let snapshot = guest.snapshot();
    snapshot.begin_reading(&mut || ());
    let _ = read(&snapshot);
    let _ = snapshot.release_and_ask(0..2 * PAGE_SIZE, &mut || ());
    guest.store(2);
    assert_eq!(guest.seen(), [2, 2], "its caches are on again");
}
