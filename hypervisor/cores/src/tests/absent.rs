//! Whoever waits for a unit is woken, and finds what was brought.

use super::check;
use crate::absent::{Absent, Arrived, Asked, UNITS};
use alloc::vec;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering, fence};
use loom::thread;

/// What a unit has before it is brought, and what is brought.
const OLD: u32 = 7;
const NEW: u32 = 8;

/// Two units of one word each, in two blocks, and the entries of the translation that lead to them.
struct Memory {
    words: [AtomicU32; 2],
    entries: [AtomicU32; 2],
    absent: Absent,
}

impl Memory {
    fn new() -> Arc<Self> {
        let words = [AtomicU32::new(OLD), AtomicU32::new(OLD)];
        let entries = [AtomicU32::new(0), AtomicU32::new(0)];
        Arc::new(Self { words, entries, absent: Absent::new(vec![1, 1]) })
    }

    /// The loader brings the unit that is next. Returns whether somebody must be woken; `None` if
    /// all are there.
    fn bring(&self) -> Option<Arrived> {
        let unit = self.absent.next()?;
        self.words[unit / UNITS].store(NEW, Ordering::Relaxed);
        // The barrier behind the cache maintenance, before the entry is written.
        fence(Ordering::SeqCst);
        self.entries[unit / UNITS].store(1, Ordering::Relaxed);
        Some(self.absent.arrived(unit))
    }

    /// A vCPU's access to a unit: what it has read, or the answer to its fault.
    fn access(&self, n: usize) -> Result<u32, Asked> {
        if self.entries[n].load(Ordering::Relaxed) == 0 {
            return Err(self.absent.ask(n * UNITS));
        }
        // A walk's result comes before the access that it is for.
        fence(Ordering::SeqCst);
        Ok(self.words[n].load(Ordering::Relaxed))
    }
}

#[test]
fn who_waits_for_a_unit_is_woken_when_it_is_there() {
    check(|| {
        let memory = Memory::new();
        let vcpu = {
            let memory = memory.clone();
            thread::spawn(move || match memory.access(1) {
                Ok(word) => {
                    assert_eq!(word, NEW);
                    false
                }
                Err(Asked::Absent { .. }) => true,
                // The vCPU makes its access again, and finds the entry: it has had the lock after
                // the loader.
                Err(Asked::There) => {
                    assert_eq!(memory.access(1), Ok(NEW));
                    false
                }
            })
        };
        let mut is_woken = false;
        while let Some(arrived) = memory.bring() {
            is_woken |= arrived.is_waited_for;
        }
        let waits = vcpu.join().unwrap();
        assert!(!waits || is_woken, "it would sleep for ever");
    });
}

#[test]
fn who_is_told_that_a_unit_is_there_finds_what_was_brought() {
    check(|| {
        let memory = Memory::new();
        let hypervisor = {
            let memory = memory.clone();
            // The hypervisor has an address of its own, and no entry to wait for.
            thread::spawn(move || {
                if memory.absent.is_there(0) {
                    assert_eq!(memory.words[0].load(Ordering::Relaxed), NEW);
                }
            })
        };
        memory.bring();
        hypervisor.join().unwrap();
    });
}

#[test]
fn two_vcpus_that_want_a_unit_wake_the_loader_once_and_have_it_brought_once() {
    check(|| {
        let memory = Memory::new();
        let vcpus = [(); 2].map(|()| {
            let memory = memory.clone();
            thread::spawn(move || memory.absent.ask(UNITS) == Asked::Absent { is_first: true })
        });
        let woken = vcpus.into_iter().map(|vcpu| vcpu.join().unwrap());
        assert_eq!(woken.filter(|is_first| *is_first).count(), 1);
        // What is asked for is brought first, though another unit has a lower address.
        assert_eq!(memory.absent.next(), Some(UNITS));
        assert!(memory.absent.arrived(UNITS).is_waited_for);
        assert_eq!(memory.absent.next(), Some(0));
        assert!(!memory.absent.arrived(0).is_waited_for);
        assert_eq!(memory.absent.next(), None);
    });
}

