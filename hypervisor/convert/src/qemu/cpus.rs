//! The CPUs of QEMU that Stasis can show to a guest as they are: those without what came after
//! Armv8.0. And what a stream says of a CPU's identity.

use alloc::vec::Vec;

use stasis_state::register::{Record, VALUE_OFFSET};
use stasis_state::vcpu::{Identity, sysreg};
use thiserror::Error;
use zerocopy::IntoBytes;

use super::Backend;
use super::cpu::{IDS, KVM_CNTV_CVAL, id, listed};
use super::fields::{Fields, Way};
use super::sections::Part;
use super::stream::CPU_NAME;
use crate::error;

/// A CPU of QEMU's. A stream does not have these of its registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// The name, for `-cpu`.
    pub name: &'static str,
    /// MIDR_EL1.
    pub midr: u64,
    /// ID_AA64PFR0_EL1 where there is neither EL2 nor EL3.
    pub pfr0: u64,
    /// DCZID_EL0.
    pub dczid: u64,
}

/// The CPUs.
pub const CPUS: [Cpu; 3] = [
    Cpu { name: "cortex-a53", midr: 0x410f_d034, pfr0: 0x22, dczid: 4 },
    Cpu { name: "cortex-a57", midr: 0x411f_d070, pfr0: 0x22, dczid: 4 },
    Cpu { name: "cortex-a72", midr: 0x410f_d083, pfr0: 0x22, dczid: 4 },
];

/// Bits of MIDR_EL1 that are the variant and the revision of a CPU.
const REVISION: u64 = 0x00f0_000f;

impl Cpu {
    /// Returns the CPU of this name.
    ///
    /// # Errors
    ///
    /// [`error::Error::NoSuchCpu`] if Stasis can't show it.
    pub fn named(name: &str) -> Result<Self, error::Error> {
        let found = CPUS.into_iter().find(|cpu| cpu.name == name);
        found.ok_or_else(|| error::Error::NoSuchCpu { name: name.into() })
    }

    /// Returns the CPU with this MIDR_EL1, whatever its revision.
    ///
    /// # Errors
    ///
    /// [`error::Error::NoCpu`] if QEMU has none.
    pub fn of_midr(midr: u64) -> Result<Self, error::Error> {
        let found = CPUS.into_iter().find(|cpu| (cpu.midr ^ midr) & !REVISION == 0);
        found.ok_or(error::Error::NoCpu { midr })
    }

    /// Returns MPIDR_EL1 of a CPU of `virt`: RES1, and its number.
    pub fn mpidr(index: usize) -> u64 {
        1 << 31 | index as u64
    }
}

/// DCZID_EL0 of a CPU that nobody knows: DC ZVA clears 64 bytes, as on all of Arm's.
const DCZID: u64 = 4;

/// Returns DCZID_EL0 of the CPU with this MIDR_EL1. No stream has it, for no KVM tells it.
pub(super) fn dczid(midr: u64) -> u64 {
    Cpu::of_midr(midr).map_or(DCZID, |cpu| cpu.dczid)
}

/// Returns the ID registers of a vCPU in a stream. What neither the stream nor `cpu` says is as in
/// `otherwise`.
pub(super) fn identity(
    fields: &mut Fields<'_>,
    cpu: Option<&Cpu>,
    index: usize,
    otherwise: &Identity,
) -> Result<Identity, error::Error> {
    let mut identity = otherwise.clone();
    if let Some(cpu) = cpu {
        *identity.midr_el1 = cpu.midr;
        *identity.id_aa64pfr0_el1 = cpu.pfr0;
        *identity.dczid_el0 = cpu.dczid;
        *identity.mpidr_el1 = Cpu::mpidr(index);
    }
    for register in Identity::REGISTERS {
        if let Some(value) = listed(fields, id(register.id))? {
            let bytes = &mut identity.as_mut_bytes()[register.offset + VALUE_OFFSET..];
            bytes[..size_of::<u64>()].copy_from_slice(&value.to_le_bytes());
        }
    }
    Ok(identity)
}

/// ID_AA64DFR0_EL1.PMUVer: which performance counters a CPU has; 0 if none.
const PMUVER: u64 = 0xf << 8;

