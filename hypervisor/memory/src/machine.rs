//! The seam to a core's instructions and caches: [`Machine`], and [`Portable`], the host's.
//!
//! The hypervisor's machine moves bytes by the vector registers, computes CRCs by the CPU's
//! instruction, and maintains caches. The compiler sees none of these accesses, so it can't assume
//! anything of the memory. The portable one uses atomics, which Miri understands.

use alloc::vec;
use core::fmt::Debug;
use core::ops::Range;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use stasis_state::{PAGE_SIZE, block::Content, routines};

/// Bytes of a word, by which memory is accessed where it is aligned.
const WORD: usize = 8;
/// Words that are filled or compared at once, where the machine has nothing better.
const WORDS: usize = 32;

/// What a machine can do to memory that others write at the same time.
///
/// In each method, `shared` memory is a guest's. The caller, which is
/// [`GuestRam`](crate::GuestRam), keeps to this: 1. All of the bytes that the method is told of are
/// mapped as normal memory for as long as it runs. 2. No Rust reference to shared memory exists. 3.
/// The bytes that are not shared belong to the caller, and are apart from those that are.
///
/// # Safety
///
/// A method accesses the bytes that it is told of and no others, shared ones by volatile or atomic
/// accesses or by assembly, and never makes a reference to them.
pub unsafe trait Machine: Debug {
    /// Copies `len` bytes of `shared` memory to `into`.
    ///
    /// # Safety
    ///
    /// The conditions of [`Machine`].
    unsafe fn load(shared: *const u8, into: *mut u8, len: usize);

    /// Copies `len` bytes at `from` to `shared` memory.
    ///
    /// # Safety
    ///
    /// The conditions of [`Machine`].
    unsafe fn store(from: *const u8, shared: *mut u8, len: usize);

    /// Copies `len` bytes of shared memory to other shared memory. Both begin at a multiple of 8,
    /// and do not overlap.
    ///
    /// # Safety
    ///
    /// The conditions of [`Machine`].
    unsafe fn copy(from: *const u8, to: *mut u8, len: usize);

    /// Copies a page of shared memory to another one. The page at `from` has left the data caches
    /// then, as after [`Self::clean_and_invalidate`].
    ///
    /// # Safety
    ///
    /// The conditions of [`Machine`]. Both are whole pages, and not the same one.
    unsafe fn take_page(from: *const u8, to: *mut u8) {
        // SAFETY: 1. Both pages are mapped, by the caller, and begin at a multiple of 8. 2. Nobody
        // has a reference to them, by the caller. 3. They do not overlap, by the caller.
        unsafe { Self::copy(from, to, PAGE_SIZE) };
        Self::clean_and_invalidate(from.addr()..from.addr() + PAGE_SIZE);
    }

    /// Makes `len` bytes of `shared` memory 0.
    ///
    /// # Safety
    ///
    /// The conditions of [`Machine`].
    unsafe fn zero(shared: *mut u8, len: usize);

    /// Makes each word of `len` bytes of `shared` memory this one. They begin and end at multiples
    /// of 8.
    ///
    /// # Safety
    ///
    /// The conditions of [`Machine`].
    unsafe fn fill(shared: *mut u8, word: u64, len: usize) {
        let words = [word.to_le_bytes(); WORDS];
        for at in (0..len).step_by(size_of_val(&words)) {
            let piece = size_of_val(&words).min(len - at);
            // SAFETY: 1. The piece lies in the `len` bytes, which are mapped, by the caller. 2.
            // Nobody has a reference to them, by the caller. 3. The words are this function's own,
            // and at least as long as the piece.
            unsafe { Self::store(words.as_ptr().cast(), shared.add(at), piece) };
        }
    }

    /// Returns the CRC-32C of a sequence that goes on with `len` bytes of `shared` memory, from the
    /// CRC of what came before.
    ///
    /// # Safety
    ///
    /// The conditions of [`Machine`].
    unsafe fn crc32c(crc: u32, shared: *const u8, len: usize) -> u32;

    /// Returns which of `count` pages of `shared` memory, at most 64, have a byte that is not 0: a
    /// bit for each, the lowest for the first. They begin at a multiple of 8.
    ///
    /// # Safety
    ///
    /// The conditions of [`Machine`].
    unsafe fn pages_with_content(shared: *const u8, count: usize) -> u64;

    /// Returns whether all words of a page of `shared` memory are the same. The page begins at a
    /// multiple of 8.
    ///
    /// # Safety
    ///
    /// The conditions of [`Machine`].
    unsafe fn is_repeated(shared: *const u8) -> bool {
        let mut words = [0_u64; WORDS];
        let mut first = None;
        (0..PAGE_SIZE).step_by(size_of_val(&words)).all(|at| {
            // SAFETY: 1. The piece lies in the page, which is mapped, by the caller. 2. Nobody has
            // a reference to it, by the caller. 3. The words are this function's own, and as long
            // as the piece.
            unsafe { Self::load(shared.add(at), words.as_mut_ptr().cast(), size_of_val(&words)) };
            let first = *first.get_or_insert(words[0]);
            words.iter().all(|word| *word == first)
        })
    }

