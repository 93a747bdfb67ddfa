//! EL2's accesses to memory that guests write: [`El2`].

use core::ops::Range;
use stasis_arch::zero::Held;
use stasis_arch::{cache, copy, crc, zero};
use stasis_memory::Machine;
use stasis_state::block::Content;
use stasis_state::{PAGE_SIZE, routines};

/// The machine's [`Machine`]: the assembly of `arch`, and the caches of the cores.
#[derive(Debug)]
pub enum El2 {}

/// Memory of a guest on this machine.
pub type GuestRam = stasis_memory::GuestRam<El2>;

// SAFETY: each method accesses the bytes that it is told of, and no others, by assembly of `arch`,
// and makes no reference to shared memory. On a CPU without the CRC instruction, `crc32c` looks at
// copies that are made in this way.
unsafe impl Machine for El2 {
    #[inline]
    unsafe fn load(shared: *const u8, into: *mut u8, len: usize) {
        // SAFETY: 1. Both are mapped as normal memory, by condition 1, and do not overlap, by
        // condition 3. 2. The bytes at `into` are the caller's, by condition 3.
        unsafe { copy::copy(shared, into, len) };
    }

    #[inline]
    unsafe fn store(from: *const u8, shared: *mut u8, len: usize) {
        // SAFETY: 1. Both are mapped as normal memory, by condition 1, and do not overlap, by
        // condition 3. 2. Nobody has a reference to the shared bytes, by condition 2.
        unsafe { copy::copy(from, shared, len) };
    }

    #[inline]
    unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
        // SAFETY: 1. Both are mapped as normal memory, by condition 1, and do not overlap, by the
        // caller. 2. Nobody has a reference to the shared bytes, by condition 2.
        unsafe { copy::copy(from, to, len) };
    }

    #[inline]
    unsafe fn take_page(from: *const u8, to: *mut u8) {
        if cache::line() < copy::LINE {
            // SAFETY: 1. Both are mapped as normal memory, by condition 1, and do not overlap, by
            // the caller. 2. Nobody has a reference to the shared bytes, by condition 2.
            unsafe { copy::copy(from, to, PAGE_SIZE) };
            Self::clean_and_invalidate(from.addr()..from.addr() + PAGE_SIZE);
            return;
        }
        // SAFETY: 1. Both are whole pages that are mapped as normal memory, by condition 1, and do
        // not overlap, by the caller. 2. Nobody has a reference to the shared bytes, by condition
        // 2. 3. No cache line is smaller, as was asked.
        unsafe { copy::take_page(from, to) };
    }

    #[inline]
    unsafe fn zero(shared: *mut u8, len: usize) {
        // SAFETY: 1. The bytes are mapped as normal memory, by condition 1. 2. Nobody has a
        // reference to them, by condition 2.
        unsafe { copy::zero(shared, len) };
    }

    #[inline]
    unsafe fn fill(shared: *mut u8, word: u64, len: usize) {
        // SAFETY: 1. The bytes are mapped as normal memory, by condition 1. 2. Nobody has a
        // reference to them, by condition 2.
        unsafe { copy::fill(shared, word, len) };
    }

    #[inline]
    unsafe fn crc32c(crc: u32, shared: *const u8, len: usize) -> u32 {
        if crc::is_present() {
            // SAFETY: all of the bytes are mapped as normal memory, by condition 1.
            return unsafe { crc::crc32c_at(crc, shared, len) };
        }
        const PIECE: usize = 1024;
        let mut buffer = [0; PIECE];
        (0..len).step_by(PIECE).fold(crc, |crc, start| {
            let piece = &mut buffer[..PIECE.min(len - start)];
            // SAFETY: 1. The piece lies in the `len` bytes, which are mapped as normal memory, by
            // condition 1, and the buffer is this function's own, as long, and so apart. 2. The
            // bytes that are written are the buffer's.
            unsafe { copy::copy(shared.add(start), piece.as_mut_ptr(), piece.len()) };
            routines::crc32c(crc, piece)
        })
    }

    #[inline]
    unsafe fn pages_with_content(shared: *const u8, count: usize) -> u64 {
        // SAFETY: all of the bytes are mapped as normal memory, by condition 1.
        unsafe { zero::with_content(shared, count) }
    }

    #[inline]
    unsafe fn is_repeated(shared: *const u8) -> bool {
        // SAFETY: all of the page is mapped as normal memory, by condition 1.
        unsafe { zero::is_repeated(shared) }
    }

    unsafe fn look(shared: *const u8, contents: &mut [Content]) {
        let has_crc = crc::is_present();
        for (page, content) in contents.iter_mut().enumerate() {
            let page = shared.wrapping_add(page * PAGE_SIZE);
            *content = match has_crc {
                // SAFETY: all of these pages are mapped as normal memory, by condition 1.
                true => match unsafe { zero::look(page) } {
                    Held::Zero => Content::Zero,
                    Held::Word(word) => Content::Word(word),
                    Held::Content(crc) => Content::Raw(crc),
                },
                // SAFETY: the conditions of `Machine`, by the caller.
                false => unsafe { Self::content(page) },
            };
        }
    }

    // Inlined: one call for each page that is maintained.
    #[inline(always)]
    fn clean_and_invalidate(addresses: Range<usize>) {
        cache::clean_and_invalidate_to_poc(addresses.start, addresses.len());
    }

    fn invalidate_instructions() {
        cache::invalidate_instructions();
    }
}
