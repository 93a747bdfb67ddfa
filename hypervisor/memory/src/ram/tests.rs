//! What [`GuestRam`] promises, on a machine that counts; and a guest that writes meanwhile, for
//! Miri.

mod concurrent;

use super::*;
use crate::access::{AccessError, GuestMemory};
use crate::machine::Portable;
use core::cell::RefCell;
use core::ptr::NonNull;
use stasis_state::{OutOfRange, PAGE_SIZE, ReadRam, WriteRam, routines};
use std::vec;
use std::vec::Vec;

std::thread_local! {
    /// What was cleaned, in pages from the start of memory, and what was made zeros, in bytes.
    static CLEANED: RefCell<Vec<Range<usize>>> = const { RefCell::new(Vec::new()) };
    static ZEROED: RefCell<usize> = const { RefCell::new(0) };
}

/// The portable machine, which says what it was asked for.
#[derive(Debug)]
struct Counting;

// SAFETY: each method accesses memory by the method of `Portable` of that name alone, with its own
// arguments, and `Portable` is a `Machine`.
unsafe impl Machine for Counting {
    unsafe fn load(shared: *const u8, into: *mut u8, len: usize) {
        // SAFETY: our caller keeps the conditions of `Machine`, and `Portable` gets the same
        // bytes: 1. mapped, 2. without references, 3. apart.
        unsafe { Portable::load(shared, into, len) };
    }

    unsafe fn store(from: *const u8, shared: *mut u8, len: usize) {
        // SAFETY: our caller keeps the conditions of `Machine`, and `Portable` gets the same
        // bytes: 1. mapped, 2. without references, 3. apart.
        unsafe { Portable::store(from, shared, len) };
    }

    unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
        // SAFETY: our caller keeps the conditions of `Machine`, and `Portable` gets the same
        // bytes: 1. mapped, 2. without references, 3. apart.
        unsafe { Portable::copy(from, to, len) };
    }

    unsafe fn zero(shared: *mut u8, len: usize) {
        ZEROED.with_borrow_mut(|zeroed| *zeroed += len);
        // SAFETY: our caller keeps the conditions of `Machine`, and `Portable` gets the same
        // bytes: 1. mapped, 2. without references, 3. apart.
        unsafe { Portable::zero(shared, len) };
    }

    unsafe fn crc32c(crc: u32, shared: *const u8, len: usize) -> u32 {
        // SAFETY: our caller keeps the conditions of `Machine`, and `Portable` gets the same
        // bytes: 1. mapped, 2. without references, 3. apart.
        unsafe { Portable::crc32c(crc, shared, len) }
    }

    unsafe fn pages_with_content(shared: *const u8, count: usize) -> u64 {
        // SAFETY: our caller keeps the conditions of `Machine`, and `Portable` gets the same
        // bytes: 1. mapped, 2. without references, 3. apart.
        unsafe { Portable::pages_with_content(shared, count) }
    }

    fn clean_and_invalidate(addresses: Range<usize>) {
        CLEANED.with_borrow_mut(|cleaned| cleaned.push(addresses));
    }

    fn invalidate_instructions() {}
}

