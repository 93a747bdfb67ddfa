//! Moves a vCPU on behind an instruction that was emulated.

use stasis_state::vcpu::Core;

use super::syndrome::{ESR, Esr};
use crate::register::pstate;

/// Moves the PC behind the trapped instruction, and changes PSTATE as the instruction would have.
///
/// The function is for everything that traps *at* its instruction: SMC, MSR and MRS, WFI, loads and
/// stores. It is not for HVC, whose exception returns behind the instruction (DDI 0487, D1.3.1).
/// `esr` is the ESR_EL2 of the trap.
#[inline]
pub fn skip_instruction(core: &mut Core, esr: u64) {
    if *core.pstate & pstate::AARCH32 != 0 {
        return skip_aarch32(core, esr);
    }
    (*core.pc, *core.pstate) = behind_aarch64(*core.pc, *core.pstate);
}

/// Returns the PC and PSTATE behind a trapped instruction of AArch64, such as MSR, MRS and SMC64
/// always are, from those at it.
#[inline]
pub fn behind_aarch64(pc: u64, pstate: u64) -> (u64, u64) {
    // The software step of a debugger in the guest is now complete.
    (pc.wrapping_add(4), pstate & !(pstate::BTYPE | pstate::SS))
}

/// Moves the PC of a vCPU in AArch32, which has instructions of two bytes.
#[cold]
fn skip_aarch32(core: &mut Core, esr: u64) {
    let len = if Esr::new(esr).is_set(ESR::IL) { 4 } else { 2 };
    *core.pc = core.pc.wrapping_add(len) & u64::from(u32::MAX);
    *core.pstate = advance_if_then(*core.pstate) & !pstate::SS;
}

/// Returns the SPSR with the state of its IT block advanced, as the manual's ITAdvance() does.
/// IT[7:2] is in bits [15:10], IT[1:0] in bits [26:25].
fn advance_if_then(spsr: u64) -> u64 {
    let it = (spsr >> 10 & 0x3f) << 2 | spsr >> 25 & 3;
    let next = if it & 7 == 0 { 0 } else { it & 0xe0 | it << 1 & 0x1f };
    spsr & !(0x3f << 10 | 3 << 25) | next >> 2 << 10 | (next & 3) << 25
}
