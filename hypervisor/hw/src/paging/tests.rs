//! What is mapped where, and what is refused.

use super::attributes::STAGE1;
use super::*;
use std::boxed::Box;

struct Leak {
    left: usize,
}

// SAFETY: leaked boxes are used by nothing else, for ever; on a host "physical" is virtual.
unsafe impl TableSource for Leak {
    fn allocate(&mut self) -> Option<NonNull<Table>> {
        self.left = self.left.checked_sub(1)?;
        Some(NonNull::from(Box::leak(Box::new(Table::EMPTY))))
    }

    unsafe fn release(&mut self, _: NonNull<Table>) {
        self.left += 1;
    }
}

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

#[test]
fn a_range_is_mapped_in_the_largest_blocks_that_fit() {
    let mut tables = Leak { left: 3 };
    let mut map = Translation::new(&mut tables).unwrap();
    map.map(
        &mut tables,
        GIB - 2 * MIB,
        3 * GIB - 2 * MIB,
        GIB + 2 * MIB + 4096,
        Attributes::guest_ram(),
    )
    .expect_err("a page behind the GiB needs two more tables than there are");
    let mut tables = Leak { left: 4 };
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
    let mut tables = Leak { left: 8 };
    let mut map = Translation::new(&mut tables).unwrap();
    for _ in 0..3 {
        map.map(&mut tables, GIB - 4096, GIB - 4096, 8192, Attributes::guest_ram()).unwrap();
        assert_eq!(tables.left, 3, "two tables for each page");
        let mut root = None;
        map.clear(&mut tables, |at| root = Some(at));
        assert_eq!((root, tables.left), (Some(map.root()), 7));
        assert_eq!((map.translate(GIB - 1), map.translate(GIB)), (None, None));
    }
}

#[test]
fn writes_are_allowed_block_by_block() {
    let mut tables = Leak { left: 8 };
    let mut map = Translation::new(&mut tables).unwrap();
    let access = |map: &Translation, input| {
        let (entry, _) = map.leaf(input).unwrap();
        // SAFETY: the table is the map's, which is borrowed.
        unsafe { entry.read() >> STAGE2::S2AP.shift & STAGE2::S2AP.mask }
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

#[test]
fn what_is_mapped_is_never_mapped_again() {
    let mut tables = Leak { left: 8 };
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
    let mut tables = Leak { left: 8 };
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
    assert_eq!(Translation::new(&mut Leak { left: 0 }).err(), Some(MapError::OutOfMemory));
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