#[derive(Clone)]
#[repr(align(4096))]
struct Page(#[allow(dead_code, reason = "it is looked at through memory alone")] [u8; PAGE_SIZE]);

/// Memory of which every byte was `old` before. It is never freed.
fn ram(len: usize, old: u8) -> GuestRam<Counting> {
    let pages = vec![Page([old; PAGE_SIZE]); len / PAGE_SIZE];
    let start = NonNull::from(Vec::leak(pages)).cast();
    // SAFETY: 1. The pages were leaked, so they live for ever, and nobody else knows of them. 2.
    // The reference to them became a pointer, and is not used again. 3. Nobody but the `GuestRam`
    // accesses them.
    unsafe { GuestRam::new(start, len, &mut || ()) }.unwrap()
}

fn bytes(ram: &GuestRam<Counting>) -> Vec<u8> {
    let mut bytes = vec![0; ram.len()];
    ram.read(0, &mut bytes).unwrap();
    bytes
}

/// Returns how many bytes were cleaned since the last call.
fn cleaned() -> usize {
    CLEANED.take().iter().map(Range::len).sum()
}

#[test]
fn memory_shows_nothing_of_whom_had_it_before() {
    let ram = ram(2 * PAGE_SIZE, 0xa5);
    assert!(bytes(&ram) == vec![0; ram.len()]);
    assert!(!ram.may_have_content(0) && ram.written_blocks().next().is_none());
    assert_eq!(ram.pages_with_content(0, 2), Ok(0));
}

#[test]
fn bytes_are_read_and_written_wherever_they_lie() {
    // Miri has time for some: whole words, and a byte more.
    let is_tried = |n: usize| !cfg!(miri) || n.is_multiple_of(8) || n == 1 || n == 9;
    let offsets = (0..17).filter(|&offset| is_tried(offset));
    let lens = (0..35u8).filter(|&len| is_tried(len.into()));
    for (offset, len) in offsets.flat_map(|offset| lens.clone().map(move |len| (offset, len))) {
        let mut ram = ram(PAGE_SIZE, 0);
        let written: Vec<u8> = (1..=len).collect();
        ram.write(offset, &written).unwrap();
        let all = bytes(&ram);
        let end = offset + written.len();
        assert_eq!(all[offset..end], written, "{len} bytes at {offset}");
        assert!(all[..offset].iter().chain(&all[end..]).all(|&byte| byte == 0));
        let mut read = vec![0; written.len()];
        ram.read(offset, &mut read).unwrap();
        assert_eq!(read, written, "{len} bytes at {offset}");
        assert_eq!(ram.crc32c(0, offset..end), Ok(routines::crc32c(0, &written)));
        ram.zero(offset..end).unwrap();
        assert!(bytes(&ram) == vec![0; ram.len()]);
    }
}

#[test]
fn a_page_of_one_word_is_told_from_any_other() {
    const WORD: u64 = 0x0807_0605_0403_0201;
    let mut ram = ram(3 * PAGE_SIZE, 0);
    let page = PAGE_SIZE..2 * PAGE_SIZE;
    ram.fill(page.clone(), WORD).unwrap();
    let expected = [vec![0; PAGE_SIZE], WORD.to_le_bytes().repeat(512), vec![0; PAGE_SIZE]];
    assert_eq!(bytes(&ram), expected.concat());
    assert_eq!(ram.word(0), Ok(Some(0)));
    assert_eq!(ram.word(page.start), Ok(Some(WORD)));
    assert!(ram.word(page.start + 2 * PAGE_SIZE).is_err());
    for at in (0..PAGE_SIZE).step_by(255).chain([PAGE_SIZE - 1]).map(|at| page.start + at) {
        let mut byte = [0];
        ram.read(at, &mut byte).unwrap();
        ram.write(at, &[!byte[0]]).unwrap();
        assert_eq!(ram.word(page.start), Ok(None), "another byte at {at:#x}");
        ram.write(at, &byte).unwrap();
    }
    ram.fill(page.start + 8..page.start + 24, 7).unwrap();
    assert_eq!((ram.load_u64(page.start), ram.load_u64(page.start + 16)), (Ok(WORD), Ok(7)));
    assert_eq!(ram.load_u64(page.start + 24), Ok(WORD));
}

#[test]
fn numbers_are_little_endian_and_of_one_access() {
    let mut ram = ram(PAGE_SIZE, 0);
    ram.store_u64(8, 0x0807_0605_0403_0201).unwrap();
    assert_eq!(bytes(&ram)[7..17], [0, 1, 2, 3, 4, 5, 6, 7, 8, 0]);
    assert_eq!(ram.load_u16(10), Ok(0x0403));
    assert_eq!(ram.load_u32(12), Ok(0x0807_0605));
    ram.store_u16(8, 0xffee).unwrap();
    assert_eq!(ram.load_u64(8), Ok(0x0807_0605_0403_ffee));
    assert_eq!(ram.load_u32_past_caches(8), Ok(0x0403_ffee));
}

#[test]
fn what_a_guest_names_wrongly_is_refused_and_touches_nothing() {
    let mut ram = ram(PAGE_SIZE, 0);
    let end = PAGE_SIZE;
    for offset in [end - 3, end, usize::MAX - 3, usize::MAX] {
        assert!(matches!(ram.load_u32(offset), Err(AccessError::OutOfRange(_))), "{offset:#x}");
        assert!(ram.store_u32(offset, 1).is_err() && ram.write(offset, &[1; 4]).is_err());
        assert!(ram.read(offset, &mut [0; 4]).is_err());
    }
    for width in [2, 4, 8] {
        let expected = Err(AccessError::Misaligned { offset: 9, width });
        let found = match width {
            2 => ram.load_u16(9).map(u64::from),
            4 => ram.load_u32(9).map(u64::from),
            _ => ram.load_u64(9),
        };
        assert_eq!(found, expected);
    }
    assert_eq!(ram.pages_with_content(0, 2), Err(OutOfRange { start: 0, end: 8192, size: 4096 }));
    assert!(!ram.may_have_content(0), "nothing was written");
}

#[test]
fn everything_that_is_written_is_marked() {
    let writes: [fn(&mut GuestRam<Counting>, usize); 5] = [
        |ram, at| ram.write(at, &[1]).unwrap(),
        |ram, at| ram.store_u16(at, 1).unwrap(),
        |ram, at| ram.store_u32(at, 1).unwrap(),
        |ram, at| ram.store_u64(at, 1).unwrap(),
        |ram, at| ram.mark_written(at..at + 1),
    ];
    let mut ram = ram(6 * BLOCK_SIZE, 0);
    for (n, write) in writes.iter().enumerate() {
        write(&mut ram, n * BLOCK_SIZE + 64);
        assert_eq!(ram.written_blocks().count(), n + 1);
        assert!(ram.may_have_content(n * BLOCK_SIZE));
    }
}

#[test]
fn only_what_was_written_is_cleared() {
    let mut ram = ram(3 * BLOCK_SIZE, 0);
    ram.write(BLOCK_SIZE + 5, &[1, 2]).unwrap();
    ZEROED.set(0);
    ram.zero(BLOCK_SIZE - 8..2 * BLOCK_SIZE + 8).unwrap();
    assert_eq!(ZEROED.take(), BLOCK_SIZE);
    ram.zero_all(&mut || ());
    assert_eq!(ZEROED.take(), BLOCK_SIZE, "what was written stays writable for the guest");
    assert!(bytes(&ram) == vec![0; ram.len()]);
}

#[test]
fn what_is_written_leaves_the_caches_before_a_guest_sees_it() {
    let mut ram = ram(3 * BLOCK_SIZE, 0);
    cleaned();
    assert!(!ram.is_finished(), "its zeros are in the caches");
    ram.finish_writing(&mut || ());
    assert!(ram.is_finished());
    assert_eq!(cleaned(), 3 * BLOCK_SIZE);
    ram.leave_caches(&mut || ());
    assert_eq!(cleaned(), 0, "nobody has written or read anything");
    ram.store_u16(BLOCK_SIZE, 7).unwrap();
    assert!(!ram.is_finished());
    ram.finish_writing(&mut || ());
    let start = ram.range().start as usize;
    let pieces = CLEANED.take();
    assert_eq!(pieces.first().map(|piece| piece.start), Some(start + BLOCK_SIZE));
    assert_eq!(pieces.iter().map(Range::len).sum::<usize>(), BLOCK_SIZE);
}

#[test]
fn long_work_pauses_after_each_piece() {
    let mut one = ram(BLOCK_SIZE, 0);
    one.mark_written(0..BLOCK_SIZE);
    type Work<'a> = &'a mut dyn FnMut(&mut dyn FnMut());
    let work: [Work<'_>; 3] =
        [&mut |pause| one.leave_caches(pause), &mut |pause| ram_with(pause), &mut |pause| {
            ram(BLOCK_SIZE, 0).finish_writing(pause)
        }];
    for (n, work) in work.into_iter().enumerate() {
        let mut pauses = 0;
        work(&mut || pauses += 1);
        assert_eq!(pauses, BLOCK_SIZE / PIECE, "work {n}");
    }
}

/// Makes memory of a block, with pauses.
fn ram_with(pause: &mut dyn FnMut()) {
    let pages = Vec::leak(vec![Page([0; PAGE_SIZE]); BLOCK_SIZE / PAGE_SIZE]);
    // SAFETY: 1. The pages were leaked, so they live for ever, and nobody else knows of them. 2.
    // The reference to them became a pointer, and is not used again. 3. Nobody but the `GuestRam`
    // accesses them.
    drop(unsafe { GuestRam::<Counting>::new(NonNull::from(pages).cast(), BLOCK_SIZE, pause) });
}
