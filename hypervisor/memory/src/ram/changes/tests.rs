//! Histories of a memory, which a guest, the hypervisor, and checkpoints write, load and store:
//! each checkpoint that is committed is the memory of its instant, put together from what was taken
//! and the one before.

use super::*;
use crate::fake::FakeRam;
use crate::machine::Portable;
use crate::{GuestMemory, ReadRam, WriteRam};
use proptest::prelude::*;
use stasis_state::change::BLOCK_PAGES;
use stasis_state::{BlockChange, PAGE_SIZE};
use std::boxed::Box;
use std::vec;
use std::vec::Vec;

/// Two blocks, and a part of one.
const PAGES: usize = 2 * BLOCK_PAGES + 3;
const LEN: usize = PAGES * PAGE_SIZE;
/// Pages at the edges of words, blocks and the memory.
const EDGES: [usize; 9] = [0, 1, 63, 64, 511, 512, 1023, 1024, 1026];
/// Frames of a snapshot.
const FRAMES: usize = 6;

/// What each page has in its first word. All else is zeros.
type Content = Vec<u64>;

/// A checkpoint that is under way.
struct Taken {
    snapshot: Arc<Snapshot<Portable>>,
    then: Content,
    stored: Content,
    /// Blocks that were stored.
    done: usize,
}

/// A guest's memory, its stage 2, and its checkpoints.
struct Guest {
    ram: FakeRam,
    is: Content,
    may_write: Vec<bool>,
    taken: Option<Taken>,
    committed: Vec<Content>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The guest writes a page.
    Write(usize),
    /// The guest writes each page of a block.
    Fill(usize),
    /// The hypervisor writes a page, or two by one write.
    Own(usize),
    OwnTwo(usize),
    Zero(usize),
    Begin(Since),
    /// The checkpoint stores a block.
    Store,
    Commit,
    Fail,
    /// A checkpoint is loaded in the place of the guest.
    Resume(usize),
    Forget,
}

fn pages_of(block: usize) -> Range<usize> {
    block * BLOCK_PAGES..PAGES.min((block + 1) * BLOCK_PAGES)
}

fn room() -> Room<Portable> {
    #[repr(align(4096))]
    struct Frames([u8; (FRAMES + 2) * PAGE_SIZE]);
    let bytes = Room::<Portable>::bytes(LEN, FRAMES);
    assert!(bytes <= size_of::<Frames>());
    let memory = Box::leak(Box::new(Frames([0xee; (FRAMES + 2) * PAGE_SIZE])));
    assert!(memory.0[0] == 0xee);
    let start = core::ptr::NonNull::from(memory).cast();
    // SAFETY: 1. The memory was leaked, so it lives for ever, and one `GuestRam` is made of it. 2.
    // The reference to it became a pointer, and is not used again. 3. Nobody but the `GuestRam`
    // accesses it.
    let ram = unsafe { GuestRam::uncleared(start, bytes) }.unwrap();
    Room::new(Marks::new(LEN).unwrap(), ram, &mut || ())
}

impl Guest {
    fn new() -> Self {
        Self {
            ram: FakeRam::new(LEN),
            is: vec![0; PAGES],
            may_write: vec![false; PAGES],
            taken: None,
            committed: Vec::new(),
        }
    }

    fn write(&mut self, page: usize, value: u64) {
        if !self.may_write[page] {
            match self.ram.first_write(page * PAGE_SIZE + 8) {
                Err(_) => return,
                Ok(Reach::Page) => self.may_write[page] = true,
                Ok(Reach::At(_)) => panic!("nothing is shared"),
                Ok(Reach::Block) => self.may_write[pages_of(page / BLOCK_PAGES)].fill(true),
            }
        }
        // A vCPU asks the owner for nothing.
        self.ram.raw.store_u64(page * PAGE_SIZE, value).unwrap();
        self.is[page] = value;
    }

    fn begin(&mut self, since: Since) {
        if self.taken.is_some() {
            return;
        }
        for (offset, part) in self.ram.changed_blocks() {
            for page in pages_of(offset / BLOCK_SIZE) {
                let is_changed = match part {
                    Part::All => true,
                    Part::Pages(bits) => bits.contains(page % BLOCK_PAGES),
                };
                self.may_write[page] &= !is_changed;
            }
        }
        assert!(self.may_write.iter().all(|may_write| !may_write), "a page escapes");
        let snapshot = self.ram.begin_snapshot(room(), since);
        let (then, stored) = (self.is.clone(), vec![0; PAGES]);
        self.taken = Some(Taken { snapshot, then, stored, done: 0 });
    }

