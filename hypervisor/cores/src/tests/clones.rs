//! Guests that share memory, and a snapshot of one of them: whoever looks for a page finds what is
//! in it, and nobody writes what others still use.

use super::check;
use super::copies::{Words, copies};
use crate::clones::{Entry, Users};
use crate::copies::{Copies, Refused};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering, fence};
use loom::thread;

/// What the page has when it is shared.
const OLD: u32 = 7;
/// What its guest writes then.
const NEW: u32 = 8;
/// What a frame has that nobody has written yet.
const GARBAGE: u32 = 9;
/// Addresses: of a table, of a frame, and of what a frame had in the place of an address.
const TABLE: u64 = 0x1000;
const FRAME: u64 = 0x2000;
const STRAY: u64 = 0x3000;

/// The memory of a guest that shares its one page, and what belongs to it.
struct Memory {
    /// The page in the block that all have.
    base: AtomicU32,
    users: Users,
    /// The address of the table, and its one entry, in a frame that was somebody else's before.
    table: Entry,
    entry: Entry,
    frame: AtomicU32,
    copies: Copies<Words>,
    kept: AtomicU32,
}

impl Memory {
    /// Returns memory that two guests share.
    fn new() -> Arc<Self> {
        let (users, entry) = (Users::default(), Entry::default());
        users.add();
        entry.put(STRAY);
        Arc::new(Self {
            base: AtomicU32::new(OLD),
            users,
            table: Entry::default(),
            entry,
            frame: AtomicU32::new(GARBAGE),
            copies: copies(1, 1),
            kept: AtomicU32::new(GARBAGE),
        })
    }

    /// Moves the page to its frame, as `Map::make_own` does.
    fn move_page(&self) {
        // A table is zeros before anybody is told of it.
        self.entry.0.store(0, Ordering::Relaxed);
        self.table.put(TABLE);
        self.frame.store(OLD, Ordering::Relaxed);
        self.entry.put(FRAME);
    }

    /// Returns the frame of the page, if it has one, as `Map::frame` does.
    fn frame(&self) -> Option<&AtomicU32> {
        assert_eq!(self.table.find()?, TABLE);
        let address = self.entry.find()?;
        assert_eq!(address, FRAME, "a word of who had the frame before is taken for an address");
        Some(&self.frame)
    }

    /// A vCPU's first write to the page: the fault, and the write when that is answered.
    fn write(&self) {
        let copy = |_| self.kept.store(OLD, Ordering::Relaxed);
        self.copies.keep(0, Refused::Waits, copy).unwrap();
        let place = if self.users.is_one() {
            &self.base
        } else {
            self.move_page();
            &self.frame
        };
        // The barriers around the change of the page table.
        fence(Ordering::SeqCst);
        place.store(NEW, Ordering::Relaxed);
    }

    /// Reads the page as it was at the instant, as `Snapshot::read` does.
    fn read(&self) -> u32 {
        let read = || self.frame().unwrap_or(&self.base).load(Ordering::Relaxed);
        self.copies.unwritten(0..1, read).unwrap_or_else(|| self.kept.load(Ordering::Relaxed))
    }
}

#[test]
fn who_finds_a_frame_finds_the_copy_in_it() {
    check(|| {
        let memory = Memory::new();
        let owner = {
            let memory = memory.clone();
            thread::spawn(move || memory.move_page())
        };
        for _ in 0..2 {
            let found = memory.frame().map(|frame| frame.load(Ordering::Relaxed));
            assert!(found.is_none_or(|found| found == OLD), "the copy is not there");
        }
        owner.join().unwrap();
        assert!(memory.frame().is_some());
    });
}

/// The page that is stored moves, or is written where it is, while its clone goes.
#[test]
fn a_checkpoint_beside_a_guest_that_writes_and_a_clone_that_goes_is_of_its_instant() {
    check(|| {
        let memory = Memory::new();
        let vcpu = {
            let memory = memory.clone();
            thread::spawn(move || memory.write())
        };
        let clone = {
            let memory = memory.clone();
            thread::spawn(move || {
                let found = memory.base.load(Ordering::Relaxed);
                assert_eq!(found, OLD, "the other guest's write is in the clone");
                assert!(!memory.users.leave(), "one has it still");
            })
        };
        assert_eq!(memory.read(), OLD);
        vcpu.join().unwrap();
        clone.join().unwrap();
        assert_eq!(memory.read(), OLD);
        let now = memory.frame().unwrap_or(&memory.base).load(Ordering::Relaxed);
        assert_eq!(now, NEW);
    });
}

/// A block of which the accesses are known that are no atomics, and its users.
struct Block {
    page: UnsafeCell<u32>,
    users: Users,
}

impl Block {
    fn new(users: usize) -> Arc<Self> {
        let block = Self { page: UnsafeCell::new(OLD), users: Users::default() };
        (1..users).for_each(|_| block.users.add());
        Arc::new(block)
    }
}

#[test]
fn who_is_left_alone_with_a_block_writes_it_after_all_others_have_read_it() {
    check(|| {
        let block = Block::new(2);
        let clone = {
            let block = block.clone();
            thread::spawn(move || {
                block.page.with(|_| ());
                assert!(!block.users.leave());
            })
        };
        if block.users.is_one() {
            block.page.with_mut(|_| ());
        }
        clone.join().unwrap();
        assert!(block.users.is_one());
    });
}

#[test]
fn a_block_goes_back_once_and_after_all_have_left_it() {
    check(|| {
        let block = Block::new(3);
        let guests = [0, 1].map(|_| {
            let block = block.clone();
            thread::spawn(move || leave(&block))
        });
        let is_last = leave(&block);
        let are_last = guests.map(|guest| guest.join().unwrap());
        assert_eq!(usize::from(is_last) + are_last.map(usize::from).iter().sum::<usize>(), 1);
    });
}

/// Reads a block for the last time. Who is the last one hands it to somebody who writes it. Returns
/// whether it was.
fn leave(block: &Block) -> bool {
    block.page.with(|_| ());
    let is_last = block.users.leave();
    if is_last {
        block.page.with_mut(|_| ());
    }
    is_last
}
