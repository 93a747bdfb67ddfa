//! Memory of zeros that is loaded while its guest runs: a page with content takes a frame when it
//! is brought, one of zeros takes none, and what finds no frame waits.

use super::*;
use crate::missing::{Missing, UNIT_SIZE};
use core::slice::from_raw_parts;

/// Pages of the unit that is brought, which have content.
const PAGES_WITH_CONTENT: [usize; 3] = [0, 2, 15];

/// Returns zeros that take frames as they are written. They are the heap's first block.
fn zeros(heap: &'static Heap) -> GuestRam<Portable> {
    // SAFETY: the heap's first block is zeros, and has its address exposed. It is there until the
    // heap ends, after its guests. Tests read it, and write it nowhere.
    unsafe { GuestRam::of_zeros(heap.start, LEN, heap) }.unwrap()
}

/// Returns zeros whose first block is missing.
fn missing_block(heap: &'static Heap) -> GuestRam<Portable> {
    let mut ram = zeros(heap);
    ram.reserve_tables(|block| block == 0).unwrap();
    ram.begin_loading(|block| block == 0);
    ram
}

/// Brings the unit at `start`, whose pages with content have their number in each byte. Returns
/// whether there were frames for all of them.
fn bring(ram: &mut GuestRam<Portable>, start: usize) -> bool {
    let missing: Arc<Missing<Portable>> = ram.missing().unwrap().clone();
    let unit = start..start + UNIT_SIZE;
    let mut filling = missing.fill(unit.clone()).unwrap();
    for number in PAGES_WITH_CONTENT {
        let at = start + number * PAGE_SIZE;
        if filling.claim(at..at + PAGE_SIZE).is_err() {
            return false;
        }
        filling.write(at, &vec![number as u8 + 1; PAGE_SIZE]).unwrap();
        let zeros = at + PAGE_SIZE..(at + 2 * PAGE_SIZE).min(unit.end);
        filling.zero(zeros).unwrap();
    }
    filling.finish();
    ram.note_frames(unit.clone());
    ram.mark_written(unit);
    let _ = missing.arrived(start);
    true
}

/// Checks that the unit at `start` is what was brought, and that the block of zeros is zeros.
fn check(ram: &GuestRam<Portable>, start: usize, heap: &Heap) {
    for number in 0..UNIT_SIZE / PAGE_SIZE {
        let mut bytes = vec![0xee; PAGE_SIZE];
        ram.read(start + number * PAGE_SIZE, &mut bytes).unwrap();
        let has_content = PAGES_WITH_CONTENT.contains(&number);
        let expected = if has_content { number as u8 + 1 } else { 0 };
        assert!(bytes == [expected; PAGE_SIZE], "page {number}");
    }
    // SAFETY: the block is the heap's, which was made zeros, and nobody has written it: else this
    // test fails.
    let block = unsafe { from_raw_parts::<u8>(with_exposed_provenance(heap.start as usize), LEN) };
    // Miri takes minutes for all of them.
    let mut tried = block.iter().step_by(if cfg!(miri) { 511 } else { 1 });
    assert!(tried.all(|byte| *byte == 0), "the zeros of all guests are none any more");
}

#[test]
fn a_page_with_content_takes_a_frame_and_one_of_zeros_takes_none() {
    let heap = Heap::new(10);
    let mut ram = missing_block(heap);
    assert_eq!(ram.missing().unwrap().left(), BLOCK_SIZE as u64, "what has no content is there");
    assert!(bring(&mut ram, UNIT_SIZE));
    check(&ram, UNIT_SIZE, heap);
    assert_eq!(ram.usage(), Usage { own: 3 * PAGE_SIZE as u64, shared: 0 });
    assert_eq!(*heap.left.lock().unwrap(), 10 - 1 - 3, "one for the table, and one for each page");
    // The guest writes what was brought where it is, and what was not, in a frame of its own.
    let content = ram.address_of(UNIT_SIZE);
    assert_eq!(ram.first_write(UNIT_SIZE), Ok(Reach::At(content)));
    let zeros = ram.address_of(UNIT_SIZE + PAGE_SIZE);
    assert!(matches!(ram.first_write(UNIT_SIZE + PAGE_SIZE), Ok(Reach::At(at)) if at != zeros));
    assert!(ram.first_write(BLOCK_SIZE).is_ok(), "a block that is not missing");
    drop(ram);
    assert_eq!(*heap.left.lock().unwrap(), 10, "a frame is lost");
    heap.end();
}

#[test]
fn what_finds_no_frame_goes_on_when_there_is_one_and_loses_nothing() {
    let heap = Heap::new(3);
    let mut ram = missing_block(heap);
    assert!(!bring(&mut ram, 0), "there are two frames for three pages");
    assert!(ram.read(0, &mut [0]).is_err() && !ram.is_block_there(0), "it is still missing");
    assert_eq!(*heap.left.lock().unwrap(), 0);
    *heap.left.lock().unwrap() += 1;
    assert!(bring(&mut ram, 0));
    check(&ram, 0, heap);
    drop(ram);
    assert_eq!(*heap.left.lock().unwrap(), 4, "a frame is lost");
    heap.end();
}

#[test]
fn a_page_that_has_no_frame_is_not_written() {
    let heap = Heap::new(10);
    let ram = missing_block(heap);
    let missing = ram.missing().unwrap().clone();
    let mut filling = missing.fill(0..UNIT_SIZE).unwrap();
    filling.claim(0..PAGE_SIZE).unwrap();
    assert!(filling.write(0, &vec![1; PAGE_SIZE + 1]).is_err(), "the second page is everybody's");
    assert!(filling.fill(PAGE_SIZE..2 * PAGE_SIZE, 1).is_err());
    assert!(filling.claim(UNIT_SIZE..UNIT_SIZE + 1).is_err(), "it is of another unit");
    filling.zero(0..UNIT_SIZE).unwrap();
    drop((missing, ram));
    assert_eq!(*heap.left.lock().unwrap(), 10, "a frame is lost");
    heap.end();
}

#[test]
fn what_is_given_up_in_its_midst_has_all_its_frames() {
    let heap = Heap::new(3);
    let mut ram = missing_block(heap);
    assert!(!bring(&mut ram, 0));
    ram.abandon_loading();
    assert_eq!(ram.moved_of_block(0).count(), 2, "stage 2 must find them where they are");
    drop(ram);
    assert_eq!(*heap.left.lock().unwrap(), 3, "a frame is lost");
    heap.end();
}

#[test]
#[should_panic(expected = "others would see what is loaded")]
fn what_was_written_is_not_loaded() {
    let mut ram = zeros(Heap::new(10));
    ram.store_u64(0, 1).unwrap();
    ram.begin_loading(|_| false);
}

#[test]
fn without_a_frame_for_its_tables_nothing_is_missing() {
    let heap = Heap::new(1);
    let ram = zeros(heap);
    assert!(ram.reserve_tables(|_| true).is_err(), "there are two blocks");
    drop(ram);
    assert_eq!(*heap.left.lock().unwrap(), 1);
    heap.end();
}
