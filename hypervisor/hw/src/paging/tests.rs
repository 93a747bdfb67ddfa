//! What is mapped where, and what is refused.

mod arrive;
mod protect;
mod tlb;

use super::attributes::{STAGE1, STAGE2};
use super::table::{DESCRIPTOR, ENTRIES, LAST_LEVEL, block_size, index};
use super::*;
use core::sync::atomic::Ordering;
use std::boxed::Box;

/// Tables on the host's heap, as many as are left. A root is never given back, so these are leaked.
struct Heap {
    left: usize,
}

// SAFETY: `allocate` returns an empty table in a box of its own, which nothing else uses until it
// is released. On the host, "physical" addresses are virtual ones.
unsafe impl TableSource for Heap {
    fn allocate(&mut self) -> Option<NonNull<Table>> {
        self.left = self.left.checked_sub(1)?;
        Some(NonNull::from(Box::leak(Box::new(Table::empty()))))
    }

    unsafe fn release(&mut self, table: NonNull<Table>) {
        self.left += 1;
        // SAFETY: 1. The table was a box, which `allocate` leaked, and was not released since, by
        // the caller. 2. Nobody uses it any more, by the caller; Miri would see an access.
        drop(unsafe { Box::from_raw(table.as_ptr()) });
    }
}

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

#[test]
fn a_range_is_mapped_in_the_largest_blocks_that_fit() {
    let mut tables = Heap { left: 3 };
    let mut map = Translation::new(&mut tables).unwrap();
    map.map(
        &mut tables,
        GIB - 2 * MIB,
        3 * GIB - 2 * MIB,
        GIB + 2 * MIB + 4096,
        Attributes::guest_ram(),
    )
    .expect_err("a page behind the GiB needs two more tables than there are");
    let mut tables = Heap { left: 4 };
    let mut map = Translation::new(&mut tables).unwrap();
    map.map(&mut tables, GIB - 2 * MIB, 3 * GIB - 2 * MIB, GIB + 2 * MIB, Attributes::guest_ram())
        .unwrap();
    assert_eq!(tables.left, 2, "one 2 MiB block in a table of its own, and one 1 GiB block");
    assert_eq!(map.translate(GIB - 1), Some(3 * GIB - 1));
    assert_eq!(map.translate(2 * GIB - 1), Some(4 * GIB - 1));
    assert_eq!(map.translate(2 * GIB), None);
    assert_eq!(map.translate(GIB - 2 * MIB - 1), None);
}

#[test]
fn what_was_cleared_maps_nothing_and_has_its_tables_back_but_for_the_root() {
    let mut tables = Heap { left: 8 };
    let mut map = Translation::new(&mut tables).unwrap();
    for _ in 0..3 {
        map.map(&mut tables, GIB - 4096, GIB - 4096, 8192, Attributes::guest_ram()).unwrap();
        assert_eq!(tables.left, 3, "two tables for each page");
        let mut root = None;
        // SAFETY: 1. This is the only source of tables here. 2. and 3. No core walks the
        // translation.
        unsafe { map.clear(&mut tables, |at| root = Some(at)) };
        assert_eq!((root, tables.left), (Some(map.root()), 7));
        assert_eq!((map.translate(GIB - 1), map.translate(GIB)), (None, None));
    }
}

#[test]
fn writes_are_allowed_block_by_block() {
    let mut tables = Heap { left: 8 };
    let mut map = Translation::new(&mut tables).unwrap();
    let access = |map: &Translation, input| {
        map.leaf(input).unwrap().load() >> STAGE2::S2AP.shift & STAGE2::S2AP.mask
    };
    for address in [0, 2 * MIB] {
        let attributes = Attributes::guest_ram_unwritten();
        map.map(&mut tables, address, address, 2 * MIB, attributes).unwrap();
    }
    map.allow_writes(3 * MIB);
    map.allow_writes(4 * MIB);
    assert_eq!((access(&map, 0), access(&map, 2 * MIB)), (0b01, 0b11));
    assert_eq!((map.translate(3 * MIB), map.translate(4 * MIB)), (Some(3 * MIB), None));
}

/// Returns the physical address that the hardware finds for `input`.
fn walk(root: usize, input: u64) -> Option<u64> {
    let (descriptor, size) = look_up(root, input)?;
    Some((descriptor & OUTPUT_ADDRESS) + (input & (size - 1)))
}

