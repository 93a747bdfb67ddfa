//! CRC-32C by the CPU's own instruction (DDI 0487, C6.2, CRC32CX), where it has it: every CPU since
//! Armv8.1 does, and the Cortex-A53 and A72.

use core::arch::asm;

/// Whether the CPU has the instruction: ID_AA64ISAR0_EL1.CRC32.
pub fn is_present() -> bool {
    mrs!("id_aa64isar0_el1") >> 16 & 0xf != 0
}

/// The CRC-32C of a sequence that goes on with `bytes`, from the CRC of what came before; 0 at first.
///
/// Only where [`is_present`]: elsewhere the instruction is UNDEFINED.
pub fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    let mut register = !crc;
    // Rust for EL2 may not load unaligned, and would take a word that may lie anywhere byte by byte.
    // SAFETY: eight bytes are a word, whatever they are.
    let (head, words, tail) = unsafe { bytes.align_to::<u64>() };
    register = of_bytes(register, head);
    let (blocks, words) = words.as_chunks();
    register = of_blocks(register, blocks);
    for word in words {
        let word = u64::from_le(*word);
        // SAFETY: arithmetic on registers; the caller has seen that the CPU has it.
        unsafe {
            asm!(".arch_extension crc", "crc32cx {0:w}, {0:w}, {1:x}", inout(reg) register, in(reg) word,
                options(pure, nomem, nostack, preserves_flags));
        }
    }
    !of_bytes(register, tail)
}

/// Words that are taken in before there is a branch.
const BLOCK: usize = 64;

fn of_blocks(mut register: u32, blocks: &[[u64; BLOCK]]) -> u32 {
    if blocks.is_empty() {
        return register;
    }
    // SAFETY: 1. It reads the blocks, of which there is one at least, from first to last. 2. Else it is arithmetic on registers;
    // the caller's caller has seen that the CPU has it.
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
            from = inout(reg) blocks.as_ptr() => _,
            left = inout(reg) blocks.len() => _,
            low = out(reg) _,
            high = out(reg) _,
            options(pure, readonly, nostack),
        );
    }
    register
}

fn of_bytes(mut register: u32, bytes: &[u8]) -> u32 {
    for byte in bytes {
        // SAFETY: arithmetic on registers; the caller's caller has seen that the CPU has it.
        unsafe {
            asm!(".arch_extension crc", "crc32cb {0:w}, {0:w}, {1:w}", inout(reg) register,
                in(reg) u32::from(*byte), options(pure, nomem, nostack, preserves_flags));
        }
    }
    register
}
