//! Injects exceptions into EL1, as the hardware would have taken them (DDI 0487,
//! AArch64.TakeException).
//!
//! A vCPU's EL1 registers are in its record while it is not loaded, and in the hardware while it is
//! loaded. [`El1Registers`] stands for both.

use stasis_state::vcpu::{Core, SystemRegisters};
use tock_registers::fields::FieldValue;

use crate::{
    exit::{
        Cause, Fault,
        syndrome::{ESR, ISS_DATA_ABORT},
    },
    register::pstate,
};

/// The registers of EL1 that taking an exception reads and writes.
pub trait El1Registers {
    /// Returns VBAR_EL1.
    fn vbar_el1(&self) -> u64;
    /// Returns SCTLR_EL1.
    fn sctlr_el1(&self) -> u64;
    /// Writes ELR_EL1.
    fn set_elr_el1(&mut self, value: u64);
    /// Writes SPSR_EL1.
    fn set_spsr_el1(&mut self, value: u64);
    /// Writes ESR_EL1.
    fn set_esr_el1(&mut self, value: u64);
    /// Writes FAR_EL1.
    fn set_far_el1(&mut self, value: u64);
}

impl El1Registers for SystemRegisters {
    fn vbar_el1(&self) -> u64 {
        *self.vbar_el1
    }

    fn sctlr_el1(&self) -> u64 {
        *self.sctlr_el1
    }

    fn set_elr_el1(&mut self, value: u64) {
        *self.elr_el1 = value;
    }

    fn set_spsr_el1(&mut self, value: u64) {
        *self.spsr_el1 = value;
    }

    fn set_esr_el1(&mut self, value: u64) {
        *self.esr_el1 = value;
    }

    fn set_far_el1(&mut self, value: u64) {
        *self.far_el1 = value;
    }
}

/// SCTLR_EL1.SPAN: if it is 0, an exception sets PSTATE.PAN.
const SCTLR_SPAN: u64 = 1 << 23;
/// SCTLR_EL1.DSSBS: the value of PSTATE.SSBS after an exception.
const SCTLR_DSSBS: u64 = 1 << 44;

/// Answers `fault` with a synchronous external abort: nothing is at that address.
///
/// The syndrome is the one that QEMU's `virt` gives for an address without a device: EA is 0 (a
/// decode error), and no instruction is described, as ESR_EL1 never describes one.
pub fn external_abort(core: &mut Core, el1: &mut impl El1Registers, fault: &Fault) {
    let from_lower = from_lower_level(*core.pstate);
    let class = match (fault.cause, from_lower) {
        (Cause::Fetch, true) => ESR::EC::InstructionAbortLower,
        (Cause::Fetch, false) => ESR::EC::InstructionAbortSame,
        (_, true) => ESR::EC::DataAbortLower,
        (_, false) => ESR::EC::DataAbortSame,
    };
    let status = if fault.on_walk {
        // EL2 learns the level of its own table, not of the guest's: level 0 stands for any.
        ISS_DATA_ABORT::FSC::ExternalAbortOnWalk
    } else {
        ISS_DATA_ABORT::FSC::ExternalAbort
    };
    let direction = match fault.cause {
        Cause::Fetch | Cause::Load => FieldValue::none(),
        Cause::Store => ISS_DATA_ABORT::WNR::SET,
        Cause::Maintenance => ISS_DATA_ABORT::WNR::SET + ISS_DATA_ABORT::CM::SET,
    };
    let esr = syndrome(class) | (status + direction).value;
    el1.set_far_el1(fault.virtual_address);
    take_synchronous(core, el1, esr);
}

/// Answers the instruction at the PC with the exception for an UNDEFINED instruction.
pub fn undefined(core: &mut Core, el1: &mut impl El1Registers) {
    take_synchronous(core, el1, syndrome(ESR::EC::Unknown));
}

/// Answers an exception that has come to EL2 in the place of EL1, with `esr`, by taking it there.
/// The exception must be none that writes FAR_EL1.
pub fn pass_on(core: &mut Core, el1: &mut impl El1Registers, esr: u64) {
    take_synchronous(core, el1, esr);
}

/// Returns a syndrome of `class` without an ISS. IL is 1 for all that is injected here: an abort
/// whose ISV is 0, and an unknown reason.
fn syndrome(class: FieldValue<u64, ESR::Register>) -> u64 {
    (class + ESR::IL::SET).value
}

fn from_lower_level(spsr: u64) -> bool {
    spsr & pstate::AARCH32 != 0 || spsr & pstate::MODE == pstate::EL0T
}

fn take_synchronous(core: &mut Core, el1: &mut impl El1Registers, esr: u64) {
    let old = *core.pstate;
    // D1.3.2: the row of the vector table depends on where the exception comes from. The other
    // three entries of each row are not synchronous.
    let vector = match old & pstate::MODE {
        pstate::EL1T => 0x000,
        mode if mode & pstate::AARCH32 != 0 => 0x600,
        pstate::EL0T => 0x400,
        _ => 0x200,
    };
    el1.set_elr_el1(*core.pc);
    el1.set_spsr_el1(old);
    el1.set_esr_el1(esr);
    *core.pc = (el1.vbar_el1() & !0x7ff).wrapping_add(vector);
    *core.pstate = exception_pstate(old, el1.sctlr_el1());
}

/// Returns PSTATE after an exception to EL1. Fields that are not named here become 0: IL, SS, UAO,
/// BTYPE, TCO.
fn exception_pstate(old: u64, sctlr: u64) -> u64 {
    let mut new = pstate::EL1H | pstate::DAIF | old & (pstate::NZCV | pstate::PAN | pstate::DIT);
    if sctlr & SCTLR_SPAN == 0 {
        new |= pstate::PAN;
    }
    if sctlr & SCTLR_DSSBS != 0 {
        new |= pstate::SSBS;
    }
    new
}

#[cfg(test)]
mod tests;
