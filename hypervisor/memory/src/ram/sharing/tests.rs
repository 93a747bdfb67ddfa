//! Histories of guests that are cloned, write, are stored and removed: each finds in its memory
//! what it wrote, and nothing that another one wrote, and nobody keeps memory that he does not
//! need.

mod loaded;
mod short;

use super::*;
use crate::ReadRam;
use crate::access::GuestMemory;
use crate::machine::Portable;
use crate::ram::{Reach, Since, Wait};
use crate::snapshot::{Marks, Room, Snapshot};
use crate::stock::{GivenBack, NotShared, Stock};
use core::ptr::{NonNull, with_exposed_provenance, with_exposed_provenance_mut};
use proptest::prelude::*;
use stasis_state::change::BLOCK_PAGES;
use stasis_state::{BlockChange, WriteRam};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::boxed::Box;
use std::sync::Mutex;
use std::vec;
use std::vec::Vec;

const BLOCKS: usize = 2;
const PAGES: usize = BLOCKS * BLOCK_PAGES;
const LEN: usize = PAGES * PAGE_SIZE;
/// Pages at the edges of words and blocks.
const EDGES: [usize; 8] = [0, 1, 63, 64, 511, 512, 700, 1023];
/// Most guests at a time.
const GUESTS: usize = 4;
/// Frames of a snapshot.
const KEPT: usize = 6;

/// Memory of the host: two blocks for the first guest, and one of frames, of which some can be had.
#[derive(Debug)]
struct Heap {
    start: u64,
    stock: Mutex<Stock>,
    left: Mutex<usize>,
    returned: Mutex<Vec<u64>>,
}

fn layout() -> Layout {
    Layout::from_size_align((BLOCKS + 1) * BLOCK_SIZE, BLOCK_SIZE).unwrap()
}

impl Heap {
    fn new(frames: usize) -> &'static Self {
        // SAFETY: the layout has a size.
        let start = unsafe { alloc_zeroed(layout()) }.expose_provenance() as u64;
        assert!(start != 0);
        let mut stock = Stock::new();
        stock.add(start + LEN as u64).unwrap();
        let (stock, left) = (Mutex::new(stock), Mutex::new(frames));
        Box::leak(Box::new(Self { start, stock, left, returned: Mutex::default() }))
    }

    fn first_guest(&self) -> GuestRam<Portable> {
        let start = NonNull::new(with_exposed_provenance_mut(self.start as usize)).unwrap();
        // SAFETY: 1. The heap has the blocks until its end, after that of all guests, and this is
        // called once. 2. and 3. Guests access them by pointers alone.
        let mut ram = unsafe { GuestRam::new(start, LEN, &mut || ()) }.unwrap();
        ram.finish_writing(&mut || ());
        ram
    }

    /// Ends the heap, which nobody uses any more.
    fn end(&self) {
        // SAFETY: the memory came from `alloc_zeroed` with this layout, and all guests are gone.
        unsafe { dealloc(with_exposed_provenance_mut(self.start as usize), layout()) };
    }
}

// SAFETY: 1. The pages are of the host's heap, with exposed provenance. 2. The stock gives each to
// one user, and counts the others. 3. The host fetches no instructions from there.
unsafe impl Frames for Heap {
    fn take(&self) -> Option<NonNull<u8>> {
        let mut left = self.left.lock().unwrap();
        *left = left.checked_sub(1)?;
        let frame = self.stock.lock().unwrap().take()?;
        NonNull::new(with_exposed_provenance_mut(frame as usize))
    }

    fn share(&self, frame: u64) -> Result<(), NotShared> {
        self.stock.lock().unwrap().share(frame)
    }

    fn is_shared(&self, frame: u64) -> bool {
        self.stock.lock().unwrap().is_shared(frame)
    }

    unsafe fn give_back(&self, frame: u64) {
        let mut stock = self.stock.lock().unwrap();
        if !stock.is_shared(frame) {
            *self.left.lock().unwrap() += 1;
        }
        if let GivenBack::Whole(block) = stock.give_back(frame) {
            stock.add(block.start).unwrap();
        }
    }

    unsafe fn give_back_block(&self, start: u64) {
        self.returned.lock().unwrap().push(start);
    }
}

/// A checkpoint that is under way, and what the memory was.
struct Taken {
    snapshot: Arc<Snapshot<Portable>>,
    then: Vec<u64>,
}

