//! What made a vCPU leave the guest: ESR_EL2, FAR_EL2 and HPFAR_EL2, decoded.
//!
//! [`decode`] returns an [`Exit`] for the run loop to answer, [`describe`] a line for people to
//! read. The answers are made in [`crate::inject`], [`crate::mmio`], [`crate::psci`] and
//! [`crate::sysreg`].

mod access;
mod debug;
mod describe;
mod pair;
mod plain;
mod skip;
pub mod syndrome;
mod writeback;

#[cfg(test)]
mod tests;

pub use access::{Access, Writeback};
pub use debug::{DebugException, debug_exception};
pub use describe::{Description, EncodingName, describe};
pub use plain::{PlainAccess, is_forbidden_store, may_be_forbidden};
pub use skip::{behind_aarch64, skip_instruction};
pub use syndrome::FaultKind;

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
    /// A load or store to an address that stage 2 does not map. The syndrome or the instruction
    /// describes it.
    DataAbort {
        /// Intermediate physical address.
        ipa: u64,
        /// Guest's virtual address.
        virtual_address: u64,
        /// The load or store.
        access: Access,
    },
    /// A load or store that the syndrome does not describe (a pair, a writeback, a vector, an
    /// atomic), a table walk of the guest's, or a fault that no emulation answers.
    /// [`described`](Exit::described) turns writebacks and loads of a pair into
    /// [`Exit::DataAbort`].
    DataAbortUnemulatable(Fault),
    /// Cache maintenance by an address that stage 2 does not map: there is nothing to maintain.
    CacheMaintenance(Fault),
    /// The guest jumped to an address that stage 2 does not map.
    InstructionAbort(Fault),
    /// HVC. The PC is already behind the instruction.
    Hvc {
        /// Immediate of the instruction.
        imm: u16,
    },
    /// SMC. The PC is at the instruction: [`skip_instruction`] moves it on.
    Smc {
        /// Immediate of the instruction.
        imm: u16,
    },
    /// A trapped MSR, MRS or system instruction.
    SystemRegister(SystemAccess),
    /// A trapped WFI, WFE, WFIT or WFET.
    Wfx(Wfx),
    /// An exception that the guest did not cause, or that has no other answer than an UNDEFINED in
    /// the guest.
    Unknown {
        /// Exception class, ESR_EL2.EC.
        class: u8,
    },
}

/// A waiting instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wfx {
    /// WFI: wait for an interrupt.
    Wfi,
    /// WFE: wait for an event.
    Wfe,
    /// WFIT: wait for an interrupt, with a deadline.
    Wfit,
    /// WFET: wait for an event, with a deadline.
    Wfet,
}

/// The purpose of an access that faulted.
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
    /// Purpose of the access.
    pub cause: Cause,
    /// Guest's virtual address.
    pub virtual_address: u64,
    /// Intermediate physical address, if HPFAR_EL2 has it. Of a table walk, it is only that of the
    /// page.
    pub ipa: Option<u64>,
    /// Kind of the fault.
    pub kind: FaultKind,
    /// Whether the walk of the guest's own tables faulted, and not the access itself.
    pub on_walk: bool,
}

impl Fault {
    /// Returns the fault of a load or store to an address that no device has.
    pub fn nothing_at(ipa: u64, virtual_address: u64, write: bool) -> Self {
        let cause = if write { Cause::Store } else { Cause::Load };
        let kind = FaultKind::Translation;
        Self { cause, virtual_address, ipa: Some(ipa), kind, on_walk: false }
    }

    /// Returns whether this is a write to memory that the guest may only read. Cache maintenance
    /// and the guest's table walks may make such writes, too.
    pub fn is_forbidden_write(&self) -> bool {
        let writes = self.on_walk || matches!(self.cause, Cause::Store | Cause::Maintenance);
        writes && self.kind == FaultKind::Permission
    }
}

