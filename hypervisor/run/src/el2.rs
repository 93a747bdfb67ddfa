//! What EL2 does to memory that guests write: [`El2`].

use core::ops::Range;
use stasis_arch::{cache, copy, crc, zero};
use stasis_memory::Machine;
use stasis_state::routines;

/// The machine as EL2 has it: `arch`'s assembly, and the caches of the cores.
#[derive(Debug)]
pub enum El2 {}

/// A guest's memory, on this machine.
pub type GuestRam = stasis_memory::GuestRam<El2>;

// SAFETY: each method goes to assembly of `arch`'s that accesses the bytes that it is told of and no others; but for the CRC of a CPU
// without the instruction, which looks at copies that were made so. No reference to shared memory is made.
unsafe impl Machine for El2 {
    #[inline]
    unsafe fn load(shared: *const u8, into: *mut u8, len: usize) {
        // SAFETY: 1. By our conditions 1 and 3, both are mapped and apart. 2. What is written is the caller's.
        unsafe { copy::copy(shared, into, len) };
    }

    #[inline]
    unsafe fn store(from: *const u8, shared: *mut u8, len: usize) {
        // SAFETY: 1. By our conditions 1 and 3, both are mapped and apart. 2. By our condition 2, nobody has a reference to what is written.
        unsafe { copy::copy(from, shared, len) };
    }

    #[inline]
    unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
        // SAFETY: 1. By our condition 1, both are mapped; they do not overlap. 2. By our condition 2, nobody has a reference to what is written.
        unsafe { copy::copy(from, to, len) };
    }

    #[inline]
    unsafe fn zero(shared: *mut u8, len: usize) {
        // SAFETY: 1. By our condition 1, they are mapped. 2. By our condition 2, nobody has a reference to them.
        unsafe { copy::zero(shared, len) };
    }

    #[inline]
    unsafe fn crc32c(crc: u32, shared: *const u8, len: usize) -> u32 {
        if crc::is_present() {
            // SAFETY: by our condition 1, they are mapped.
            return unsafe { crc::crc32c_at(crc, shared, len) };
        }
        const PIECE: usize = 1024;
        let mut buffer = [0; PIECE];
        (0..len).step_by(PIECE).fold(crc, |crc, start| {
            let piece = &mut buffer[..PIECE.min(len - start)];
            // SAFETY: 1. By our condition 1, the piece is mapped. 2. The buffer is as long, and ours.
            unsafe { copy::copy(shared.add(start), piece.as_mut_ptr(), piece.len()) };
            routines::crc32c(crc, piece)
        })
    }

    #[inline]
    unsafe fn pages_with_content(shared: *const u8, count: usize) -> u64 {
        // SAFETY: by our condition 1, they are mapped.
        unsafe { zero::with_content(shared, count) }
    }

    // In its caller: `cargo xtask bench` sees where a function was called from by its return.
    #[inline(always)]
    fn clean_and_invalidate(addresses: Range<usize>) {
        cache::clean_and_invalidate_to_poc(addresses.start, addresses.len());
    }

    fn invalidate_instructions() {
        cache::invalidate_instructions();
    }
}