    fn store(&mut self) {
        let Some(taken) = self.taken.as_mut().filter(|taken| taken.done < 3) else { return };
        let pages = pages_of(taken.done);
        let Taken { snapshot, stored, .. } = taken;
        let before = |page: usize| match snapshot.baseline() {
            Some(baseline) => self.committed[baseline.number as usize][page],
            None => panic!("page {page} is in no checkpoint"),
        };
        let change = snapshot.block_change(pages.start * PAGE_SIZE);
        for page in pages.clone() {
            let mut word = [0; 8];
            snapshot.read(page * PAGE_SIZE, &mut word).unwrap();
            stored[page] = match change {
                BlockChange::Empty => 0,
                BlockChange::Pages(bits) if bits.contains(page - pages.start) => {
                    u64::from_le_bytes(word)
                }
                _ => before(page),
            };
        }
        let _ =
            snapshot.release_and_ask(pages.start * PAGE_SIZE..pages.end * PAGE_SIZE, &mut || ());
        taken.done += 1;
    }

    fn commit(&mut self) {
        if self.taken.is_none() {
            return;
        }
        (0..3).for_each(|_| self.store());
        if self.taken.as_ref().is_some_and(|taken| taken.snapshot.is_spoiled()) {
            return self.fail();
        }
        let Some(Taken { snapshot, then, stored, .. }) = self.taken.take() else { return };
        let differs = (0..PAGES).find(|page| then[*page] != stored[*page]);
        assert_eq!(differs, None, "the checkpoint is of another instant");
        self.ram.commit(Baseline { number: self.committed.len() as u64, identity: 7 });
        drop(snapshot);
        self.committed.push(stored);
    }

    fn fail(&mut self) {
        let Some(Taken { snapshot, .. }) = self.taken.take() else { return };
        self.ram.end_snapshot();
        let (_, pages) = Arc::into_inner(snapshot).expect("nobody else has it").into_parts();
        self.ram.put_back(&pages);
    }

    fn resume(&mut self, which: usize) {
        self.fail();
        if which >= self.committed.len() {
            return;
        }
        self.ram.forget_baseline();
        self.is = self.committed[which].clone();
        for (page, value) in self.is.iter().enumerate() {
            match value {
                0 => self.ram.zero(page * PAGE_SIZE..(page + 1) * PAGE_SIZE).unwrap(),
                _ => self.ram.write(page * PAGE_SIZE, &value.to_le_bytes()).unwrap(),
            }
        }
        self.ram.set_baseline(Baseline { number: which as u64, identity: 7 });
        self.may_write.fill(false);
    }

    fn take(&mut self, step: Step, value: u64) {
        match step {
            Step::Write(page) => self.write(page, value),
            Step::Fill(block) => pages_of(block).for_each(|page| self.write(page, value)),
            Step::Own(page) => {
                self.ram.store_u64(page * PAGE_SIZE, value).unwrap();
                self.is[page] = value;
            }
            Step::OwnTwo(page) => {
                let last = page.max(1) - 1;
                let mut bytes = [0; PAGE_SIZE + 8];
                bytes[..8].copy_from_slice(&value.to_le_bytes());
                bytes[PAGE_SIZE..].copy_from_slice(&value.to_le_bytes());
                self.ram.write(last * PAGE_SIZE, &bytes).unwrap();
                self.is[last..last + 2].fill(value);
            }
            Step::Zero(page) => {
                let end = PAGES.min(page + 2);
                self.ram.zero(page * PAGE_SIZE..end * PAGE_SIZE).unwrap();
                self.is[page..end].fill(0);
            }
            Step::Begin(since) => self.begin(since),
            Step::Store => self.store(),
            Step::Commit => self.commit(),
            Step::Fail => self.fail(),
            Step::Resume(which) => self.resume(which),
            Step::Forget => {
                // A snapshot under way has the memory as it was, with the baseline of its instant.
                self.ram.forget_baseline();
            }
        }
        self.check();
    }