/// Returns whether the CPUs of the machine in a stream have performance counters, which Stasis
/// shows to no guest.
///
/// # Errors
///
/// The stream has no CPU, or does not say.
pub fn has_pmu(stream: &mut Part<'_>) -> Result<bool, error::Error> {
    let section = stream.sections.get(CPU_NAME, 0)?;
    let mut fields = Fields::new(section, stream.bytes, Way::FromQemu)?;
    let dfr0 = listed(&mut fields, id(sysreg(3, 0, 0, 5, 0)))?;
    Ok(dfr0.is_some_and(|dfr0| dfr0 & PMUVER != 0))
}

/// Returns what ran the machine in a stream: KVM lists a register that QEMU itself does not. `None`
/// if the stream has no such list.
pub fn backend(stream: &mut Part<'_>) -> Option<Backend> {
    let section = stream.sections.get(CPU_NAME, 0).ok()?;
    let mut fields = Fields::new(section, stream.bytes, Way::FromQemu).ok()?;
    if fields.count(IDS) == 0 {
        return None;
    }
    let is_kvm = listed(&mut fields, id(KVM_CNTV_CVAL)).ok()?.is_some();
    Some(if is_kvm { Backend::Kvm } else { Backend::Tcg })
}

/// Checks that a stream is of the back end that it is taken for.
///
/// # Errors
///
/// [`error::Error::OtherBackend`] if it is of the other one.
pub fn check_backend(stream: &mut Part<'_>, expected: Backend) -> Result<(), error::Error> {
    let (by, name) = match backend(stream) {
        Some(Backend::Kvm) if expected != Backend::Kvm => ("a KVM", "kvm"),
        Some(Backend::Tcg) if expected != Backend::Tcg => ("QEMU itself", "tcg"),
        _ => return Ok(()),
    };
    Err(error::Error::OtherBackend { by, name })
}

/// Returns whether an id in the list is that of a register of the performance counters: op0 3, and
/// CRn 9 or, of the counters themselves, CRn 14 from CRm 8 on.
pub(super) fn is_pmu(id_in_list: u64) -> bool {
    const SYSTEM_REGISTERS: u64 = id(0);
    let (op0, crn, crm) = (id_in_list >> 14 & 3, id_in_list >> 7 & 0xf, id_in_list >> 3 & 0xf);
    let is_counter = crn == 9 && (12..=14).contains(&crm) || crn == 14 && crm >= 8;
    id_in_list & !0xffff == SYSTEM_REGISTERS && op0 == 3 && is_counter
}

/// Returns whether an id in the list is that of an ID register, or of something else that no guest
/// can write: op0 3, CRn 0, and AArch32's.
pub(super) fn is_identity(id_in_list: u64) -> bool {
    const CTR: u64 = id(sysreg(3, 3, 0, 0, 1));
    const MIDR: u64 = id(sysreg(3, 0, 0, 0, 0));
    id_in_list == CTR || id_in_list & !0x7f == MIDR
}

/// Returns whether an id in the list is that of an ID register of AArch64 that reads as 0 on an
/// Armv8.0 CPU, and that no checkpoint has. The auxiliary ones, which say nothing that a guest
/// knows, are none.
pub(super) fn is_newer(id_in_list: u64) -> bool {
    const AUXILIARY: [u64; 2] = [id(sysreg(3, 0, 0, 5, 4)), id(sysreg(3, 0, 0, 5, 5))];
    let is_of_aarch64 = is_identity(id_in_list) && (4..=7).contains(&(id_in_list >> 3 & 0xf));
    let is_known = Identity::REGISTERS.iter().any(|known| id(known.id) == id_in_list);
    is_of_aarch64 && !is_known && !AUXILIARY.contains(&id_in_list)
}

/// An ID register of a vCPU that reads otherwise than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{register} of vCPU {vcpu} was {found:#x}, and will be {becomes:#x}")]
#[allow(missing_docs)]
pub struct IdentityChange {
    pub vcpu: usize,
    pub register: &'static str,
    pub found: u64,
    pub becomes: u64,
}

/// Returns which ID registers of vCPU `vcpu` read otherwise.
pub fn changes(vcpu: usize, was: &Identity, is: &Identity) -> Vec<IdentityChange> {
    let value = |identity: &Identity, offset: usize| {
        let bytes = identity.as_bytes()[offset + VALUE_OFFSET..].first_chunk();
        bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    };
    let changes = Identity::REGISTERS.iter().map(|line| IdentityChange {
        vcpu,
        register: line.name,
        found: value(was, line.offset),
        becomes: value(is, line.offset),
    });
    changes.filter(|change| change.found != change.becomes).collect()
}
