//! Guests write while EL2 reads and writes. Miri sees whether that is a data race: a guest here is
//! a thread that makes the accesses of a vCPU, which are atomic ones of 8 bytes.

use super::*;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::boxed::Box;
use std::thread;

const WORDS: usize = PAGE_SIZE / 8;
/// Rounds of each side.
const ROUNDS: u64 = if cfg!(miri) { 2 } else { 500 };

#[repr(align(4096))]
struct Memory([AtomicU64; 2 * WORDS]);

/// Returns two pages, as EL2 has them, and as their guests do.
fn shared() -> (GuestRam<Portable>, &'static Memory) {
    let memory: &'static Memory =
        Box::leak(Box::new(Memory([const { AtomicU64::new(0xa5a5) }; 2 * WORDS])));
    let start = NonNull::from(memory).cast();
    // SAFETY: 1. The memory was leaked, so it lives for ever, and one `GuestRam` is made of it. 2.
    // The one reference to it is to atomics. 3. The guests of these tests access it by these
    // atomics alone.
    let ram = unsafe { GuestRam::new(start, size_of::<Memory>(), &mut || ()) }.unwrap();
    (ram, memory)
}

/// Makes a vCPU write each of `words` with numbers of which each byte is the same.
fn write(memory: &Memory, words: Range<usize>, round: u64) {
    let number = round % 200 * 0x0101_0101_0101_0101;
    memory.0[words].iter().for_each(|word| word.store(number, Ordering::Relaxed));
}

#[test]
fn a_guest_that_writes_meanwhile_is_no_data_race() {
    let (mut ram, memory) = shared();
    thread::scope(|scope| {
        scope.spawn(|| (1..=ROUNDS).for_each(|round| write(memory, 0..WORDS, round)));
        for _ in 0..ROUNDS {
            let mut page = [0; PAGE_SIZE];
            ram.read(0, &mut page).unwrap();
            assert!(
                page.as_chunks::<8>().0.iter().all(|word| word.iter().all(|byte| *byte == word[0])),
                "a word is read at once"
            );
            ram.crc32c(0, 0..PAGE_SIZE).unwrap();
            ram.pages_with_content(0, 2).unwrap();
            ram.write(PAGE_SIZE / 2, &[7; 64]).unwrap();
            ram.zero_all(&mut || ());
        }
    });
}

#[test]
fn several_guests_may_write_what_they_share() {
    let (mut ram, memory) = shared();
    thread::scope(|scope| {
        for guest in 1..=2 {
            scope.spawn(move || {
                (1..=ROUNDS).for_each(|round| write(memory, 0..WORDS, round + guest))
            });
        }
        for _ in 0..ROUNDS {
            ram.write(0, &[9; PAGE_SIZE]).unwrap();
            ram.crc32c(0, 0..PAGE_SIZE).unwrap();
        }
    });
}

/// The index of a queue is stored after what it counts, and seen before it: so is what it counts.
#[test]
fn what_a_guest_stored_before_an_index_is_seen_with_it() {
    let (mut ram, memory) = shared();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=ROUNDS {
                memory.0[1].store(round, Ordering::Relaxed);
                memory.0[0].store(round, Ordering::Release);
            }
            done.store(true, Ordering::Release);
        });
        let mut last = 0;
        while !done.load(Ordering::Acquire) {
            let index = ram.load_u64(0).unwrap();
            let entry = ram.load_u64(8).unwrap();
            assert!(index >= last && entry >= index, "entry {entry} of index {index}");
            last = index;
            ram.store_u64(PAGE_SIZE, index).unwrap();
        }
    });
    assert!(memory.0[WORDS].load(Ordering::Acquire) <= ROUNDS);
}