/// Returns all units in the order in which they are brought from now on.
fn order(absent: &Absent) -> vec::Vec<usize> {
    let mut order = vec::Vec::new();
    while let Some(unit) = absent.next() {
        let _ = absent.arrived(unit);
        order.push(unit);
    }
    order
}

#[test]
fn what_is_wanted_comes_first_then_its_block_then_what_is_there_in_part() {
    loom::model(|| {
        let absent = Absent::new(vec![u32::MAX, 0b110, u32::MAX, 0b11]);
        assert_eq!(absent.left(), 2 * UNITS + 4);
        assert_eq!(absent.ask(3 * UNITS + 1), Asked::Absent { is_first: true });
        assert_eq!(absent.ask(2 * UNITS + 30), Asked::Absent { is_first: true });
        assert_eq!(absent.ask(2 * UNITS + 30), Asked::Absent { is_first: false });
        assert_eq!(absent.ask(UNITS), Asked::There);
        assert_eq!(absent.ask(4 * UNITS), Asked::There);
        let order = order(&absent);
        let wanted = [3 * UNITS + 1, 2 * UNITS + 30];
        assert_eq!(order[..2], wanted);
        assert_eq!(order[2..4], [2 * UNITS + 31, 2 * UNITS], "the rest, from there on");
        assert_eq!(order[33..36], [3 * UNITS, UNITS + 1, UNITS + 2], "there in part");
        assert!(order[36..].iter().copied().eq(0..UNITS), "the others");
        assert_eq!((absent.left(), absent.is_wanted()), (0, false));
    });
}

#[test]
fn a_block_is_whole_when_its_last_unit_is_there() {
    loom::model(|| {
        let absent = Absent::new(vec![0b101]);
        assert!(!absent.is_block_whole(0) && absent.is_block_whole(1));
        assert!(!absent.arrived(0).is_block_whole);
        assert_eq!(
            absent.arrived(2),
            Arrived { is_waited_for: false, is_block_whole: true, left: 0 }
        );
        assert!(absent.is_block_whole(0));
    });
}

#[test]
fn who_asks_for_many_units_takes_some_of_the_places_and_is_told_of_any_arrival() {
    loom::model(|| {
        let absent = Absent::new(vec![0, 0b111, 0, u32::MAX]);
        assert!(!absent.ask_all(0..UNITS) && !absent.ask_all(UNITS + 3..3 * UNITS));
        assert!(!absent.ask_all(4 * UNITS..usize::MAX) && !absent.ask_all(UNITS..UNITS));
        assert!(!absent.is_wanted() && !absent.is_waited_for());
        assert!(absent.ask_all(UNITS + 1..usize::MAX));
        // The places for those who ask for one.
        assert_eq!(absent.ask(UNITS), Asked::Absent { is_first: true });
        assert!(absent.ask_all(UNITS + 1..UNITS + 2) && absent.is_waited_for());
        let many = [UNITS + 1, UNITS + 2].into_iter().chain(3 * UNITS..);
        for unit in many.take(16).chain([UNITS]) {
            assert_eq!(absent.next(), Some(unit), "nothing is asked for twice");
            assert_eq!(absent.arrived(unit).is_waited_for, unit == UNITS + 1);
        }
        assert!(!absent.is_wanted());
        assert!(absent.ask_all(0..usize::MAX));
        assert_eq!(absent.next(), Some(3 * UNITS + 14), "it goes on with the rest");
    });
}

#[test]
fn a_unit_that_could_not_be_brought_is_still_wanted_and_the_next_one() {
    loom::model(|| {
        let absent = Absent::new(vec![u32::MAX]);
        absent.prefer(vec![5, 6]);
        assert!(absent.ask_all(9..11));
        for _ in 0..3 {
            assert_eq!(absent.next(), Some(9));
            assert!(absent.is_wanted() && absent.is_waited_for());
        }
        assert!(absent.arrived(9).is_waited_for && absent.is_wanted());
        assert_eq!(absent.next(), Some(10));
        let _ = absent.arrived(10);
        assert!(!absent.is_wanted());
        assert_eq!(absent.next(), Some(5));
        assert_eq!(absent.take_noted(), (vec![9, 10, 5], 2));
    });
}
