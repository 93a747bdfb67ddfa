//! A history that is short enough for Miri, which sees each access to a frame that has gone back,
//! and each frame that nobody gives back.

use super::*;

/// Frames of the heap: those for what is written here, and the tables of four blocks.
const FRAMES: usize = 12;

/// Returns the heap's blocks, which are zeros already: Miri would take a minute to clear them.
fn zeros(heap: &Heap) -> GuestRam<Portable> {
    let start = NonNull::new(with_exposed_provenance_mut(heap.start as usize)).unwrap();
    // SAFETY: 1. The heap has the blocks until its end, after that of all guests, and this is
    // called once. 2. and 3. Guests access them by pointers alone.
    let mut ram = unsafe { GuestRam::uncleared(start, LEN) }.unwrap();
    ram.finish_writing(&mut || ());
    ram
}

/// Checks the first words of some pages, as the hypervisor finds them and as the guest does.
fn check(guest: &Guest) {
    for page in EDGES {
        assert_eq!(guest.ram.load_u64(page * PAGE_SIZE), Ok(guest.is[page]), "page {page}");
        // SAFETY: the page is the guest's, of memory that lives as long as the heap.
        let found = unsafe { with_exposed_provenance::<u64>(guest.stage2[page].0 as usize).read() };
        assert_eq!(found, guest.is[page], "page {page} of the guest's");
    }
}

#[test]
fn pages_move_to_frames_and_back_beside_a_snapshot() {
    let heap = Heap::new(FRAMES);
    let mut first = Guest::new(zeros(heap), vec![0; PAGES]);
    [(1, 1), (512, 2)].into_iter().for_each(|(page, value)| first.write(page, value, heap));
    let mut clone = first.share(heap).unwrap();
    first.write(1, 3, heap);
    // The page moves while a snapshot has it, and then another one where no frame was shared.
    clone.begin();
    clone.write(1, 4, heap);
    clone.write(512, 5, heap);
    check(&clone);
    clone.end();
    // A page that has moved moves again: its frame has two users now.
    let mut second = clone.share(heap).unwrap();
    second.write(1, 6, heap);
    clone.write(1, 7, heap);
    clone.write(700, 8, heap);
    [&first, &clone, &second].into_iter().for_each(check);
    drop(first);
    // The hypervisor writes, too, and stage 2 sees it later.
    second.own(0..1, 9);
    clone.write(63, 10, heap);
    [&clone, &second].into_iter().for_each(check);
    drop(clone);
    second.write(64, 11, heap);
    check(&second);
    drop(second);
    assert_eq!(*heap.left.lock().unwrap(), FRAMES, "a frame is lost");
    assert_eq!(heap.returned.lock().unwrap().len(), BLOCKS);
    heap.end();
}