    /// Checks that no page can be written unmarked, and that what is not marked is in the baseline.
    fn check(&self) {
        let baseline = self.ram.baseline().filter(|_| self.taken.is_none());
        for page in 0..PAGES {
            let is_marked = self.ram.changed.contains(page * PAGE_SIZE);
            assert!(is_marked || !self.may_write[page], "page {page} is written unseen");
            if let (Some(baseline), false) = (baseline, is_marked) {
                let stored = self.committed[baseline.number as usize][page];
                assert_eq!(self.is[page], stored, "page {page} is not in the baseline");
            }
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let page = || prop::sample::select(&EDGES[..]);
    let since = prop_oneof![1 => Just(Since::Ever), 3 => Just(Since::Baseline)];
    let step = prop_oneof![
        8 => page().prop_map(Step::Write),
        1 => (0..3usize).prop_map(Step::Fill),
        2 => page().prop_map(Step::Own),
        1 => page().prop_map(Step::OwnTwo),
        1 => page().prop_map(Step::Zero),
        5 => since.prop_map(Step::Begin),
        2 => Just(Step::Store),
        4 => Just(Step::Commit),
        2 => Just(Step::Fail),
        1 => (0..3usize).prop_map(Step::Resume),
        1 => Just(Step::Forget),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn each_committed_checkpoint_is_the_memory_of_its_instant(steps in steps()) {
        let mut guest = Guest::new();
        for (n, step) in steps.into_iter().enumerate() {
            guest.take(step, n as u64 + 1);
        }
    }
}

/// Does the steps in order.
fn history(steps: &[Step]) -> Guest {
    let mut guest = Guest::new();
    steps.iter().enumerate().for_each(|(n, step)| guest.take(*step, n as u64 + 1));
    guest
}

fn changed(guest: &Guest) -> Vec<usize> {
    (0..PAGES).filter(|page| guest.ram.changed.contains(page * PAGE_SIZE)).collect()
}

#[test]
fn what_a_checkpoint_that_failed_had_taken_has_changed_again() {
    use Step::*;
    let first = [Fill(0), Begin(Since::Baseline), Commit];
    let mut guest = history(&[&first[..], &[Write(5), Begin(Since::Baseline), Fail]].concat());
    assert_eq!(changed(&guest), [5]);
    guest.take(Write(7), 9);
    guest.take(Begin(Since::Baseline), 10);
    guest.take(Commit, 11);
    assert_eq!(guest.committed[1][5..8], [4, 1, 9]);
    assert_eq!(changed(&guest), []);
}

#[test]
fn a_snapshot_keeps_pages_also_when_the_baseline_is_forgotten_meanwhile() {
    use Step::*;
    let begun = [Write(512), Begin(Since::Ever), Forget, Fill(1)];
    let mut guest = history(&begun);
    guest.take(Commit, 9);
    assert_eq!(guest.committed[0][512..514], [1, 0]);
    let mut guest = history(&begun);
    guest.take(Fail, 9);
    assert_eq!(changed(&guest), (512..1024).collect::<Vec<_>>());
}

#[test]
fn what_the_hypervisor_writes_itself_has_changed() {
    use Step::*;
    let guest = history(&[Fill(0), Begin(Since::Baseline), Commit, Own(3), OwnTwo(64), Zero(9)]);
    assert_eq!(changed(&guest), [3, 9, 10, 63, 64]);
}

#[test]
fn the_first_write_to_a_block_that_was_never_written_is_the_only_fault_of_it() {
    use Step::*;
    let guest = history(&[Write(0), Begin(Since::Baseline), Commit, Write(512)]);
    assert_eq!(changed(&guest), pages_of(1).collect::<Vec<_>>());
    assert!(guest.may_write[pages_of(1)].iter().all(|may_write| *may_write));
}

#[test]
fn a_block_of_which_each_page_was_written_is_one_again() {
    use Step::*;
    let mut guest = history(&[Fill(0), Begin(Since::Baseline), Commit]);
    for page in 0..BLOCK_PAGES {
        let is_last = page == BLOCK_PAGES - 1;
        let reach = guest.ram.first_write(page * PAGE_SIZE);
        assert_eq!(reach, Ok(if is_last { Reach::Block } else { Reach::Page }), "{page}");
    }
}

#[test]
fn without_a_checkpoint_a_block_has_one_fault() {
    let mut guest = Guest::new();
    guest.write(600, 1);
    assert!(pages_of(1).all(|page| guest.may_write[page]));
    assert!(guest.ram.is_block_changed(600 * PAGE_SIZE) && !guest.ram.is_block_changed(0));
}

#[test]
fn what_was_loaded_is_what_its_checkpoint_has() {
    use Step::*;
    let mut guest =
        history(&[Fill(0), Write(1024), Begin(Since::Baseline), Commit, Fill(1), Resume(0)]);
    assert_eq!(changed(&guest), []);
    assert_eq!(guest.ram.baseline().map(|baseline| baseline.number), Some(0));
    guest.take(Begin(Since::Baseline), 9);
    let snapshot = &guest.taken.as_ref().unwrap().snapshot;
    let blocks = [0, 1, 2].map(|block| snapshot.block_change(block * BLOCK_SIZE));
    assert_eq!(blocks, [BlockChange::Unchanged; 3], "also the one that has become zeros again");
}

#[test]
fn a_page_that_the_checkpoint_does_not_take_needs_no_frame() {
    use Step::*;
    let mut guest =
        history(&[Fill(0), Begin(Since::Baseline), Commit, Write(3), Begin(Since::Baseline)]);
    for page in 10..10 + 2 * FRAMES {
        assert_eq!(guest.ram.first_write(page * PAGE_SIZE), Ok(Reach::Page));
    }
    guest.take(Write(3), 9);
    guest.take(Commit, 10);
    assert_eq!(guest.committed[1][3], 4);
}

#[test]
fn a_block_that_can_t_be_split_is_marked_as_a_whole_unless_a_snapshot_wants_its_pages() {
    use Step::*;
    let mut guest = history(&[Fill(0), Fill(1), Begin(Since::Ever)]);
    assert!(!guest.ram.mark_block_changed(0));
    guest.take(Store, 9);
    assert!(guest.ram.mark_block_changed(0) && !guest.ram.mark_block_changed(BLOCK_SIZE));
    assert_eq!(changed(&guest), pages_of(0).collect::<Vec<_>>());
}