    /// Finds out what pages of `shared` memory are, from the first one on: as many as there are
    /// `contents`, at most 64. They begin at a multiple of 8.
    ///
    /// # Safety
    ///
    /// The conditions of [`Machine`].
    unsafe fn look(shared: *const u8, contents: &mut [Content]) {
        for (page, content) in contents.iter_mut().enumerate() {
            // SAFETY: 1. The page is one of these, which are mapped, by the caller. 2. Nobody has a
            // reference to it, by the caller. 3. No other bytes are accessed.
            *content = unsafe { Self::content(shared.wrapping_add(page * PAGE_SIZE)) };
        }
    }

    /// Returns what a page of `shared` memory is. The page begins at a multiple of 8.
    ///
    /// # Safety
    ///
    /// The conditions of [`Machine`].
    unsafe fn content(shared: *const u8) -> Content {
        // SAFETY: 1. All of the page is mapped, by the caller. 2. Nobody has a reference to it, by
        // the caller. 3. No other bytes are accessed.
        unsafe {
            if Self::pages_with_content(shared, 1) == 0 {
                Content::Zero
            } else if Self::is_repeated(shared) {
                Content::Word(Self::first_word(shared))
            } else {
                Content::Raw(Self::crc32c(0, shared, PAGE_SIZE))
            }
        }
    }

    /// Returns the first word of `shared` memory, which begins at a multiple of 8.
    ///
    /// # Safety
    ///
    /// The conditions of [`Machine`].
    unsafe fn first_word(shared: *const u8) -> u64 {
        let mut word = [0; WORD];
        // SAFETY: 1. The word is mapped, by the caller. 2. Nobody has a reference to it, by the
        // caller. 3. The other bytes are this function's own, and as long.
        unsafe { Self::load(shared, word.as_mut_ptr(), WORD) };
        u64::from_le_bytes(word)
    }

    /// Writes these addresses back to the point of coherency and drops them from the data caches.
    fn clean_and_invalidate(addresses: Range<usize>);

    /// Drops all instructions from the instruction caches of all cores.
    fn invalidate_instructions();
}

/// A machine with coherent caches, in portable Rust: for the host. Shared memory is accessed by
/// atomics of 8 bytes, and of one at the edges.
#[derive(Clone, Copy, Debug)]
pub struct Portable;

/// Bytes from which on one access stands for one of each word, under Miri, which takes long for
/// each: in no test does anybody else access so many meanwhile.
const AT_ONCE: usize = if cfg!(miri) { 32 << 10 } else { isize::MAX as usize };

/// Calls `word` with the offset of each aligned word of `len` bytes at `start`, and `byte` with
/// that of each byte beside them.
fn each(start: *const u8, len: usize, mut word: impl FnMut(usize), mut byte: impl FnMut(usize)) {
    let mut at = 0;
    while at < len {
        if (start.addr() + at).is_multiple_of(WORD) && len - at >= WORD {
            word(at);
            at += WORD;
        } else {
            byte(at);
            at += 1;
        }
    }
}

// SAFETY: each method accesses shared memory by `word_at` and `byte_at` alone, which are atomic, at
// offsets below the `len` or within the pages that its caller names. The only references that it
// makes to shared memory are to atomics.
unsafe impl Machine for Portable {
    unsafe fn load(shared: *const u8, into: *mut u8, len: usize) {
        if len >= AT_ONCE {
            // SAFETY: the caller lets us access `len` bytes of `shared`, and `into` has as many of
            // the caller's, which are others. Nobody writes so many meanwhile.
            return unsafe { into.copy_from_nonoverlapping(shared, len) };
        }
        let word = |at| {
            // SAFETY: 1. `each` gives offsets of whole aligned words below `len`, and the caller
            // lets us access those bytes of `shared`. 2. Nobody has a reference to them, by the
            // caller. 3. `into` has `len` bytes of the caller's, and its pointer need not be
            // aligned.
            unsafe {
                into.add(at).cast::<u64>().write_unaligned(word_at(shared, at).load(RELAXED))
            };
        };
        let byte = |at| {
            // SAFETY: 1. `each` gives offsets below `len`, and the caller lets us access those
            // bytes of `shared`. 2. Nobody has a reference to them, by the caller. 3. `into` has
            // `len` bytes of the caller's.
            unsafe { into.add(at).write(byte_at(shared, at).load(RELAXED)) };
        };
        each(shared, len, word, byte);
    }

    unsafe fn store(from: *const u8, shared: *mut u8, len: usize) {
        if len >= AT_ONCE {
            // SAFETY: the caller lets us access `len` bytes of `shared`, and `from` has as many of
            // the caller's, which are others. Nobody accesses so many meanwhile.
            return unsafe { shared.copy_from_nonoverlapping(from, len) };
        }
        let word = |at| {
            // SAFETY: 1. `each` gives offsets of whole aligned words below `len`, and the caller
            // lets us access those bytes of `shared`. 2. Nobody has a reference to them, by the
            // caller. 3. `from` has `len` bytes of the caller's, and its pointer need not be
            // aligned.
            unsafe {
                word_at(shared, at).store(from.add(at).cast::<u64>().read_unaligned(), RELAXED)
            };
        };
        let byte = |at| {
            // SAFETY: 1. `each` gives offsets below `len`, and the caller lets us access those
            // bytes of `shared`. 2. Nobody has a reference to them, by the caller. 3. `from` has
            // `len` bytes of the caller's.
            unsafe { byte_at(shared, at).store(from.add(at).read(), RELAXED) };
        };
        each(shared, len, word, byte);
    }

    unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
        let word = |at| {
            // SAFETY: 1. `each` gives offsets of whole aligned words of `from` below `len`; `to` is
            // aligned as `from` is, so the words there are aligned, too. The caller lets us access
            // both. 2. Nobody has a reference to them, by the caller.
            unsafe { word_at(to, at).store(word_at(from, at).load(RELAXED), RELAXED) };
        };
        let byte = |at| {
            // SAFETY: 1. `each` gives offsets below `len`, and the caller lets us access those
            // bytes of both. 2. Nobody has a reference to them, by the caller.
            unsafe { byte_at(to, at).store(byte_at(from, at).load(RELAXED), RELAXED) };
        };
        each(from, len, word, byte);
    }

    unsafe fn zero(shared: *mut u8, len: usize) {
        if len >= AT_ONCE {
            // SAFETY: the caller lets us access `len` bytes of `shared`. Nobody else accesses so
            // many meanwhile.
            return unsafe { shared.write_bytes(0, len) };
        }
        let word = |at| {
            // SAFETY: 1. `each` gives offsets of whole aligned words below `len`, which the caller
            // lets us access. 2. Nobody has a reference to them, by the caller.
            unsafe { word_at(shared, at).store(0, RELAXED) };
        };
        let byte = |at| {
            // SAFETY: 1. `each` gives offsets below `len`, which the caller lets us access. 2.
            // Nobody has a reference to them, by the caller.
            unsafe { byte_at(shared, at).store(0, RELAXED) };
        };
        each(shared, len, word, byte);
    }

    unsafe fn crc32c(mut crc: u32, shared: *const u8, len: usize) -> u32 {
        let mut page = [0; PAGE_SIZE];
        for start in (0..len).step_by(PAGE_SIZE) {
            let piece = &mut page[..PAGE_SIZE.min(len - start)];
            // SAFETY: 1. The piece lies in the `len` bytes, which are mapped, by the caller. 2.
            // Nobody has a reference to them, by the caller. 3. The buffer is this function's own,
            // and as long as the piece.
            unsafe { Self::load(shared.add(start), piece.as_mut_ptr(), piece.len()) };
            crc = routines::crc32c(crc, piece);
        }
        crc
    }

    unsafe fn pages_with_content(shared: *const u8, count: usize) -> u64 {
        if count * PAGE_SIZE >= AT_ONCE {
            let mut bytes = vec![0; count * PAGE_SIZE];
            // SAFETY: the caller lets us access `count` pages of `shared`. The buffer is this
            // function's own, and as long.
            unsafe { Self::load(shared, bytes.as_mut_ptr(), bytes.len()) };
            let pages = bytes.as_chunks::<PAGE_SIZE>().0.iter().zip(0..);
            return pages
                .fold(0, |map, (page, bit)| map | u64::from(*page != [0; PAGE_SIZE]) << bit);
        }
        (0..count).fold(0, |map, page| {
            let mut words = (0..PAGE_SIZE).step_by(WORD).map(|at| page * PAGE_SIZE + at);
            // SAFETY: 1. The offsets are those of whole words of `count` pages, which the caller
            // lets us access, and which begin at a multiple of 8.
            // 2. Nobody has a reference to them, by the caller.
            let content = words.any(|at| unsafe { word_at(shared, at).load(RELAXED) } != 0);
            map | u64::from(content) << page
        })
    }

    fn clean_and_invalidate(_: Range<usize>) {}

    fn invalidate_instructions() {}
}

/// What is read while it is written has no order that anybody could rely on:
/// [`GuestMemory`](crate::GuestMemory) has loads with one.
const RELAXED: Ordering = Ordering::Relaxed;

/// Returns the word at an offset of shared memory.
///
/// # Safety
///
/// 1. The word is there, aligned, and mapped. 2. No Rust reference to it exists but to atomics.
unsafe fn word_at<'a>(shared: *const u8, at: usize) -> &'a AtomicU64 {
    // SAFETY: 1. The word is there, aligned and mapped, by condition 1. 2. What a guest does to it
    // counts as atomic accesses, and there is no reference to it but to atomics, by condition 2.
    unsafe { &*shared.add(at).cast::<AtomicU64>() }
}

/// Returns the byte at an offset of shared memory.
///
/// # Safety
///
/// 1. The byte is there, and mapped. 2. No Rust reference to it exists but to atomics.
unsafe fn byte_at<'a>(shared: *const u8, at: usize) -> &'a AtomicU8 {
    // SAFETY: 1. The byte is there and mapped, by condition 1. 2. What a guest does to it counts as
    // atomic accesses, and there is no reference to it but to atomics, by condition 2.
    unsafe { &*shared.add(at).cast::<AtomicU8>() }
}
