//! The ID registers of AArch32, for guests whose EL0 has it.
//!
//! These registers follow from those of AArch64, so they are not part of a guest's saved state.
//! What an Armv8.0-A CPU has of AArch32 is the same in all of them, and the values are those of
//! QEMU's Cortex-A53, A57 and A72 without EL2, EL3 and the PMU.

use stasis_state::vcpu::Identity;

/// ID_AA64PFR0_EL1.EL0: AArch64 and AArch32.
const EL0_AARCH32: u64 = 2;

/// Returns the register with the encoding (3, 0, 0, `crm`, `op2`), for a `crm` of 1 to 3. Returns 0
/// if the guest does not have AArch32.
pub fn read(identity: &Identity, crm: u16, op2: u16) -> u64 {
    if *identity.id_aa64pfr0_el1 & 0xf != EL0_AARCH32 {
        return 0;
    }
    match (crm, op2) {
        // ID_PFR0_EL1: A32, T32, Jazelle trivial.
        (1, 0) => 0x0000_0131,
        // ID_PFR1_EL1: the generic timer; neither security nor virtualization extensions.
        (1, 1) => 0x0001_0001,
        // ID_DFR0_EL1: the debug architecture of Armv8.
        (1, 2) => 0x0000_0006,
        // ID_MMFR0_EL1 to ID_MMFR3_EL1: VMSAv7 with LPAE.
        (1, 4) => 0x1010_1105,
        (1, 5) => 0x4000_0000,
        (1, 6) => 0x0126_0000,
        (1, 7) => 0x0210_2211,
        // ID_ISAR0_EL1 to ID_ISAR4_EL1.
        (2, 0) => 0x0210_1110,
        (2, 1) => 0x1311_2111,
        (2, 2) => 0x2123_2042,
        (2, 3) => 0x0111_2131,
        (2, 4) => 0x0001_1142,
        // ID_ISAR5_EL1: SEVL, and AES, SHA1, SHA2 and CRC32 as in AArch64, in the same places.
        (2, 5) => 0x1 | *identity.id_aa64isar0_el1 & 0xf_fff0,
        // MVFR0_EL1 to MVFR2_EL1: VFPv4 and Advanced SIMD of Armv8.
        (3, 0) => 0x1011_0222,
        (3, 1) => 0x1211_1111,
        (3, 2) => 0x0000_0043,
        _ => 0,
    }
}
