//! CRC-32C by the CPU's own instruction (DDI 0487, C6.2, CRC32CX), where the CPU has it: every CPU
//! since Armv8.1 has, and so have the Cortex-A53 and A72.

use core::arch::asm;

/// Returns whether the CPU has the CRC32 instructions: ID_AA64ISAR0_EL1.CRC32.
pub fn is_present() -> bool {
    mrs!("id_aa64isar0_el1") >> 16 & 0xf != 0
}

/// Returns the CRC-32C of a sequence that goes on with `bytes`, from the CRC of what came before; 0
/// at first.
///
/// Only where [`is_present`]: elsewhere the instruction is UNDEFINED.
pub fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    // SAFETY: the bytes are those of a reference, so they are mapped as normal memory.
    unsafe { crc32c_at(crc, bytes.as_ptr(), bytes.len()) }
}

/// Returns the CRC-32C of a sequence that goes on with the `len` bytes at `from`, from the CRC of
/// what came before; 0 at first. Others may write the bytes meanwhile: each is loaded once.
///
/// Only where [`is_present`]: elsewhere the instruction is UNDEFINED.
///
/// # Safety
///
/// The `len` bytes at `from` are mapped as normal memory.
pub unsafe fn crc32c_at(crc: u32, from: *const u8, len: usize) -> u32 {
    // Rust for EL2 makes no unaligned loads: it would load a word that may lie anywhere byte by
    // byte.
    let head = from.align_offset(WORD).min(len);
    let words = (len - head) / WORD;
    let blocks = words / BLOCK;
    let (word, tail) = (head + blocks * BLOCK * WORD, head + words * WORD);
    let mut register = !crc;
    // SAFETY: 1. Head, blocks, words and tail follow each other in the `len` bytes, which are
    // mapped, by the caller. 2. Blocks and words begin at a multiple of `WORD`, for the head ends
    // there.
    unsafe {
        register = of_bytes(register, from, head);
        register = of_blocks(register, from.add(head).cast(), blocks);
        register = of_words(register, from.add(word).cast(), words - blocks * BLOCK);
        register = of_bytes(register, from.add(tail), len - tail);
    }
    !register
}

/// Bytes of a word.
const WORD: usize = size_of::<u64>();

/// Words between two branches.
const BLOCK: usize = 128;

/// Returns the CRC register after `blocks` blocks of [`BLOCK`] words at `from`.
///
/// # Safety
///
/// `blocks` blocks of [`BLOCK`] words at `from` are mapped as normal memory, and aligned.
unsafe fn of_blocks(mut register: u32, from: *const u64, blocks: usize) -> u32 {
    if blocks == 0 {
        return register;
    }
    // SAFETY: 1. The loads are those of the blocks, of which there is at least one, from first to
    // last; they are mapped, by the caller. 2. All other instructions compute on registers that are
    // named here. The CPU has them: callers of `crc32c_at` have asked `is_present`.
    unsafe {
        asm!(
            ".arch_extension crc",
            "2:",
            ".rept {pairs}",
            "ldp {low}, {high}, [{from}], #16",
            "crc32cx {crc:w}, {crc:w}, {low}",
            "crc32cx {crc:w}, {crc:w}, {high}",
            ".endr",
            "subs {left}, {left}, #1",
            "b.ne 2b",
            pairs = const BLOCK / 2,
            crc = inout(reg) register,
            from = inout(reg) from => _,
            left = inout(reg) blocks => _,
            low = out(reg) _,
            high = out(reg) _,
            options(readonly, nostack),
        );
    }
    register
}

/// Returns the CRC register after `count` words at `from`.
///
/// # Safety
///
/// `count` words at `from` are mapped as normal memory, and aligned.
unsafe fn of_words(mut register: u32, from: *const u64, count: usize) -> u32 {
    for n in 0..count {
        // SAFETY: `n` is below `count`, so the word is mapped and aligned, by the caller.
        let word = u64::from_le(unsafe { from.add(n).read_volatile() });
        // SAFETY: the instruction computes on registers that are named here. The CPU has it:
        // callers of `crc32c_at` have asked `is_present`.
        unsafe {
            asm!(".arch_extension crc", "crc32cx {0:w}, {0:w}, {1:x}", inout(reg) register, in(reg) word,
                options(pure, nomem, nostack, preserves_flags));
        }
    }
    register
}

/// Returns the CRC register after `count` bytes at `from`.
///
/// # Safety
///
/// `count` bytes at `from` are mapped as normal memory.
unsafe fn of_bytes(mut register: u32, from: *const u8, count: usize) -> u32 {
    for n in 0..count {
        // SAFETY: `n` is below `count`, so the byte is mapped, by the caller.
        let byte = u32::from(unsafe { from.add(n).read_volatile() });
        // SAFETY: the instruction computes on registers that are named here. The CPU has it:
        // callers of `crc32c_at` have asked `is_present`.
        unsafe {
            asm!(".arch_extension crc", "crc32cb {0:w}, {0:w}, {1:w}", inout(reg) register,
                in(reg) byte, options(pure, nomem, nostack, preserves_flags));
        }
    }
    register
}
