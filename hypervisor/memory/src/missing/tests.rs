//! What is [missing](Missing) is reached by nobody but its loader, until it is there.

use super::*;
use crate::fake::FakeRam;
use crate::machine::Portable;
use crate::{GuestMemory, GuestRam, ReadRam, WriteRam};
use core::ptr::NonNull;
use stasis_state::routines;
use std::vec;

const SIZE: usize = 2 * BLOCK_SIZE + 3 * UNIT_SIZE;
/// A unit in the last block, which is shorter.
const LAST: Range<usize> = SIZE - UNIT_SIZE..SIZE;

/// Memory whose first block was written, and of whose last one content is to come.
fn ram() -> FakeRam {
    let mut ram = FakeRam::new(SIZE);
    ram.finish_writing(&mut || ());
    ram.write(5, &[0xaa; 7]).unwrap();
    ram.begin_loading(|offset| offset == 2 * BLOCK_SIZE);
    ram
}

/// Brings all that is missing, each unit with its number in all bytes.
fn bring_all(ram: &mut GuestRam<Portable>) {
    let missing = ram.missing().unwrap().clone();
    while let Some(unit) = missing.next() {
        let mut filling = missing.fill(unit.clone()).unwrap();
        filling.write(unit.start, &vec![(unit.start / UNIT_SIZE) as u8; unit.len()]).unwrap();
        filling.finish();
        ram.mark_written(unit.clone());
        let _ = missing.arrived(unit.start);
    }
}

#[test]
fn what_was_never_written_and_has_no_content_is_not_missing() {
    let ram = ram();
    let missing = ram.missing().unwrap();
    assert_eq!(missing.left(), (BLOCK_SIZE + 3 * UNIT_SIZE) as u64);
    assert!(!missing.is_there(0..1) && !missing.is_there(LAST));
    assert!(missing.is_block_there(BLOCK_SIZE) && missing.is_there(BLOCK_SIZE..2 * BLOCK_SIZE));
    assert!(ram.is_finished() && !ram.may_have_content(0), "the guest may run");
    assert_eq!(missing.ask(SIZE), Asked::There, "nothing is brought that is not in the memory");
}

#[test]
fn the_hypervisor_is_refused_what_is_missing() {
    let mut ram = ram();
    let before = ram.missing().unwrap().left();
    assert!(ram.read(3, &mut [0; 2]).is_err() && ram.write(0, &[1]).is_err());
    assert!(ram.read(BLOCK_SIZE - 1, &mut [0; 2]).is_err(), "a byte of it is");
    assert!(ram.crc32c(0, LAST).is_err() && ram.pages_with_content(LAST.start, 1).is_err());
    assert!(ram.zero(0..8).is_err());
    assert!(ram.load_u64(0).is_err() && ram.store_u16(0, 1).is_err());
    assert!(ram.load_u32_past_caches(LAST.start).is_err());
    assert_eq!(ram.load_u64(BLOCK_SIZE), Ok(0));
    assert_eq!(ram.write(BLOCK_SIZE, &[1]), Ok(()));
    assert_eq!(ram.read(3, &mut []), Ok(()), "nothing is everywhere");
    assert_eq!(ram.missing().unwrap().left(), before);
}

#[test]
fn what_has_arrived_is_what_was_brought() {
    let mut ram = ram();
    bring_all(&mut ram);
    ram.end_loading();
    let mut bytes = vec![0; SIZE];
    ram.read(0, &mut bytes).unwrap();
    for (number, unit) in bytes.chunks(UNIT_SIZE).enumerate() {
        let expected = if (UNITS..2 * UNITS).contains(&number) { 0 } else { number as u8 };
        assert!(*unit == [expected; UNIT_SIZE][..unit.len()], "unit {number}");
    }
    assert!(ram.missing().is_none() && ram.is_finished());
    assert_eq!(ram.written_blocks().collect::<Vec<_>>(), [0, 2 * BLOCK_SIZE]);
}

#[test]
fn only_a_unit_that_is_missing_is_filled() {
    let ram = ram();
    let missing = ram.missing().unwrap();
    assert!(missing.fill(BLOCK_SIZE..BLOCK_SIZE + UNIT_SIZE).is_none(), "it is there");
    assert!(missing.fill(0..UNIT_SIZE - 1).is_none() && missing.fill(8..UNIT_SIZE).is_none());
    assert!(missing.fill(0..2 * UNIT_SIZE).is_none() && missing.fill(SIZE..SIZE).is_none());
    let mut filling = missing.fill(LAST).unwrap();
    assert_eq!(filling.unit(), LAST);
    assert!(filling.write(LAST.start - 1, &[1]).is_err() && filling.write(SIZE, &[1]).is_err());
    assert!(filling.zero(0..8).is_err() && filling.crc32c(LAST.start - 8..LAST.end).is_err());
    filling.zero(LAST).unwrap();
    filling.write(LAST.start, &[7; 8]).unwrap();
    assert_eq!(filling.crc32c(LAST.start..LAST.start + 8), Ok(routines::crc32c(0, &[7; 8])));
}

#[test]
fn the_units_of_the_last_block_end_with_the_memory() {
    let ram = ram();
    let missing = ram.missing().unwrap();
    let block = missing.block(SIZE - 1);
    assert_eq!(block, 2 * BLOCK_SIZE..SIZE);
    assert_eq!(missing.units(block).last(), Some(LAST));
    assert_eq!(missing.units(missing.block(7)).count(), UNITS);
    assert!(!missing.arrived(LAST.start).is_block_whole && missing.is_there(LAST));
}