/// A trapped MSR, MRS or system instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemAccess {
    /// Encoding: op0, op1, CRn, CRm and op2 as [`sysreg`] packs them.
    pub encoding: u16,
    /// Number of the general register: 0 to 30 are X0 to X30; 31 is XZR.
    pub rt: u8,
    /// Whether the instruction is MRS, and not MSR.
    pub is_read: bool,
}

impl SystemAccess {
    /// Returns the access of an exception of that class, from its ESR_EL2.
    #[inline]
    pub fn decode(iss: u64) -> Self {
        Self {
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
}

impl Exit {
    /// Returns the fault of an exit that no device answers as the syndrome describes it. None of
    /// all other exits.
    #[inline]
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Self::DataAbortUnemulatable(fault) | Self::InstructionAbort(fault) => Some(fault),
            _ => None,
        }
    }
}

/// Returns whether the exception may be an access to a debug register, as they trap while these
/// registers are not the guest's: MRS or MSR with an op0 of 2, or AArch32's coprocessor 14.
/// Registers with a CRn of 1, the locks among them, always trap, and are left out.
#[inline]
pub fn may_be_of_debug(syndrome: Syndrome) -> bool {
    const SYSTEM: u64 = ESR::EC::Value::SystemRegister as u64;
    /// A set of exception classes: one bit for each class.
    const CLASSES: u64 = 1 << SYSTEM
        | 1 << ESR::EC::Value::Cp14Mcr as u64
        | 1 << ESR::EC::Value::Cp14Ldc as u64
        | 1 << ESR::EC::Value::Cp14Mrrc as u64;
    let class = Esr::new(syndrome.esr).read(ESR::EC);
    let iss = syndrome.esr;
    CLASSES >> class & 1 != 0
        && (class != SYSTEM || ISS_SYSTEM::Op0.read(iss) == 2 && ISS_SYSTEM::CRn.read(iss) != 1)
}

/// Returns the immediate of an HVC or SMC, from the ESR_EL2 of its exception.
#[inline]
pub fn immediate(esr: u64) -> u16 {
    ISS_CALL::Imm16.read(esr) as u16
}

/// Returns what a synchronous exception from the guest means.
#[inline]
pub fn decode(syndrome: Syndrome) -> Exit {
    let esr = Esr::new(syndrome.esr);
    let iss = esr.read(ESR::ISS);
    // Data aborts are the most frequent, so they come before the search for the class.
    if esr.matches_all(ESR::EC::DataAbortLower) {
        return data_abort(syndrome, AbortIss::new(iss));
    }
    match esr.read_as_enum(ESR::EC) {
        Some(ESR::EC::Value::WfiWfe) => Exit::Wfx(wfx(iss)),
        // EL1 is AArch64 here, and EL0 has neither HVC nor SMC.
        Some(ESR::EC::Value::Hvc64) => Exit::Hvc { imm: immediate(iss) },
        Some(ESR::EC::Value::Smc64) => Exit::Smc { imm: immediate(iss) },
        Some(ESR::EC::Value::SystemRegister) => Exit::SystemRegister(SystemAccess::decode(iss)),
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

/// Returns whether an abort is a load or store that the syndrome describes, at an address that
/// stage 2 does not map.
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

/// Returns the intermediate physical address. HPFAR_EL2 must be valid. Of a table walk the result
/// is only the address of the page.
#[inline]
fn ipa(syndrome: Syndrome, on_walk: bool) -> u64 {
    let page = HPFAR::FIPA.read(syndrome.hpfar) << 12;
    // The offset within the page is that of the virtual address. A walk reads at another address,
    // so its offset is not known.
    let offset = if on_walk { 0 } else { syndrome.far & 0xfff };
    page | offset
}

fn fault(syndrome: Syndrome, iss: AbortIss, cause: Cause) -> Fault {
    let (kind, _) = FaultKind::decode(iss.read(ISS_DATA_ABORT::FSC) as u8);
    let on_walk = iss.is_set(ISS_DATA_ABORT::S1PTW);
    // D24.2.54: HPFAR_EL2 is UNKNOWN for permission faults of the access itself and for external
    // aborts.
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