/// A guest: its memory, what each page should have in its first word, and its stage 2: where each
/// page is, and whether the guest may write it.
struct Guest {
    ram: GuestRam<Portable>,
    is: Vec<u64>,
    stage2: Vec<(u64, bool)>,
    taken: Option<Taken>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A guest writes a page.
    Write(usize, usize),
    /// The hypervisor writes a page of a guest, or the end of one and the begin of the next.
    Own(usize, usize),
    OwnTwo(usize, usize),
    Zero(usize, usize),
    Fill(usize, usize),
    Clone(usize),
    Remove(usize),
    Begin(usize),
    End(usize),
}

fn room() -> Room<Portable> {
    let bytes = Room::<Portable>::bytes(LEN, KEPT);
    let layout = Layout::from_size_align(bytes, PAGE_SIZE).unwrap();
    // SAFETY: the layout has a size. The memory is never given back.
    let start = NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap();
    // SAFETY: 1. The memory lives for ever, and one `GuestRam` is made of it. 2. and 3. Nobody else
    // knows of it.
    let memory = unsafe { GuestRam::uncleared(start, bytes) }.unwrap();
    Room::new(Marks::new(LEN).unwrap(), memory, &mut || ())
}

impl Guest {
    fn new(ram: GuestRam<Portable>, is: Vec<u64>) -> Self {
        let is_writable = |page| ram.is_block_writable(page * PAGE_SIZE);
        let stage2 = (0..PAGES).map(|page| (ram.address_of(page * PAGE_SIZE), is_writable(page)));
        Self { stage2: stage2.collect(), ram, is, taken: None }
    }

    fn write(&mut self, page: usize, value: u64, heap: &Heap) {
        if !self.stage2[page].1 {
            match self.ram.first_write(page * PAGE_SIZE + 8) {
                Err(Wait::Snapshot) => return assert!(self.taken.is_some()),
                Err(Wait::Frame) => return,
                Ok(Reach::Page) => self.stage2[page].1 = true,
                Ok(Reach::At(address)) => {
                    let before = self.stage2[page].0;
                    let is_frame = before >= heap.start + LEN as u64;
                    // Another core may still read it there: nobody may write it yet.
                    assert!(before == address || !is_frame || heap.is_shared(before), "it is gone");
                    self.stage2[page] = (address, true);
                    // SAFETY: that is all of this stage 2.
                    unsafe { self.ram.seen() };
                }
                Ok(Reach::Block) => {
                    let first = page - page % BLOCK_PAGES;
                    self.stage2[first..first + BLOCK_PAGES]
                        .iter_mut()
                        .for_each(|page| page.1 = true);
                }
            }
        }
        // SAFETY: the page is the guest's, of memory that lives as long as the heap.
        unsafe { with_exposed_provenance_mut::<u64>(self.stage2[page].0 as usize).write(value) };
        self.is[page] = value;
    }

    /// Makes stage 2 what the memory says after the hypervisor has written.
    fn see(&mut self) {
        self.ram.take_lack();
        for offset in self.ram.unseen_pages() {
            self.stage2[offset / PAGE_SIZE] = (self.ram.address_of(offset), false);
        }
        // SAFETY: this stage 2 has all pages where they are.
        unsafe { self.ram.all_seen() };
        assert!(!self.ram.has_unseen());
    }

    fn own(&mut self, pages: Range<usize>, value: u64) {
        let all = pages.start * PAGE_SIZE..pages.end * PAGE_SIZE;
        let written = match value % 2 {
            0 => self.ram.fill(all, value),
            _ => self.ram.write(all.start, &vec![value.to_le_bytes(); all.len() / 8].concat()),
        };
        if written.is_ok() {
            self.is[pages].fill(value);
        }
        self.see();
    }

    fn forbid_writes(&mut self) {
        for (offset, part) in self.ram.changed_blocks() {
            for page in 0..BLOCK_PAGES {
                let is_changed = match part {
                    crate::pages::Part::All => true,
                    crate::pages::Part::Pages(bits) => bits.contains(page),
                };
                self.stage2[offset / PAGE_SIZE + page].1 &= !is_changed;
            }
        }
        assert!(self.stage2.iter().all(|page| !page.1), "a page escapes");
    }

    fn share(&mut self, heap: &'static Heap) -> Option<Self> {
        if self.taken.is_some() {
            return None;
        }
        self.forbid_writes();
        // SAFETY: this stage 2 lets nobody write anything.
        let ram = unsafe { self.ram.share(heap, &mut || ()) }.ok()?;
        let clone = Self::new(ram, self.is.clone());
        assert!(clone.stage2.iter().all(|page| !page.1), "the clone may write what is shared");
        Some(clone)
    }

