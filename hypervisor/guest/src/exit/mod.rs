//! What made a vCPU leave the guest: ESR_EL2, FAR_EL2 and HPFAR_EL2, decoded.
//!
//! [`decode`] gives an [`Exit`] for the run loop to answer, [`describe`] a line for people to read.
//! What the guest then sees of it is in [`crate::inject`], [`crate::mmio`], [`crate::psci`] and
//! [`crate::sysreg`].

mod access;
mod describe;
mod skip;
pub mod syndrome;
mod word;
mod writeback;

#[cfg(test)]
mod tests;

pub use access::Access;
pub use describe::{Description, EncodingName, describe};
pub use skip::skip_instruction;
pub use syndrome::FaultKind;
pub use word::WordAccess;
pub use writeback::Writeback;

use stasis_state::vcpu::sysreg;
use syndrome::{AbortIss, ESR, Esr, HPFAR, ISS_CALL, ISS_DATA_ABORT, ISS_SYSTEM, ISS_WFX};

/// The registers that describe an exception taken to EL2, as they were read right after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Syndrome {
    /// ESR_EL2.
    pub esr: u64,
    /// FAR_EL2.
    pub far: u64,
    /// HPFAR_EL2.
    pub hpfar: u64,
}

/// Why a vCPU left the guest by a synchronous exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// A load or store to an address that stage 2 does not map, which the syndrome describes, or the instruction.
    DataAbort {
        /// The intermediate physical address.
        ipa: u64,
        /// The guest's virtual address.
        virtual_address: u64,
        /// What is to be done there.
        access: Access,
    },
    /// A load or store that the syndrome does not describe (a pair, a writeback, a vector, an
    /// atomic), a table walk of the guest's, or a fault that no emulation mends. For writebacks see
    /// [`described`](Exit::described).
    DataAbortUnemulatable(Fault),
    /// Cache maintenance by an address that stage 2 does not map: there is nothing to be maintained.
    CacheMaintenance(Fault),
    /// The guest jumped to an address that stage 2 does not map.
    InstructionAbort(Fault),
    /// HVC; the PC is already behind it.
    Hvc {
        /// The instruction's immediate.
        imm: u16,
    },
    /// SMC; the PC is at it: [`skip_instruction`].
    Smc {
        /// The instruction's immediate.
        imm: u16,
    },
    /// MSR, MRS or a system instruction that is trapped.
    SystemRegister(SystemAccess),
    /// WFI, WFE and their kin.
    Wfx(Wfx),
    /// An exception that is not the guest's doing or has no other answer than an UNDEFINED in the guest.
    Unknown {
        /// The exception class, ESR_EL2.EC.
        class: u8,
    },
}

/// Which of the waiting instructions was trapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wfx {
    /// Wait for an interrupt.
    Wfi,
    /// Wait for an event.
    Wfe,
    /// Wait for an interrupt, with a deadline.
    Wfit,
    /// Wait for an event, with a deadline.
    Wfet,
}

/// What an access that faulted was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The fetch of an instruction.
    Fetch,
    /// A load.
    Load,
    /// A store.
    Store,
    /// A cache maintenance instruction.
    Maintenance,
}

/// A stage 2 fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What the access was for.
    pub cause: Cause,
    /// The guest's virtual address.
    pub virtual_address: u64,
    /// The intermediate physical address, where HPFAR_EL2 gives it; of a table walk, only its page.
    pub ipa: Option<u64>,
    /// What went wrong.
    pub kind: FaultKind,
    /// Raised by the walk of the guest's own tables, not by the access itself.
    pub on_walk: bool,
}

impl Fault {
    /// Of an access to an address where there is no device either.
    pub fn nothing_at(ipa: u64, virtual_address: u64, write: bool) -> Self {
        let cause = if write { Cause::Store } else { Cause::Load };
        let kind = FaultKind::Translation;
        Self { cause, virtual_address, ipa: Some(ipa), kind, on_walk: false }
    }
}

/// A trapped MSR, MRS or system instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemAccess {
    /// op0, op1, CRn, CRm and op2 as [`sysreg`] packs them.
    pub encoding: u16,
    /// The general register: 0 to 30; 31 is XZR.
    pub rt: u8,
    /// MRS, not MSR.
    pub is_read: bool,
}

impl Exit {
    /// A write of the guest's to memory that it may only read, which cache maintenance and its table walks may make, too.
    pub fn forbidden_write(&self) -> Option<&Fault> {
        let (Self::DataAbortUnemulatable(fault) | Self::InstructionAbort(fault)) = self else {
            return None;
        };
        let writes = fault.on_walk || matches!(fault.cause, Cause::Store | Cause::Maintenance);
        (writes && fault.kind == FaultKind::Permission).then_some(fault)
    }
}

/// Whether it is an access to a debug register, as such accesses trap while these registers are not the guest's: MRS or MSR with
/// an op0 of 2, or AArch32's coprocessor 14. Those with a CRn of 1, the locks among them, always trap.
#[inline]
pub fn may_be_of_debug(syndrome: Syndrome) -> bool {
    /// One bit for each class.
    const COPROCESSOR_14: u64 = 1 << ESR::EC::Value::Cp14Mcr as u64
        | 1 << ESR::EC::Value::Cp14Ldc as u64
        | 1 << ESR::EC::Value::Cp14Mrrc as u64;
    const SYSTEM: u64 = 1 << ESR::EC::Value::SystemRegister as u64;
    let class = 1 << Esr::new(syndrome.esr).read(ESR::EC);
    let iss = syndrome.esr;
    class & COPROCESSOR_14 != 0
        || class == SYSTEM && ISS_SYSTEM::Op0.read(iss) == 2 && ISS_SYSTEM::CRn.read(iss) != 1
}

