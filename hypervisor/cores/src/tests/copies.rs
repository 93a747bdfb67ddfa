//! What the reader reads is the memory of the instant, whatever is written meanwhile.

use super::check;
use crate::copies::{Copies, NoFrame, Notes, Refused};
use core::array::from_fn;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering, fence};
use loom::thread;
use std::vec;
use std::vec::Vec;

/// The number of the first page; the second one is in another block.
const PAGES: [usize; 2] = [0, 512];
/// What the memory has at the instant.
const OLD: u32 = 7;

/// Notes on the heap.
pub struct Words(Vec<u64>);

impl Notes for Words {
    fn load(&self, index: usize) -> u64 {
        self.0[index]
    }

    fn store(&mut self, index: usize, word: u64) {
        self.0[index] = word;
    }
}

pub fn copies(pages: usize, frames: usize) -> Copies<Words> {
    Copies::new(pages, frames, Words(vec![0; Copies::<Words>::words(pages, frames)]))
}

/// Two pages of one word each, and frames.
struct Memory {
    pages: [AtomicU32; 2],
    frames: [AtomicU32; 2],
    copies: Copies<Words>,
}

impl Memory {
    fn new(frames: usize) -> Arc<Self> {
        let word = |_| AtomicU32::new(OLD);
        let frames_of_it = from_fn(|_| AtomicU32::new(0));
        Arc::new(Self { pages: from_fn(word), frames: frames_of_it, copies: copies(1024, frames) })
    }

    /// A vCPU's first write to a page: the fault, and the write when that is answered.
    fn write(&self, page: usize, value: u32) -> Result<(), NoFrame> {
        // Not read from the page: of the accesses before a store, loom tries other orders with the
        // last one alone, and that must be the reader's.
        self.keep(page, Refused::Waits)?;
        // The barriers around the change of the page table.
        fence(Ordering::SeqCst);
        self.pages[page].store(value, Ordering::Relaxed);
        Ok(())
    }

    /// A write of the hypervisor's, which does not wait and changes no page table.
    fn write_at_once(&self, page: usize, value: u32) {
        let _ = self.keep(page, Refused::Writes);
        self.pages[page].store(value, Ordering::Relaxed);
    }

    fn keep(&self, page: usize, refused: Refused) -> Result<(), NoFrame> {
        let copy = |frame: usize| self.frames[frame].store(OLD, Ordering::Relaxed);
        self.copies.keep(PAGES[page], refused, copy).map(drop)
    }

    fn read(&self, page: usize) -> u32 {
        let number = PAGES[page];
        let read = || self.pages[page].load(Ordering::Relaxed);
        self.copies.unwritten(number..number + 1, read).unwrap_or_else(|| {
            let frame = self.copies.frame_of(number).expect("a copy stays until it is released");
            self.frames[frame].load(Ordering::Relaxed)
        })
    }
}

#[test]
fn what_is_read_is_of_the_instant() {
    check(|| {
        let memory = Memory::new(2);
        let vcpu = {
            let memory = memory.clone();
            thread::spawn(move || memory.write(0, 8).unwrap())
        };
        for _ in 0..2 {
            assert_eq!(memory.read(0), OLD);
        }
        let _ = memory.copies.release(1);
        vcpu.join().unwrap();
        assert_eq!(memory.pages[0].load(Ordering::Relaxed), 8);
    });
}

#[test]
fn two_vcpus_that_write_a_page_at_a_time_copy_it_once() {
    check(|| {
        let memory = Memory::new(1);
        let vcpus = [8, 9].map(|value| {
            let memory = memory.clone();
            thread::spawn(move || memory.write(0, value).unwrap())
        });
        assert_eq!(memory.read(0), OLD);
        vcpus.into_iter().for_each(|vcpu| vcpu.join().unwrap());
        assert_eq!(memory.read(0), OLD);
    });
}

#[test]
fn who_finds_no_frame_is_told_of_the_next_release() {
    check(|| {
        let memory = Memory::new(0);
        let vcpu = {
            let memory = memory.clone();
            thread::spawn(move || memory.write(0, 8).is_err())
        };
        assert_eq!(memory.read(0), OLD);
        let is_told = memory.copies.release(1);
        let waits = vcpu.join().unwrap();
        assert!(!waits || is_told || memory.copies.release(1), "it would sleep for ever");
        assert_eq!(memory.write(0, 9), Ok(()), "a released page needs no frame");
    });
}

#[test]
fn frames_are_used_again_once_their_pages_are_released() {
    check(|| {
        let memory = Memory::new(1);
        let vcpu = {
            let memory = memory.clone();
            thread::spawn(move || {
                memory.write(0, 8).unwrap();
                memory.write(1, 8)
            })
        };
        assert_eq!(memory.read(0), OLD);
        let _ = memory.copies.release(512);
        assert_eq!(memory.read(1), OLD);
        let _ = vcpu.join().unwrap();
        assert_eq!(memory.write(1, 9), Ok(()));
        assert_eq!(memory.read(1), OLD);
        assert!(memory.copies.is_released(512) && !memory.copies.is_released(513));
    });
}

#[test]
fn a_write_that_finds_no_frame_and_does_not_wait_is_known_to_who_has_read_it() {
    check(|| {
        let memory = Memory::new(0);
        let hypervisor = {
            let memory = memory.clone();
            thread::spawn(move || memory.write_at_once(0, 8))
        };
        let read = memory.read(0);
        assert!(
            read == OLD || memory.copies.is_spoiled(),
            "the checkpoint would be taken for true"
        );
        hypervisor.join().unwrap();
        assert!(memory.copies.is_spoiled());
    });
}

/// What is noted is what a list of pages and their frames would say, with pages at the edges of
/// words and blocks, and frames that are used again.
#[test]
fn each_page_has_the_frame_that_it_was_given_until_it_is_released() {
    check(|| {
        let copies = copies(1030, 7);
        let keep = |page| {
            let mut frame = None;
            let kept = copies.keep(page, Refused::Waits, |taken| frame = Some(taken));
            kept.map(|_| frame)
        };
        let pages = [0, 3, 4, 511, 512, 1028, 1029];
        for (n, page) in pages.into_iter().enumerate() {
            assert_eq!(keep(page), Ok(Some(n)), "a frame that nobody has");
            assert_eq!(keep(page), Ok(None), "it is kept already");
        }
        assert_eq!(keep(513), Err(NoFrame));
        let frames = |pages: &[usize]| pages.iter().map(|page| copies.frame_of(*page)).collect();
        let found: Vec<_> = frames(&pages);
        assert_eq!(found, (0..7).map(Some).collect::<Vec<_>>());
        let is_known = |pages| copies.unwritten(pages, || ()).is_none();
        assert!(is_known(0..1) && is_known(3..4) && is_known(508..512) && is_known(1029..1030));
        assert!(!is_known(1..3) && !is_known(5..511) && !is_known(513..1028));
        assert!(copies.release(512), "somebody waits");
        let found: Vec<_> = frames(&pages);
        assert_eq!(found, [None, None, None, None, Some(4), Some(5), Some(6)]);
        let mut again: Vec<_> = (514..518).map(|page| keep(page).unwrap().unwrap()).collect();
        again.sort_unstable();
        assert_eq!(again, [0, 1, 2, 3]);
        assert_eq!(keep(518), Err(NoFrame));
    });
}
