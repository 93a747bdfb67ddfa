//! The general registers as instructions name them (31 is XZR, which reads as 0 and keeps nothing),
//! and the bits of PSTATE.

use stasis_state::vcpu::Core;

/// Returns X`index`, or 0 for XZR.
#[inline]
pub fn general(core: &Core, index: u8) -> u64 {
    core.x.get(usize::from(index)).copied().unwrap_or(0)
}

/// Writes X`index`, unless it is XZR.
#[inline]
pub fn set_general(core: &mut Core, index: u8, value: u64) {
    if let Some(register) = core.x.get_mut(usize::from(index)) {
        *register = value;
    }
}

/// SCTLR_EL1.EE: data accesses at EL1 are big-endian.
const SCTLR_EE: u64 = 1 << 25;
/// SCTLR_EL1.E0E: data accesses at EL0 are big-endian.
const SCTLR_E0E: u64 = 1 << 24;

/// Returns whether a vCPU's data accesses are big-endian at its current exception level and in its
/// current state.
#[inline]
pub fn is_big_endian(core: &Core, sctlr_el1: u64) -> bool {
    match *core.pstate & pstate::AARCH32 != 0 {
        true => *core.pstate & pstate::BIG_ENDIAN != 0,
        false => !is_plain(*core.pstate, sctlr_el1),
    }
}

/// Returns whether a vCPU is in AArch64, and its data accesses are little-endian, which is mostly
/// so. `pstate` is its PSTATE.
#[inline(always)]
pub fn is_plain(pstate: u64, sctlr_el1: u64) -> bool {
    let mode = pstate & pstate::MODE;
    let big_endian = if mode == pstate::EL0T { SCTLR_E0E } else { SCTLR_EE };
    mode & pstate::AARCH32 == 0 && sctlr_el1 & big_endian == 0
}

/// Named bits of PSTATE, in the layout of SPSR_EL2.
pub mod pstate {
    /// The mode, with the bit for AArch32.
    pub const MODE: u64 = 0x1f;
    /// The mode is one of AArch32.
    pub const AARCH32: u64 = 1 << 4;
    /// EL0.
    pub const EL0T: u64 = 0;
    /// EL1 with SP_EL0.
    pub const EL1T: u64 = 4;
    /// EL1 with SP_EL1.
    pub const EL1H: u64 = 5;
    /// AArch32: Thumb.
    pub const THUMB: u64 = 1 << 5;
    /// Debug exceptions, SError, IRQ and FIQ masked.
    pub const DAIF: u64 = 0xf << 6;
    /// AArch32: big-endian.
    pub const BIG_ENDIAN: u64 = 1 << 9;
    /// AArch64: the branch type.
    pub const BTYPE: u64 = 3 << 10;
    /// AArch64: speculative store bypass is safe.
    pub const SSBS: u64 = 1 << 12;
    /// Illegal execution state.
    pub const IL: u64 = 1 << 20;
    /// Software step.
    pub const SS: u64 = 1 << 21;
    /// Privileged access never.
    pub const PAN: u64 = 1 << 22;
    /// Data independent timing.
    pub const DIT: u64 = 1 << 24;
    /// The condition flags.
    pub const NZCV: u64 = 0xf << 28;
    /// PSTATE at reset and after CPU_ON.
    pub const RESET: u64 = DAIF | EL1H;
}
