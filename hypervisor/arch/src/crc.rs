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
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let word = u64::from_le_bytes(*word);
        // SAFETY: arithmetic on registers; the caller has seen that the CPU has it.
        unsafe {
            asm!(".arch_extension crc", "crc32cx {0:w}, {0:w}, {1:x}", inout(reg) register, in(reg) word,
                options(pure, nomem, nostack, preserves_flags));
        }
    }
    for byte in rest {
        // SAFETY: as above.
        unsafe {
            asm!(".arch_extension crc", "crc32cb {0:w}, {0:w}, {1:w}", inout(reg) register,
                in(reg) u32::from(*byte), options(pure, nomem, nostack, preserves_flags));
        }
    }
    !register
}
