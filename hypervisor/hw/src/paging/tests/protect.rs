//! Writes are forbidden and allowed again, while other cores use what their TLBs have kept.

use super::super::{Attributes, Forget, MapError, Spares, Translation, Writable};
use super::tlb::{Access, Tlb};
use super::{GIB, Heap, MIB, walk};
use core::cell::RefCell;

/// Two blocks at 1 GiB of the guest's, which the machine has at 4 GiB, and the TLBs of two cores.
struct Guest {
    tables: Heap,
    map: Translation,
    tlbs: RefCell<[Tlb; 2]>,
}

const BLOCKS: [u64; 2] = [GIB, GIB + 2 * MIB];
/// Pages of the first block: its first two, one in the midst, and its last one.
const PAGES: [u64; 4] = [GIB, GIB + 4096, GIB + MIB, GIB + 2 * MIB - 4096];

impl Guest {
    /// Returns the guest, and both cores remember all of it, writable. There are `spare` more
    /// tables.
    fn new(spare: usize) -> Self {
        let mut tables = Heap { left: 2 + spare };
        let mut map = Translation::new(&mut tables).unwrap();
        for block in BLOCKS {
            let attributes = Attributes::guest_ram();
            map.map(&mut tables, block, block + 3 * GIB, 2 * MIB, attributes).unwrap();
        }
        let tlbs = [Tlb::new(map.root()), Tlb::new(map.root())];
        let guest = Self { tables, map, tlbs: RefCell::new(tlbs) };
        PAGES.iter().for_each(|page| guest.writes(*page));
        guest.writes(BLOCKS[1]);
        guest
    }

    /// Returns the guest as [`new`](Self::new) does, and all spare tables are for blocks that will
    /// be split.
    fn stocked(spare: usize) -> Self {
        let mut guest = Self::new(spare);
        let mut spares = Spares::default();
        (0..spare).for_each(|_| spares.add(&mut guest.tables).unwrap());
        assert_eq!(spares.add(&mut guest.tables), Err(MapError::OutOfMemory));
        guest.map.stock(spares);
        assert_eq!(guest.map.page_tables(), spare);
        guest
    }

    fn access(&self, core: usize, input: u64, is_write: bool) -> Access {
        self.tlbs.borrow_mut()[core].access(input, is_write)
    }

    /// Checks that both cores may write there.
    fn writes(&self, input: u64) {
        for core in 0..2 {
            assert_eq!(self.access(core, input, true), Access::Made(input + 3 * GIB));
        }
    }

    /// Checks that both cores may read there, and not write.
    fn only_reads(&self, input: u64) {
        for core in 0..2 {
            assert_eq!(self.access(core, input, false), Access::Made(input + 3 * GIB));
            assert_eq!(self.access(core, input, true), Access::Permission, "{input:#x}");
        }
    }

    fn forbid(&mut self) {
        self.forbid_all_of(&BLOCKS.map(|block| (block, Writable::Block)));
    }

    /// Forbids writes. Both cores look everything up right before they forget it, and right after.
    fn forbid_all_of(&mut self, blocks: &[(u64, Writable)]) {
        let tlbs = &self.tlbs;
        let forget = |_| {
            look_ahead(tlbs);
            tlbs.borrow_mut().iter_mut().for_each(|tlb| tlb.forget(Forget::All));
            // Other cores may look up again at once, whatever the caller has still to do.
            look_ahead(tlbs);
        };
        // SAFETY: the two TLBs are all that walks the translation, and both forget.
        unsafe { self.map.forbid_writes(|| blocks.iter().copied(), forget) };
        look_ahead(tlbs);
    }

    /// Makes a vCPU of core 0 write to a page, as the fault path does, and the other core use the
    /// block meanwhile.
    fn write(&mut self, input: u64) -> Result<(), MapError> {
        let tlbs = &self.tlbs;
        // SAFETY: the two TLBs are all that walks the translation, and both forget.
        unsafe { self.map.split(input, |what| forget(tlbs, input, what))? };
        look_ahead(tlbs);
        self.take_faults(input);
        Ok(())
    }

