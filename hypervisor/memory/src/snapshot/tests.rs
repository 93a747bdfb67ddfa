//! What a [`Snapshot`] reads is the memory of its instant, on a machine with caches; and a guest
//! that writes meanwhile, for Miri.

mod caches;

use super::*;
use crate::fake::FakeRam;
use crate::machine::Portable;
use crate::ram::Since;
use crate::{GuestMemory, WriteRam};
use stasis_state::routines;
use std::vec;
use std::vec::Vec;

const PAGES: usize = 8;
const SIZE: usize = PAGES * PAGE_SIZE;

/// Returns memory whose pages have their number in all bytes, but for the last one, which is zeros.
fn memory() -> FakeRam {
    let mut ram = FakeRam::new(SIZE);
    for page in 0..PAGES - 1 {
        ram.write(page * PAGE_SIZE, &[page as u8 + 1; PAGE_SIZE]).unwrap();
    }
    ram
}

fn bytes(ram: &dyn ReadRam) -> Vec<u8> {
    let mut bytes = vec![0; ram.len()];
    ram.read(0, &mut bytes).unwrap();
    bytes
}

/// Memory on the host's heap, which is never freed.
#[repr(align(4096))]
struct Frames(#[allow(dead_code, reason = "it is looked at through memory alone")] [u8; 2 * SIZE]);

fn room(len: usize, frames: usize) -> Room<Portable> {
    let bytes = Room::<Portable>::bytes(len, frames);
    let memory = Box::leak(Box::new(Frames([0xee; 2 * SIZE])));
    let start = core::ptr::NonNull::from(memory).cast();
    assert!(bytes <= 2 * SIZE);
    // SAFETY: 1. The memory was leaked, so it lives for ever, and one `GuestRam` is made of it. 2.
    // The reference to it became a pointer, and is not used again. 3. Nobody but the `GuestRam`
    // accesses it.
    let ram = unsafe { GuestRam::uncleared(start, bytes) }.unwrap();
    Room::new(Marks::new(len).unwrap(), ram, &mut || ())
}

/// Returns what a look at pages of a memory finds.
fn contents(ram: &dyn ReadRam, pages: Range<usize>) -> Vec<Content> {
    let mut contents = vec![Content::Raw(0); pages.len()];
    ram.look(pages.start * PAGE_SIZE, &mut contents).unwrap();
    contents
}

/// Checks that all ways to read the snapshot find these bytes.
fn assert_is(snapshot: &Snapshot<Portable>, expected: &[u8]) {
    assert!(bytes(snapshot) == expected, "other bytes");
    for range in [0..SIZE, 8..SIZE - 16, PAGE_SIZE + 24..PAGE_SIZE + 32] {
        let crc = routines::crc32c(5, &expected[range.clone()]);
        assert_eq!(snapshot.crc32c(5, range.clone()), Ok(crc), "{range:?}");
        let mut part = vec![0; range.len()];
        snapshot.read(range.start, &mut part).unwrap();
        assert!(part == expected[range]);
    }
    let expected = expected.to_vec();
    assert_eq!(snapshot.pages_with_content(0, PAGES), expected.pages_with_content(0, PAGES));
    assert_eq!(
        snapshot.pages_with_content(PAGE_SIZE, 2),
        expected.pages_with_content(PAGE_SIZE, 2)
    );
    for page in 0..PAGES {
        assert_eq!(snapshot.word(page * PAGE_SIZE), expected.word(page * PAGE_SIZE), "{page}");
    }
    for pages in [0..PAGES, 1..PAGES, 1..2] {
        assert_eq!(contents(snapshot, pages.clone()), contents(&expected, pages));
    }
}

#[test]
fn what_was_written_since_is_not_read() {
    let mut ram = memory();
    let then = bytes(&*ram);
    let snapshot = ram.begin_snapshot(room(SIZE, PAGES), Since::Ever);
    assert_is(&snapshot, &then);
    ram.write(PAGE_SIZE - 1, &[0xff; 2]).unwrap();
    ram.store_u64(SIZE - 8, u64::MAX).unwrap();
    assert_is(&snapshot, &then);
    ram.zero_all(&mut || ());
    assert_is(&snapshot, &then);
    assert!(bytes(&*ram) == vec![0; SIZE] && !snapshot.is_spoiled());
}

#[test]
fn a_released_page_is_not_copied_and_its_frame_serves_another() {
    let mut ram = memory();
    let then = bytes(&*ram);
    let snapshot = ram.begin_snapshot(room(SIZE, 1), Since::Ever);
    ram.write(0, &[0xff]).unwrap();
    assert_eq!(snapshot.keep(PAGE_SIZE), Err(NoFrame), "there was one");
    assert!(snapshot.release_and_ask(0..PAGE_SIZE, &mut || ()), "somebody waits");
    assert!(!snapshot.release_and_ask(0..PAGE_SIZE, &mut || ()), "and is told once");
    ram.write(0, &[0xfe]).unwrap();
    ram.write(PAGE_SIZE, &[0xff]).unwrap();
    let mut rest = vec![0; SIZE - PAGE_SIZE];
    snapshot.read(PAGE_SIZE, &mut rest).unwrap();
    assert!(rest == then[PAGE_SIZE..] && !snapshot.is_spoiled());
}

#[test]
fn what_can_t_be_kept_spoils_the_snapshot() {
    let mut ram = memory();
    let snapshot = ram.begin_snapshot(room(SIZE, 0), Since::Ever);
    assert!(!snapshot.is_spoiled());
    ram.write(0, &[0xff]).unwrap();
    assert!(snapshot.is_spoiled(), "a checkpoint of it would be wrong");
}

#[test]
fn what_was_never_written_stays_without_content() {
    let mut ram = FakeRam::new(2 * BLOCK_SIZE);
    ram.write(0, &[1]).unwrap();
    let snapshot = ram.begin_snapshot(room(2 * BLOCK_SIZE, 0), Since::Ever);
    ram.write(BLOCK_SIZE, &[1]).unwrap();
    assert_eq!(snapshot.next_content(0), Some(0));
    assert_eq!(snapshot.next_content(BLOCK_SIZE), None);
    assert!(!snapshot.is_spoiled() && snapshot.is_done_with(BLOCK_SIZE));
    assert!(!snapshot.is_done_with(0));
    let _ = snapshot.release_and_ask(0..BLOCK_SIZE, &mut || ());
    assert!(snapshot.is_done_with(0));
}

#[test]
fn memory_that_ends_in_the_midst_of_a_block_has_no_content_behind_its_end() {
    let mut ram = memory();
    assert_eq!(ram.next_content(SIZE), None);
    let snapshot = ram.begin_snapshot(room(SIZE, 0), Since::Ever);
    assert_eq!(snapshot.next_content(SIZE - 1), Some(SIZE - 1));
    assert_eq!(snapshot.next_content(SIZE), None);
}

#[test]
fn memory_that_a_snapshot_may_read_is_not_given_to_another() {
    let mut ram = FakeRam::new(SIZE);
    let snapshot = ram.begin_snapshot(room(SIZE, 1), Since::Ever);
    let owner = core::mem::replace(&mut *ram, GuestRam::none());
    assert_eq!(owner.into_range(&mut || ()), None);
    drop(snapshot);
}

#[test]
fn what_is_not_in_memory_is_not_read() {
    let mut ram = memory();
    let snapshot = ram.begin_snapshot(room(SIZE, 1), Since::Ever);
    assert!(snapshot.read(SIZE - 1, &mut [0; 2]).is_err());
    assert!(snapshot.crc32c(0, 0..SIZE + 1).is_err());
    assert!(snapshot.pages_with_content(SIZE - PAGE_SIZE, 2).is_err());
    assert!(snapshot.look(SIZE - PAGE_SIZE, &mut [Content::Zero; 2]).is_err());
}

/// A guest writes each page of its memory as soon as it may, and the reader reads all of them
/// meanwhile.
#[test]
fn a_guest_that_writes_as_fast_as_it_can_changes_nothing_that_is_read() {
    let mut ram = memory();
    let then = bytes(&*ram);
    for frames in [0, 2, PAGES] {
        for page in 0..PAGES {
            ram.write(page * PAGE_SIZE, &then[page * PAGE_SIZE..][..PAGE_SIZE]).unwrap();
        }
        let snapshot = ram.begin_snapshot(room(SIZE, frames), Since::Ever);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for page in (0..PAGES).rev() {
                    while snapshot.keep(page * PAGE_SIZE).is_err() {
                        std::thread::yield_now();
                    }
                    // What a vCPU does: the owner is asked for nothing.
                    snapshot.ram.write(page * PAGE_SIZE, &[0xaa; PAGE_SIZE]).unwrap();
                }
            });
            for page in 0..PAGES {
                let range = bytes_of(page);
                let content = then[range.clone()] != [0; PAGE_SIZE];
                assert_eq!(snapshot.pages_with_content(range.start, 1), Ok(content.into()));
                let crc = routines::crc32c(0, &then[range.clone()]);
                assert_eq!(snapshot.crc32c(0, range.clone()), Ok(crc));
                let found = contents(&*snapshot, page..page + 1);
                assert_eq!(found, contents(&then, page..page + 1));
                let mut part = vec![0; PAGE_SIZE];
                snapshot.read(range.start, &mut part).unwrap();
                assert!(part == then[range.clone()], "page {page}, {frames} frames");
                let _ = snapshot.release_and_ask(range, &mut || ());
            }
        });
        assert!(bytes(&*ram) == vec![0xaa; SIZE]);
        ram.commit(Baseline { number: 1, identity: 1 });
    }
}
