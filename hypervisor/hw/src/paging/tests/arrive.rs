//! RAM that arrives while cores use the translation, with TLBs that forget nothing until they are
//! told.

use super::super::{Attributes, MapError, Translation};
use super::tlb::{Access, Tlb};
use super::{GIB, Heap, MIB};
use core::cell::RefCell;

/// A block at 1 GiB of the guest's, which the machine has at 4 GiB. It arrives in four units.
const BLOCK: u64 = GIB;
const UNIT: u64 = MIB / 2;
const UNITS: [u64; 4] = [BLOCK, BLOCK + UNIT, BLOCK + 2 * UNIT, BLOCK + 3 * UNIT];

struct Guest {
    tables: Heap,
    map: Translation,
    tlbs: RefCell<[Tlb; 2]>,
}

impl Guest {
    /// Returns a guest of whose block nothing has arrived. There are `spare` tables besides those
    /// of the upper levels.
    fn new(spare: usize) -> Self {
        let mut tables = Heap { left: 2 + spare };
        let map = Translation::new(&mut tables).unwrap();
        let tlbs = RefCell::new([Tlb::new(map.root()), Tlb::new(map.root())]);
        Self { tables, map, tlbs }
    }

    fn arrive(&mut self, input: u64, len: u64, attributes: Attributes) -> Result<(), MapError> {
        let arrived = self.map.arrive(&mut self.tables, input, input + 3 * GIB, len, attributes);
        self.look_ahead();
        arrived
    }

    fn settle(&mut self, writable: bool) {
        let tlbs = &self.tlbs;
        let forget = |what| tlbs.borrow_mut().iter_mut().for_each(|tlb| tlb.forget(what));
        // SAFETY: 1. The tests let all units arrive before. 2. The two TLBs are all that walks the
        // translation, and both forget.
        unsafe { self.map.settle(BLOCK + MIB, writable, forget) };
        self.look_ahead();
    }

    fn withdraw(&mut self) {
        let tlbs = &self.tlbs;
        let forget = |_| {
            for tlb in &mut *tlbs.borrow_mut() {
                tlb.forget(super::super::Forget::All);
                assert_eq!(tlb.fetch(BLOCK), None, "a core finds it again at once");
            }
        };
        // SAFETY: 1. The two TLBs are all that walks the translation, and both forget. 2. No test
        // makes an access that needs the block.
        unsafe { self.map.withdraw(|| [BLOCK, 5 * GIB].into_iter(), forget) };
        self.look_ahead();
    }

    /// Both cores look everything up, whatever they remember.
    fn look_ahead(&self) {
        for tlb in &mut *self.tlbs.borrow_mut() {
            UNITS.iter().for_each(|unit| _ = tlb.fetch(*unit));
        }
    }

    fn access(&self, input: u64, is_write: bool) -> Access {
        let [first, second] = &mut *self.tlbs.borrow_mut();
        let found = first.access(input, is_write);
        assert_eq!(second.access(input, is_write), found);
        found
    }
}

#[test]
fn what_has_arrived_is_reached_and_nothing_else_is() {
    let mut guest = Guest::new(1);
    assert_eq!(guest.access(BLOCK, false), Access::Translation);
    for (n, unit) in [2, 0, 3].into_iter().enumerate() {
        guest.arrive(UNITS[unit], UNIT, Attributes::guest_ram()).unwrap();
        let last = UNITS[unit] + UNIT - 4096;
        assert_eq!(guest.access(last, true), Access::Made(last + 3 * GIB), "{n}");
    }
    assert_eq!(guest.access(UNITS[1], false), Access::Translation);
    assert_eq!(guest.access(UNITS[1] + UNIT - 4096, false), Access::Translation);
    assert_eq!(guest.tables.left, 0, "one table is for all of them");
}

#[test]
fn a_block_that_has_arrived_is_one_again_and_its_table_serves_the_next() {
    let mut guest = Guest::new(1);
    for writable in [false, true] {
        UNITS.iter().for_each(|unit| {
            guest.arrive(*unit, UNIT, Attributes::guest_ram_unwritten()).unwrap();
        });
        assert!(guest.map.is_split(BLOCK));
        guest.settle(writable);
        assert!(!guest.map.is_split(BLOCK));
        let written = if writable { Access::Made(UNITS[3] + 3 * GIB) } else { Access::Permission };
        assert_eq!(guest.access(UNITS[3], true), written);
        assert_eq!(guest.access(UNITS[1], false), Access::Made(UNITS[1] + 3 * GIB));
        guest.withdraw();
        assert_eq!(guest.access(UNITS[1], false), Access::Translation);
    }
}

#[test]
fn a_block_that_arrives_as_one_needs_no_table() {
    let mut guest = Guest::new(0);
    assert_eq!(guest.arrive(UNITS[1], UNIT, Attributes::guest_ram()), Err(MapError::OutOfMemory));
    assert_eq!(guest.access(UNITS[1], false), Access::Translation);
    guest.arrive(BLOCK, 2 * MIB, Attributes::guest_ram()).unwrap();
    assert_eq!(guest.access(UNITS[3], true), Access::Made(UNITS[3] + 3 * GIB));
    guest.settle(false);
    assert_eq!(guest.access(UNITS[3], true), Access::Made(UNITS[3] + 3 * GIB), "it is one already");
}

#[test]
fn a_block_that_was_prepared_arrives_when_no_table_is_left() {
    let mut guest = Guest::new(1);
    for _ in 0..2 {
        // The memory ends in the next GiB, whose blocks need a table of their own.
        guest.map.prepare(&mut guest.tables, BLOCK + GIB - 2 * MIB, 4 * MIB).unwrap();
        assert_eq!(guest.tables.left, 0, "there is one table for each GiB");
    }
    assert_eq!(guest.access(BLOCK, false), Access::Translation);
    assert_eq!(guest.arrive(UNITS[1], UNIT, Attributes::guest_ram()), Err(MapError::OutOfMemory));
    guest.arrive(BLOCK, 2 * MIB, Attributes::guest_ram()).unwrap();
    guest.arrive(BLOCK + GIB, 2 * MIB, Attributes::guest_ram()).unwrap();
    assert_eq!(guest.access(UNITS[3], true), Access::Made(UNITS[3] + 3 * GIB));
    assert_eq!(guest.map.prepare(&mut guest.tables, 4 * GIB, MIB), Err(MapError::OutOfMemory));
}

#[test]
fn what_was_withdrawn_in_part_leaves_nothing_in_the_table_that_is_used_again() {
    let mut guest = Guest::new(1);
    guest.arrive(UNITS[0], UNIT, Attributes::guest_ram()).unwrap();
    guest.withdraw();
    guest.arrive(UNITS[2], UNIT, Attributes::guest_ram()).unwrap();
    assert_eq!(guest.access(UNITS[0], false), Access::Translation);
    assert_eq!(guest.access(UNITS[2], true), Access::Made(UNITS[2] + 3 * GIB));
    assert_eq!(guest.tables.left, 0);
}