    /// Moves a page as the fault path does for a vCPU of core 0, and the other core uses the block
    /// meanwhile.
    fn move_page(&mut self, input: u64, output: u64) -> Result<(), MapError> {
        let tlbs = &self.tlbs;
        let forget = |what| {
            look_ahead(tlbs);
            tlbs.borrow_mut().iter_mut().for_each(|tlb| tlb.forget(what));
            let found = tlbs.borrow_mut()[1].access(input, false);
            assert_eq!(found, Access::Translation, "nothing is there until the new entry is");
        };
        // SAFETY: the two TLBs are all that walks the translation, and both forget.
        unsafe { self.map.move_page(&mut self.tables, input, output, true, forget)? };
        look_ahead(tlbs);
        self.take_faults(input);
        Ok(())
    }

    fn join(&mut self, input: u64) {
        let tlbs = &self.tlbs;
        // SAFETY: the two TLBs are all that walks the translation, and both forget.
        unsafe { self.map.join(input, |what| forget(tlbs, input, what)) };
        look_ahead(tlbs);
    }

    /// A core that has kept the read-only entry takes one fault more, and drops its copy then.
    fn take_faults(&self, input: u64) {
        for tlb in &mut *self.tlbs.borrow_mut() {
            if tlb.access(input, true) == Access::Permission {
                tlb.forget(Forget::Address(input));
            }
        }
    }
}

/// Both cores look up all that is mapped, ahead of an access, and whatever they remember.
fn look_ahead(tlbs: &RefCell<[Tlb; 2]>) {
    for tlb in &mut *tlbs.borrow_mut() {
        for page in PAGES.iter().chain(&BLOCKS) {
            tlb.fetch(*page);
        }
    }
}

/// Tells both cores to forget what the block of `input` was. They look everything up right before,
/// and find nothing of the block right after.
fn forget(tlbs: &RefCell<[Tlb; 2]>, input: u64, what: Forget) {
    look_ahead(tlbs);
    tlbs.borrow_mut().iter_mut().for_each(|tlb| tlb.forget(what));
    let in_block = |page: &u64| page / (2 * MIB) == input / (2 * MIB);
    for page in PAGES.into_iter().filter(in_block) {
        let found = tlbs.borrow_mut()[1].access(page, false);
        assert_eq!(found, Access::Translation, "nothing is there until the new entry is");
    }
}

#[test]
fn no_core_writes_once_writes_are_forbidden() {
    let mut guest = Guest::new(0);
    guest.forbid();
    PAGES.iter().chain(&BLOCKS).for_each(|page| guest.only_reads(*page));
}

#[test]
fn the_first_write_to_a_block_makes_one_page_writable() {
    let mut guest = Guest::stocked(1);
    guest.forbid();
    guest.write(PAGES[2]).unwrap();
    guest.writes(PAGES[2]);
    [PAGES[0], PAGES[1], PAGES[3], BLOCKS[1]].iter().for_each(|page| guest.only_reads(*page));
    guest.write(PAGES[0]).unwrap();
    guest.writes(PAGES[0]);
    guest.writes(PAGES[2]);
    guest.only_reads(PAGES[1]);
    assert_eq!(guest.write(BLOCKS[1]), Err(MapError::OutOfMemory), "there was one table");
    guest.only_reads(BLOCKS[1]);
}

#[test]
fn pages_are_one_block_again_when_writes_are_forbidden_again() {
    let mut guest = Guest::stocked(1);
    for _ in 0..3 {
        guest.forbid();
        assert!(!guest.map.is_split(GIB));
        guest.only_reads(GIB);
        guest.write(PAGES[0]).unwrap();
        guest.only_reads(PAGES[3]);
        assert!(guest.map.is_split(GIB) && !guest.map.is_split(BLOCKS[1]));
    }
    guest.forbid();
    guest.only_reads(PAGES[0]);
}