/// The immediate of an HVC, if that is what the exception is.
#[inline]
pub fn hypervisor_call(syndrome: Syndrome) -> Option<u16> {
    let esr = Esr::new(syndrome.esr);
    esr.matches_all(ESR::EC::Hvc64).then(|| ISS_CALL::Imm16.read(syndrome.esr) as u16)
}

/// Decodes a synchronous exception from the guest.
#[inline]
pub fn decode(syndrome: Syndrome) -> Exit {
    let esr = Esr::new(syndrome.esr);
    let iss = esr.read(ESR::ISS);
    // The most frequent one is not searched for.
    if esr.matches_all(ESR::EC::DataAbortLower) {
        return data_abort(syndrome, AbortIss::new(iss));
    }
    match esr.read_as_enum(ESR::EC) {
        Some(ESR::EC::Value::WfiWfe) => Exit::Wfx(wfx(iss)),
        // EL1 is AArch64 here, and EL0 has neither HVC nor SMC.
        Some(ESR::EC::Value::Hvc64) => Exit::Hvc { imm: ISS_CALL::Imm16.read(iss) as u16 },
        Some(ESR::EC::Value::Smc64) => Exit::Smc { imm: ISS_CALL::Imm16.read(iss) as u16 },
        Some(ESR::EC::Value::SystemRegister) => Exit::SystemRegister(system_access(iss)),
        Some(ESR::EC::Value::InstructionAbortLower) => {
            Exit::InstructionAbort(fault(syndrome, AbortIss::new(iss), Cause::Fetch))
        }
        _ => Exit::Unknown { class: esr.read(ESR::EC) as u8 },
    }
}

fn wfx(iss: u64) -> Wfx {
    match ISS_WFX::TI.read_as_enum(iss) {
        Some(ISS_WFX::TI::Value::Wfe) => Wfx::Wfe,
        Some(ISS_WFX::TI::Value::Wfit) => Wfx::Wfit,
        Some(ISS_WFX::TI::Value::Wfet) => Wfx::Wfet,
        Some(ISS_WFX::TI::Value::Wfi) | None => Wfx::Wfi,
    }
}

#[inline]
fn system_access(iss: u64) -> SystemAccess {
    SystemAccess {
        encoding: sysreg(
            ISS_SYSTEM::Op0.read(iss) as u16,
            ISS_SYSTEM::Op1.read(iss) as u16,
            ISS_SYSTEM::CRn.read(iss) as u16,
            ISS_SYSTEM::CRm.read(iss) as u16,
            ISS_SYSTEM::Op2.read(iss) as u16,
        ),
        rt: ISS_SYSTEM::Rt.read(iss) as u8,
        is_read: ISS_SYSTEM::Direction.is_set(iss),
    }
}

/// A load or store that the syndrome describes, at an address that stage 2 does not map.
fn is_emulatable(iss: AbortIss) -> bool {
    iss.matches_all(
        ISS_DATA_ABORT::ISV::SET
            + ISS_DATA_ABORT::CM::CLEAR
            + ISS_DATA_ABORT::S1PTW::CLEAR
            + ISS_DATA_ABORT::FAULT::Translation,
    )
}

#[inline]
fn data_abort(syndrome: Syndrome, iss: AbortIss) -> Exit {
    if is_emulatable(iss) {
        let access = Access::decode(iss);
        let ipa = ipa(syndrome, false);
        return Exit::DataAbort { ipa, virtual_address: syndrome.far, access };
    }
    let maintenance = iss.is_set(ISS_DATA_ABORT::CM);
    let cause = match (maintenance, iss.is_set(ISS_DATA_ABORT::WNR)) {
        (true, _) => Cause::Maintenance,
        (false, true) => Cause::Store,
        (false, false) => Cause::Load,
    };
    let fault = fault(syndrome, iss, cause);
    if maintenance && fault.kind == FaultKind::Translation && !fault.on_walk {
        Exit::CacheMaintenance(fault)
    } else {
        Exit::DataAbortUnemulatable(fault)
    }
}

/// The intermediate physical address, where HPFAR_EL2 has it; of a table walk, only its page.
#[inline]
fn ipa(syndrome: Syndrome, on_walk: bool) -> u64 {
    let page = HPFAR::FIPA.read(syndrome.hpfar) << 12;
    // The offset within the page is that of the virtual address, but a walk reads elsewhere.
    let offset = if on_walk { 0 } else { syndrome.far & 0xfff };
    page | offset
}

fn fault(syndrome: Syndrome, iss: AbortIss, cause: Cause) -> Fault {
    let (kind, _) = FaultKind::decode(iss.read(ISS_DATA_ABORT::FSC) as u8);
    let on_walk = iss.is_set(ISS_DATA_ABORT::S1PTW);
    // D24.2.54: HPFAR_EL2 is UNKNOWN for permission faults of the access itself and for external aborts.
    let known = match kind {
        FaultKind::AddressSize | FaultKind::Translation | FaultKind::AccessFlag => true,
        FaultKind::Permission => on_walk,
        _ => false,
    };
    Fault {
        cause,
        virtual_address: syndrome.far,
        ipa: known.then(|| ipa(syndrome, on_walk)),
        kind,
        on_walk,
    }
}