/// Returns the descriptor that maps `input`, and the bytes that this maps, as the hardware does
/// with a root: it looks `input` up, at any moment, knowing nothing of the owner's borrows.
fn look_up(root: usize, input: u64) -> Option<(u64, u64)> {
    let mut table = root;
    for level in ROOT_LEVEL..=LAST_LEVEL {
        let table_pointer: *const Table = core::ptr::with_exposed_provenance(table);
        // SAFETY: a root, or what a table descriptor refers to, is a table for as long as the test
        // walks it, and all of it are atomics.
        let descriptor = unsafe { &*table_pointer }.0[index(input, level)].load(Ordering::Acquire);
        if !DESCRIPTOR::VALID.is_set(descriptor) {
            return None;
        }
        if level == LAST_LEVEL || !DESCRIPTOR::TABLE_OR_PAGE.is_set(descriptor) {
            return Some((descriptor, block_size(level)));
        }
        table = (descriptor & OUTPUT_ADDRESS) as usize;
    }
    None
}

#[test]
fn a_walker_finds_all_of_a_mapping_or_nothing_while_tables_are_added() {
    let mut tables = Heap { left: 16 };
    let mut map = Translation::new(&mut tables).unwrap();
    let root = map.root() as usize;
    let pages = || (0..8).map(|page| page * (2 * MIB + 4096));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut found = 0;
            while found < 8 {
                let walks = pages().filter_map(|input| Some((input, walk(root, input)?)));
                found = walks.inspect(|(input, output)| assert_eq!(*output, input + GIB)).count();
            }
        });
        for input in pages() {
            let attributes = Attributes::guest_ram_unwritten();
            map.map(&mut tables, input, input + GIB, 4096, attributes).unwrap();
            map.allow_writes(input);
        }
    });
}

#[test]
fn a_translation_is_invalid_before_cores_forget_it_and_its_tables_stay_until_then() {
    let mut tables = Heap { left: 8 };
    let mut map = Translation::new(&mut tables).unwrap();
    map.map(&mut tables, GIB - 4096, GIB, 8192, Attributes::guest_ram()).unwrap();
    let root = map.root() as usize;
    // A core that is in the midst of a walk goes on from a table below the root.
    let below = map.first_level().entry(0).load() & OUTPUT_ADDRESS;
    let forget = |_| {
        assert_eq!((walk(root, GIB - 4096), walk(root, GIB)), (None, None));
        // SAFETY: the table is released only after this function, which says that the cores have
        // forgotten it; and all of it are atomics.
        let table: &Table = unsafe { &*core::ptr::with_exposed_provenance(below as usize) };
        let last = table.0[ENTRIES - 1].load(Ordering::Relaxed);
        assert!(DESCRIPTOR::VALID.is_set(last), "what a core still walks is as it was");
    };
    // SAFETY: 1. This is the only source of tables here. 2. and 3. The only walks are those of
    // `forget`, which end before it returns.
    unsafe { map.clear(&mut tables, forget) };
}

#[test]
fn what_is_mapped_is_never_mapped_again() {
    let mut tables = Heap { left: 8 };
    let mut map = Translation::new(&mut tables).unwrap();
    map.map(&mut tables, 2 * MIB, 0, 2 * MIB, Attributes::data()).unwrap();
    let again = map.map(&mut tables, 2 * MIB + 4096, 0, 4096, Attributes::data());
    assert_eq!(again, Err(MapError::Mapped { input: 2 * MIB + 4096 }));
    map.map(&mut tables, 4096, 0, 4096, Attributes::data()).unwrap();
    let again = map.map(&mut tables, 0, 0, 8192, Attributes::data());
    assert_eq!(again, Err(MapError::Mapped { input: 4096 }));
}

#[test]
fn unaligned_and_oversized_ranges_are_refused() {
    let mut tables = Heap { left: 8 };
    let mut map = Translation::new(&mut tables).unwrap();
    assert_eq!(
        map.map(&mut tables, 1, 0, 4096, Attributes::device()),
        Err(MapError::Unaligned { input: 1, output: 0, len: 4096 })
    );
    let end = 1 << ADDRESS_BITS;
    assert_eq!(
        map.map(&mut tables, end - 4096, 0, 8192, Attributes::device()),
        Err(MapError::OutOfRange { end: end + 4096 })
    );
    assert_eq!(Translation::new(&mut Heap { left: 0 }).err(), Some(MapError::OutOfMemory));
}

#[test]
fn nothing_is_both_writable_and_executable_at_el2() {
    let executable = |a: Attributes| a.bits() & STAGE1::XN::SET.value == 0;
    let writable =
        |a: Attributes| a.bits() & STAGE1::AP::ReadOnly.value == STAGE1::AP::ReadWrite.value;
    assert!(executable(Attributes::code()) && !writable(Attributes::code()));
    for data in [Attributes::data(), Attributes::read_only(), Attributes::device()] {
        assert!(!executable(data));
    }
}