#[test]
fn pages_that_were_written_are_forbidden_and_their_block_stays_split() {
    let mut guest = Guest::stocked(1);
    guest.forbid();
    let written = |pages: &[usize]| {
        let mut words = [0; 8];
        pages.iter().for_each(|page| words[page / 64] |= 1 << (page % 64));
        Writable::Pages(words)
    };
    for pages in [[0, 511], [1, 256]] {
        let addresses = pages.map(|page| GIB + page as u64 * 4096);
        addresses.iter().for_each(|page| guest.write(*page).unwrap());
        addresses.iter().for_each(|page| guest.writes(*page));
        guest.forbid_all_of(&[(GIB, written(&pages))]);
        PAGES.iter().for_each(|page| guest.only_reads(*page));
        assert!(guest.map.is_split(GIB));
    }
    guest.join(BLOCKS[1]);
    guest.take_faults(BLOCKS[1]);
    guest.writes(BLOCKS[1]);
    guest.forbid_all_of(&[(BLOCKS[1], written(&[7]))]);
    guest.only_reads(BLOCKS[1]);
}

#[test]
fn a_page_that_moves_is_where_it_was_or_nowhere_until_it_is_where_it_goes() {
    let mut guest = Guest::new(1);
    guest.forbid();
    let moves = [(PAGES[2], 9), (PAGES[0], 10), (PAGES[2], 11), (PAGES[2], 11)];
    for (page, frame) in moves {
        guest.move_page(page, frame * GIB).unwrap();
        for core in 0..2 {
            assert_eq!(guest.access(core, page, true), Access::Made(frame * GIB));
        }
        guest.only_reads(PAGES[1]);
        guest.only_reads(PAGES[3]);
    }
    assert_eq!(guest.move_page(BLOCKS[1], 12 * GIB), Err(MapError::OutOfMemory), "one table");
    guest.only_reads(BLOCKS[1]);
    assert_eq!(guest.map.page_tables(), 1);
}

#[test]
fn a_block_of_which_pages_have_moved_is_mapped_page_by_page() {
    let mut guest = Guest::new(1);
    let moved = [(0, 9 * GIB), (256, 10 * GIB), (511, 11 * GIB)];
    let at = GIB + 4 * MIB;
    let attributes = Attributes::guest_ram_unwritten();
    let mut map =
        || guest.map.map_scattered(&mut guest.tables, at, at + GIB, attributes, moved.into_iter());
    map().unwrap();
    assert_eq!(map(), Err(MapError::Mapped { input: at }));
    // Miri takes too long for each page: it has those that have moved, and their neighbours.
    let is_looked_at = |page: &u64| !cfg!(miri) || [0, 1, 255, 256, 257, 510, 511].contains(page);
    for page in (0..512).filter(is_looked_at) {
        let own = moved.into_iter().find(|(number, _)| *number == page as usize);
        let expected = own.map_or(at + GIB + page * 4096, |(_, output)| output);
        assert_eq!(guest.access(0, at + page * 4096, false), Access::Made(expected));
        assert_eq!(guest.access(0, at + page * 4096, true), Access::Permission);
    }
    assert!(guest.map.is_split(at));
}

#[test]
fn a_core_that_does_not_forget_would_write_on() {
    let mut guest = Guest::new(0);
    let blocks = || BLOCKS.map(|block| (block, Writable::Block)).into_iter();
    // SAFETY: it is not true that the cores forget: this is what the TLBs are asked about.
    unsafe { guest.map.forbid_writes(blocks, |_| ()) };
    guest.writes(BLOCKS[0]);
}

#[test]
fn pages_are_one_writable_block_again_when_the_checkpoint_is_over() {
    let mut guest = Guest::stocked(1);
    guest.forbid();
    guest.write(PAGES[2]).unwrap();
    PAGES.iter().for_each(|page| assert_ne!(guest.access(1, *page, false), Access::Translation));
    guest.join(PAGES[3]);
    assert!(!guest.map.is_split(GIB));
    PAGES.iter().for_each(|page| guest.writes(*page));
    guest.only_reads(BLOCKS[1]);
    guest.join(BLOCKS[1]);
    guest.take_faults(BLOCKS[1]);
    guest.writes(BLOCKS[1]);
}