    fn begin(&mut self) {
        if self.taken.is_none() {
            self.forbid_writes();
            let snapshot = self.ram.begin_snapshot(room(), Since::Ever);
            self.taken = Some(Taken { snapshot, then: self.is.clone() });
        }
    }

    fn end(&mut self) {
        let Some(Taken { snapshot, then }) = self.taken.take() else { return };
        let is_whole = !snapshot.is_spoiled();
        for page in EDGES {
            let mut word = [0; 8];
            snapshot.read(page * PAGE_SIZE, &mut word).unwrap();
            let expected = match snapshot.block_change(page * PAGE_SIZE) {
                BlockChange::Pages(bits) if bits.contains(page % BLOCK_PAGES) => then[page],
                _ => continue,
            };
            assert!(!is_whole || u64::from_le_bytes(word) == expected, "page {page} is newer");
        }
        self.ram.end_snapshot();
        let (_, taken) = Arc::into_inner(snapshot).unwrap().into_parts();
        self.ram.put_back(&taken);
    }

    fn check(&self) {
        for page in EDGES {
            let found = self.ram.load_u64(page * PAGE_SIZE).unwrap();
            assert_eq!(found, self.is[page], "page {page} of the hypervisor's");
            let mut bytes = vec![0; PAGE_SIZE];
            self.ram.read(page * PAGE_SIZE, &mut bytes).unwrap();
            let crc = self.ram.crc32c(0, page * PAGE_SIZE..(page + 1) * PAGE_SIZE);
            assert_eq!(crc, bytes.crc32c(0, 0..PAGE_SIZE), "page {page}");
            assert_eq!(self.ram.word(page * PAGE_SIZE), bytes.word(0), "page {page}");
            let content = self.ram.pages_with_content(page * PAGE_SIZE, 1);
            assert_eq!(content, bytes.pages_with_content(0, 1), "page {page}");
            // SAFETY: the page is the guest's, of memory that lives as long as the heap.
            let found =
                unsafe { with_exposed_provenance::<u64>(self.stage2[page].0 as usize).read() };
            assert_eq!(found, self.is[page], "page {page} of the guest's");
        }
        let Usage { own, shared } = self.ram.usage();
        assert_eq!(own + shared, LEN as u64);
    }
}

fn step() -> impl Strategy<Value = Step> {
    let guest = || 0..GUESTS;
    let page = || prop::sample::select(&EDGES[..]);
    prop_oneof![
        10 => (guest(), page()).prop_map(|(guest, page)| Step::Write(guest, page)),
        2 => (guest(), page()).prop_map(|(guest, page)| Step::Own(guest, page)),
        1 => (guest(), page()).prop_map(|(guest, page)| Step::OwnTwo(guest, page)),
        1 => (guest(), page()).prop_map(|(guest, page)| Step::Zero(guest, page)),
        1 => (guest(), page()).prop_map(|(guest, page)| Step::Fill(guest, page)),
        3 => guest().prop_map(Step::Clone),
        2 => guest().prop_map(Step::Remove),
        1 => guest().prop_map(Step::Begin),
        1 => guest().prop_map(Step::End),
    ]
}