#[test]
fn what_is_given_up_counts_as_written_and_not_as_finished() {
    let mut ram = ram();
    ram.abandon_loading();
    assert!(!ram.is_finished() && ram.missing().is_none());
    assert_eq!(ram.written_blocks().collect::<Vec<_>>(), [0, 2 * BLOCK_SIZE]);
    ram.zero_all(&mut || ());
    let mut bytes = vec![1; SIZE];
    ram.read(0, &mut bytes).unwrap();
    assert!(bytes == vec![0; SIZE], "something is left of what was before");
}

#[test]
fn memory_that_was_not_cleared_is_missing_as_a_whole() {
    #[repr(align(4096))]
    struct Old(
        #[allow(dead_code, reason = "it is looked at through memory alone")] [u8; UNIT_SIZE],
    );
    let start = NonNull::from(Box::leak(Box::new(Old([0x55; UNIT_SIZE])))).cast();
    // SAFETY: 1. The bytes were leaked, so they live for ever, and one `GuestRam` is made of
    // them. 2. The reference to them became a pointer, and is not used again. 3. Nobody but the
    // `GuestRam` accesses them.
    let mut ram: GuestRam<Portable> = unsafe { GuestRam::uncleared(start, UNIT_SIZE) }.unwrap();
    assert!(!ram.is_finished() && ram.may_have_content(0));
    // The second time another checkpoint is loaded, before anything of the first one has arrived.
    for _ in 0..2 {
        ram.begin_loading(|_| false);
        assert_eq!(ram.missing().unwrap().left(), UNIT_SIZE as u64);
    }
    bring_all(&mut ram);
    ram.end_loading();
    assert_eq!(ram.load_u64(8), Ok(0));
}

#[test]
#[should_panic(expected = "bytes are missing")]
fn loading_does_not_end_before_all_is_there() {
    ram().end_loading();
}

#[test]
#[should_panic(expected = "a snapshot would have what is not brought yet")]
fn there_is_no_snapshot_of_what_is_missing() {
    let marks = crate::snapshot::Marks::default();
    let room = crate::snapshot::Room::new(marks, GuestRam::none(), &mut || ());
    ram().begin_snapshot(room, crate::ram::Since::Ever);
}

/// A guest that is resumed again finds first what it has touched first, and what it touches then
/// comes before that.
#[test]
fn what_was_touched_first_arrives_first_the_next_time() {
    let mut ram = ram();
    let missing = ram.missing().unwrap().clone();
    let unit = |number: usize| number * UNIT_SIZE..(number + 1) * UNIT_SIZE;
    // Two neighbours, one that is not missing, the last one, and what the memory does not have.
    let preferred = [5 * UNIT_SIZE..7 * UNIT_SIZE, unit(UNITS), LAST, SIZE..usize::MAX];
    missing.prefer(preferred.into_iter());
    for asked in [9, 8] {
        assert_eq!(missing.ask(asked * UNIT_SIZE), Asked::Absent { is_first: true });
    }
    let last = LAST.start / UNIT_SIZE;
    for expected in [9, 8, 5, 6, last] {
        assert_eq!(missing.next(), Some(unit(expected)));
        let _ = missing.arrived(expected * UNIT_SIZE);
    }
    bring_all(&mut ram);
    assert_eq!(ram.end_loading(), 2, "two units were waited for");
    let snapshot = ram.begin_snapshot(room(SIZE), crate::ram::Since::Ever);
    let touched: Vec<(u64, u64)> = snapshot.touched().iter().map(|run| run.pages()).collect();
    let [nine, eight, five, last] = [9, 8, 5, last].map(|number| (number * UNIT_SIZE) as u64);
    let pages = UNIT_PAGES as u64;
    assert_eq!(touched, [(nine, pages), (eight, pages), (five, 2 * pages), (last, pages)]);
}

/// Returns what a snapshot of `len` bytes needs.
fn room(len: usize) -> crate::snapshot::Room<Portable> {
    let bytes = crate::snapshot::Room::<Portable>::bytes(len, 1);
    let frames = vec![0_u8; bytes + PAGE_SIZE].leak();
    let start = frames.as_mut_ptr().align_offset(PAGE_SIZE);
    let start = NonNull::from(&mut frames[start..]).cast();
    // SAFETY: 1. The memory was leaked, so it lives for ever, and one `GuestRam` is made of it. 2.
    // The reference to it became a pointer, and is not used again. 3. Nobody but the `GuestRam`
    // accesses it.
    let frames = unsafe { GuestRam::uncleared(start, bytes) }.unwrap();
    let marks = crate::snapshot::Marks::new(len).unwrap();
    crate::snapshot::Room::new(marks, frames, &mut || ())
}

#[cfg_attr(miri, ignore = "it clears more than Miri does in a minute")]
#[test]
fn what_is_missing_of_some_bytes_is_asked_for_and_brought_first() {
    let mut ram = ram();
    assert!(!ram.ask_for(BLOCK_SIZE..2 * BLOCK_SIZE), "it was never written");
    assert!(!ram.ask_for(SIZE..usize::MAX) && !ram.ask_for(7..7), "nothing is missing there");
    let missing = ram.missing().unwrap().clone();
    assert!(!missing.is_waited_for() && !missing.is_wanted());
    assert!(ram.ask_for(UNIT_SIZE - 1..UNIT_SIZE + 1) && ram.ask_for(LAST.end - 1..usize::MAX));
    assert!(missing.is_waited_for() && missing.is_wanted());
    for unit in [0..UNIT_SIZE, UNIT_SIZE..2 * UNIT_SIZE, LAST] {
        assert_eq!(missing.next(), Some(unit.clone()));
        let _ = missing.arrived(unit.start);
    }
    assert!(!ram.ask_for(0..2 * UNIT_SIZE) && !missing.is_wanted() && !missing.is_waited_for());
    bring_all(&mut ram);
    ram.end_loading();
    assert!(!ram.ask_for(0..SIZE));
}