#[test]
fn a_block_stays_as_it_is_without_memory_for_its_pages() {
    let mut guest = Guest::new(0);
    guest.forbid();
    assert_eq!(guest.write(PAGES[0]), Err(MapError::OutOfMemory));
    PAGES.iter().for_each(|page| guest.only_reads(*page));
}

#[test]
fn tables_of_pages_are_given_back_with_the_others() {
    let mut guest = Guest::stocked(2);
    guest.forbid();
    guest.write(BLOCKS[0]).unwrap();
    guest.write(BLOCKS[1]).unwrap();
    guest.join(BLOCKS[1]);
    guest.map.stock(Spares::default());
    assert_eq!((guest.tables.left, guest.map.page_tables()), (0, 2));
    // SAFETY: 1. This is the only source of tables here. 2. and 3. No core walks the translation.
    unsafe { guest.map.clear(&mut guest.tables, |_| ()) };
    assert_eq!((guest.tables.left, guest.map.page_tables()), (3, 0), "all but the root");
}

#[test]
fn what_is_not_mapped_stays_so() {
    let mut guest = Guest::stocked(1);
    assert!(!guest.map.is_split(5 * GIB));
    assert_eq!(guest.write(GIB + 4 * MIB), Ok(()));
    guest.join(5 * GIB);
    // SAFETY: nothing is mapped there, so no core has a copy of it.
    unsafe {
        guest.map.forbid_writes(
            || [0, 5 * GIB].map(|block| (block, Writable::Pages([1; 8]))).into_iter(),
            |_| (),
        )
    };
    assert_eq!(guest.access(0, GIB + 4 * MIB, false), Access::Translation);
    assert_eq!(guest.map.page_tables(), 1);
}

#[test]
fn tables_that_were_not_used_are_given_back_by_who_has_them() {
    let mut tables = Heap { left: 3 };
    let mut spares = Spares::default();
    (0..3).for_each(|_| spares.add(&mut tables).unwrap());
    assert_eq!((tables.left, spares.count()), (0, 3));
    // SAFETY: this is the only source of tables here.
    unsafe { spares.release(&mut tables) };
    assert_eq!(tables.left, 3);
}

#[test]
fn a_translation_is_stocked_again_with_what_it_lacks() {
    let mut guest = Guest::stocked(1);
    guest.forbid();
    guest.write(BLOCKS[0]).unwrap();
    guest.tables.left = 2;
    let mut spares = Spares::default();
    (0..2).for_each(|_| spares.add(&mut guest.tables).unwrap());
    guest.join(BLOCKS[0]);
    guest.map.stock(spares);
    assert_eq!(guest.map.page_tables(), 3);
    guest.forbid();
    BLOCKS.iter().for_each(|block| guest.write(*block).unwrap());
    // SAFETY: 1. This is the only source of tables here. 2. and 3. No core walks the translation.
    unsafe { guest.map.clear(&mut guest.tables, |_| ()) };
    assert_eq!(guest.tables.left, 4, "three of pages, and one above them");
}

/// A walker of another core knows nothing of the order in which a test does things: it finds the
/// right page, or nothing.
#[test]
fn a_walker_finds_the_same_page_or_nothing_while_blocks_are_split_and_joined() {
    let mut guest = Guest::stocked(1);
    let root = guest.map.root() as usize;
    let done = core::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(core::sync::atomic::Ordering::Relaxed) {
                for page in PAGES {
                    assert!(walk(root, page).is_none_or(|output| output == page + 3 * GIB));
                }
            }
        });
        let Guest { map, .. } = &mut guest;
        for page in PAGES.iter().cycle().take(if cfg!(miri) { 4 } else { 100 }) {
            // SAFETY: the walker keeps no copies. It may be in the midst of a walk: then it reads a
            // table that is kept for later, and is not released while the walker runs.
            unsafe {
                map.split(*page, |_| ()).unwrap();
                map.join(*page, |_| ());
                map.forbid_writes(
                    || BLOCKS.map(|block| (block, Writable::Block)).into_iter(),
                    |_| (),
                );
            }
        }
        done.store(true, core::sync::atomic::Ordering::Relaxed);
    });
}