/// Does one step, with the number of a guest among those that there are.
fn take(step: Step, guests: &mut Vec<Guest>, heap: &'static Heap, value: u64) {
    let count = guests.len();
    match step {
        Step::Write(n, page) => guests[n % count].write(page, value, heap),
        Step::Own(n, page) => guests[n % count].own(page..page + 1, value),
        Step::OwnTwo(n, page) => guests[n % count].own(page..PAGES.min(page + 2), value),
        Step::Zero(n, page) => {
            let guest = &mut guests[n % count];
            if guest.ram.zero(page * PAGE_SIZE..(page + 1) * PAGE_SIZE).is_ok() {
                guest.is[page] = 0;
            }
            guest.see();
        }
        Step::Fill(n, page) => {
            let guest = &mut guests[n % count];
            if guest.ram.fill(page * PAGE_SIZE..(page + 1) * PAGE_SIZE, value).is_ok() {
                guest.is[page] = value;
            }
            guest.see();
        }
        Step::Clone(n) if count < GUESTS => {
            let clone = guests[n % count].share(heap);
            guests.extend(clone);
        }
        Step::Remove(n) if count > 1 => {
            let mut guest = guests.swap_remove(n % count);
            guest.end();
            assert!(guest.ram.into_range(&mut || ()).is_some(), "nobody has it any more");
        }
        Step::Clone(_) | Step::Remove(_) => {}
        Step::Begin(n) => guests[n % count].begin(),
        Step::End(n) => guests[n % count].end(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    #[cfg_attr(miri, ignore = "it looks at more memory than Miri does in a minute: see short")]
    fn each_guest_finds_what_it_wrote_and_nobody_keeps_what_he_does_not_need(
        steps in proptest::collection::vec(step(), 0..80),
        frames in prop_oneof![Just(8usize), Just(512)],
    ) {
        let heap = Heap::new(frames);
        let mut guests = vec![Guest::new(heap.first_guest(), vec![0; PAGES])];
        for (step, value) in steps.into_iter().zip(1..) {
            take(step, &mut guests, heap, value);
            guests.iter().for_each(Guest::check);
        }
        let is_mapped = guests[0].ram.is_mapped();
        guests.iter_mut().for_each(Guest::end);
        drop(guests);
        prop_assert_eq!(*heap.left.lock().unwrap(), frames, "a frame is lost");
        let mut returned = heap.returned.lock().unwrap().clone();
        returned.sort_unstable();
        let blocks = (0..BLOCKS as u64).map(|n| heap.start + n * BLOCK_SIZE as u64);
        prop_assert_eq!(returned, if is_mapped { blocks.collect() } else { Vec::new() });
        heap.end();
    }
}

#[test]
#[cfg_attr(miri, ignore = "it looks at more memory than Miri does in a minute: see short")]
fn who_is_left_alone_with_a_block_writes_it_where_it_is() {
    let heap = Heap::new(0);
    let mut first = Guest::new(heap.first_guest(), vec![0; PAGES]);
    let mut clone = first.share(heap).unwrap();
    clone.write(7, 1, heap);
    assert_eq!(clone.is[7], 0, "there is no frame");
    assert_eq!(clone.ram.usage(), Usage { own: 0, shared: LEN as u64 });
    drop(first);
    clone.write(7, 1, heap);
    assert_eq!((clone.is[7], clone.stage2[8].1), (1, true), "the whole block is writable");
    assert_eq!(clone.ram.usage(), Usage { own: LEN as u64, shared: 0 });
    clone.check();
    drop(clone);
    heap.end();
}

#[test]
#[cfg_attr(miri, ignore = "it looks at more memory than Miri does in a minute: see short")]
fn the_hypervisor_waits_for_the_frame_that_a_write_lacks() {
    let heap = Heap::new(2);
    // SAFETY: the block is zeros, and nobody makes anything else of it before the heap's end.
    let mut ram = unsafe { GuestRam::<Portable>::of_zeros(heap.start, LEN, heap) }.unwrap();
    assert!(
        ram.write(0, &[1; 8]).is_ok() && !ram.lacks_frame(),
        "two frames: a table, and the page"
    );
    // SAFETY: no stage 2 has the memory.
    unsafe { ram.all_seen() };
    assert!(ram.write(PAGE_SIZE, &[2; 8]).is_err());
    assert!(ram.lacks_frame() && ram.has_unseen());
    assert!(ram.write(LEN, &[2; 8]).is_err(), "that is no RAM at all");
    // Whoever shows the pages that have moved does not forget it.
    // SAFETY: no stage 2 has the memory.
    unsafe { ram.all_seen() };
    assert!(ram.has_unseen() && ram.take_lack());
    assert!(!ram.lacks_frame() && !ram.take_lack());
    *heap.left.lock().unwrap() += 1;
    assert!(ram.store_u16(PAGE_SIZE, 3).is_ok() && !ram.lacks_frame());
    drop(ram);
    heap.end();
}

#[test]
#[cfg_attr(miri, ignore = "it looks at more memory than Miri does in a minute: see short")]
fn memory_of_zeros_takes_a_frame_for_each_page_that_is_written() {
    let heap = Heap::new(3);
    // SAFETY: the block is zeros, and nobody makes anything else of it before the heap's end.
    let ram = unsafe { GuestRam::<Portable>::of_zeros(heap.start, LEN, heap) }.unwrap();
    let mut guest = Guest::new(ram, vec![0; PAGES]);
    assert_eq!(guest.ram.usage(), Usage { own: 0, shared: 0 });
    guest.write(3, 5, heap);
    guest.own(4..5, 6);
    guest.write(5, 7, heap);
    assert_eq!(guest.is[3..6], [5, 6, 0], "one frame is the table");
    assert_eq!(guest.ram.usage(), Usage { own: 2 * PAGE_SIZE as u64, shared: 0 });
    // The other block is the same memory.
    assert_eq!(guest.ram.load_u64((BLOCK_PAGES + 3) * PAGE_SIZE), Ok(0));
    drop(guest);
    assert_eq!((*heap.left.lock().unwrap(), heap.returned.lock().unwrap().len()), (3, 0));
    heap.end();
}
