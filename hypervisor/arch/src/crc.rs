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
