//! Trapped system registers and instructions.
//!
//! These trap, and so have an answer here: the ID registers (HCR_EL2.TID1 and TID3; TID2 if the
//! guest is shown another CTR_EL0 than the core's, as [`identity::Reach`] says), ACTLR_EL1 (TACR),
//! the physical timer (CNTHCTL_EL2), the PMU (MDCR_EL2.TPM), the OS lock and the OS double lock
//! (TDOSA), and implementation defined registers (TIDCP). Cache maintenance by set and way (TSW)
//! has an answer for hosts that trap it. Features that [`identity`] hides are UNDEFINED, as on a
//! CPU without them.

pub mod aarch32;
mod debug;
pub mod identity;

use stasis_state::vcpu::{Core, Debug, Identity, SystemRegisters, sysreg};

use crate::{
    exit::SystemAccess,
    register::{general, set_general},
    timer::{PhysicalRegister, read_physical, write_physical},
};
use stasis_devices::machine::GICD_BASE;

use debug::{DebugRegister, while_locked};

/// The parts of a vCPU's state that trapped registers read and change.
pub struct TrapState<'a> {
    /// General registers of the vCPU.
    pub core: &'a mut Core,
    /// Record of the vCPU's system registers. Only those are used that are not in the hardware
    /// while the vCPU is loaded: ACTLR_EL1 and the physical timer.
    pub system: &'a mut SystemRegisters,
    /// Debug registers of the vCPU: the OS lock, and the others while it is locked, or while they
    /// are kept there.
    pub debug: &'a mut Debug,
    /// Whether the vCPU's debug registers are in its record, whatever its OS lock is: a debugger
    /// outside of the guest has the hardware's.
    pub debug_is_kept: bool,
    /// ID registers that the vCPU is shown.
    pub identity: &'a Identity,
    /// CNTVCT of the guest, in ticks, which is its CNTPCT, too.
    pub now: u64,
}

/// The result of a trapped access, with what the caller must do. After all but
/// [`Outcome::Undefined`] it calls [`crate::exit::skip_instruction`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The access is done.
    Done,
    /// The access is done, and the physical timer's line and deadline may have changed.
    TimerChanged,
    /// The guest cleans or invalidates a data cache by set and way. A host that traps this cleans
    /// and invalidates all of the guest's memory.
    CleanAll,
    /// The OS lock was written. The caller takes back the debug registers that it has lent the
    /// vCPU, or lends them.
    OsLock,
    /// The register is one of the core's own. The caller reads it into the instruction's register,
    /// or writes `written`.
    Cache {
        /// The core's register.
        register: CacheRegister,
        /// Value that the guest writes. None: the guest reads.
        written: Option<u64>,
    },
    /// The access is UNDEFINED. The caller calls [`crate::inject::undefined`].
    Undefined {
        /// Whether the register belongs to a feature that the guest was told is absent. If not, the
        /// log gets a line.
        hidden: bool,
    },
}

/// A register that describes the core's caches. Maintenance by set and way needs the geometry of
/// this core's caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheRegister {
    /// CLIDR_EL1.
    Levels,
    /// CCSIDR_EL1, of the cache that is selected.
    Size,
    /// CSSELR_EL1.
    Selection,
}

/// A trapped register, by the way in which it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    Constant(u64),
    ReadOnly(u64),
    Timer(PhysicalRegister),
    OsLockAccess,
    OsLockStatus,
    Debug(DebugRegister),
    SetWay,
    Cache(CacheRegister),
    Hidden,
    Unknown,
}

/// CNTPCT_EL0.
const CNTPCT: u16 = sysreg(3, 3, 14, 0, 1);

/// Bits of OSLSR_EL1: OSLM is 0b10, an OS lock is implemented; OSLK is bit 1.
const OSLSR_IMPLEMENTED: u64 = 1 << 3;
const OSLSR_LOCKED: u64 = 1 << 1;

/// Carries out a trapped access, and returns what the caller must do.
#[inline]
pub fn handle(access: SystemAccess, vcpu: &mut TrapState<'_>) -> Outcome {
    let register = classify(access.encoding, vcpu);
    let written = general(vcpu.core, access.rt);
    let value = match (register, access.is_read) {
        (Register::Constant(value) | Register::ReadOnly(value), true) => value,
        (Register::Constant(_), false) => return Outcome::Done,

        (Register::Timer(timer), true) => read_physical(vcpu.system, timer, vcpu.now),
        (Register::Timer(timer), false) => {
            write_physical(vcpu.system, timer, written, vcpu.now);
            return Outcome::TimerChanged;
        }

        (Register::OsLockStatus, true) => match *vcpu.debug.os_lock {
            0 => OSLSR_IMPLEMENTED,
            _ => OSLSR_IMPLEMENTED | OSLSR_LOCKED,
        },
        (Register::OsLockAccess, false) => {
            *vcpu.debug.os_lock = written & 1;
            return Outcome::OsLock;
        }
        (Register::Debug(register), true) => *register.of(vcpu.debug),
        (Register::Debug(register), false) => {
            *register.of(vcpu.debug) = written & register.writable();
            return Outcome::Done;
        }

        (Register::SetWay, false) => return Outcome::CleanAll,
        (Register::Cache(register), true) => return Outcome::Cache { register, written: None },
        (Register::Cache(register @ CacheRegister::Selection), false) => {
            return Outcome::Cache { register, written: Some(written) };
        }
        (Register::Unknown, _) => return Outcome::Undefined { hidden: false },
        // The register is read-only, write-only, or hidden.
        _ => return Outcome::Undefined { hidden: true },
    };
    set_general(vcpu.core, access.rt, value);
    Outcome::Done
}

/// Returns what the register of an encoding reads, if that depends on the vCPU's ID registers and
/// the time alone: an ID register, or CNTPCT_EL0. None if it is another register. `now` returns
/// CNTVCT of the guest, in ticks, which is its CNTPCT, too.
fn read_alone(encoding: u16, identity: &Identity, now: impl FnOnce() -> u64) -> Option<u64> {
    read_often(encoding, identity, now).or_else(|| identity::read(identity, encoding))
}

/// Returns what the register of an encoding reads, if it is CNTPCT_EL0 or an ID register of
/// AArch64: these are read often, and in few instructions. So the answer to an exit needs no lock
/// of what the vCPUs share. None if it is another register. `now` returns CNTVCT of the guest, in
/// ticks, which is its CNTPCT, too.
#[inline]
pub fn read_often(encoding: u16, identity: &Identity, now: impl FnOnce() -> u64) -> Option<u64> {
    match encoding {
        CNTPCT => Some(now()),
        _ => identity::get(identity, encoding),
    }
}

/// Returns how the register of an encoding is answered: DDI 0487, D17 and the tables of D22.3.
/// Encodings are written as op0, op1, CRn, CRm, op2.
#[inline]
fn classify(encoding: u16, vcpu: &TrapState<'_>) -> Register {
    if let Some(value) = read_alone(encoding, vcpu.identity, || vcpu.now) {
        return Register::ReadOnly(value);
    }
    const DEBUG: u16 = 2;
    let (op0, ..) = split(encoding);
    if op0 == DEBUG
        && (vcpu.debug_is_kept || *vcpu.debug.os_lock != 0)
        && let Some(register) = while_locked(split(encoding), vcpu.identity)
    {
        return register;
    }
    match split(encoding) {
        // DC ISW, CSW, CISW.
        (1, 0, 7, 6 | 10 | 14, 2) => Register::SetWay,

        // OSLAR_EL1, OSLSR_EL1. OSDLR_EL1 and DBGPRCR_EL1 have no effect on a core that stays
        // powered.
        (2, 0, 1, 0, 4) => Register::OsLockAccess,
        (2, 0, 1, 1, 4) => Register::OsLockStatus,
        (2, 0, 1, 3 | 4, 4) => Register::Constant(0),
        // MDRAR_EL1: there is no table of debug components.
        (2, 0, 1, 0, 0) => Register::ReadOnly(0),

        // ACTLR_EL1 reads as its record, and ignores writes: what a bit does on this board, it does
        // not do on another.
        (3, 0, 1, 0, 1) => Register::Constant(*vcpu.system.actlr_el1),

        (3, 1, 0, 0, 0) => Register::Cache(CacheRegister::Size),
        (3, 1, 0, 0, 1) => Register::Cache(CacheRegister::Levels),
        (3, 2, 0, 0, 0) => Register::Cache(CacheRegister::Selection),

        (3, 3, 14, 2, 0) => Register::Timer(PhysicalRegister::TimerValue),
        (3, 3, 14, 2, 1) => Register::Timer(PhysicalRegister::Control),
        (3, 3, 14, 2, 2) => Register::Timer(PhysicalRegister::CompareValue),

        // Implementation defined, as QEMU's Cortex-A53, A57 and A72 have them: L2CTLR_EL1,
        // L2ECTLR_EL1, L2ACTLR_EL1, CPUACTLR_EL1, CPUECTLR_EL1, CPUMERRSR_EL1, L2MERRSR_EL1;
        // CBAR_EL1 has the GIC's address.
        (3, 1, 11, 0, 2 | 3) | (3, 1, 15, 0, 0) | (3, 1, 15, 2, 0..=3) => Register::Constant(0),
        (3, 1, 15, 3, 0) => Register::ReadOnly(GICD_BASE),

        other if is_hidden(other) => Register::Hidden,
        _ => Register::Unknown,
    }
}

/// Returns whether the register of an encoding, as [`split`] returns it, is one of a part of the
/// CPU that no guest is shown.
fn is_hidden(encoding: (u16, u16, u16, u16, u16)) -> bool {
    matches!(
        encoding,
        // Trace.
        (2, 1, ..)
        // RGSR_EL1 and GCR_EL1 (MTE), ZCR_EL1 to SMCR_EL1 (SVE, trace, SME).
        | (3, 0, 1, 0, 5 | 6) | (3, 0, 1, 2, _)
        // Pointer authentication's keys.
        | (3, 0, 2, 1..=3, _)
        // ICC_PMR_EL1 and the rest of a GICv3's CPU interface.
        | (3, 0, 4, 6, 0) | (3, 0, 12, 8..=12, _)
        // RAS: the error records. MTE: TFSR_EL1.
        | (3, 0, 5, 3..=4 | 6, _)
        // Statistical profiling and the trace buffer.
        | (3, 0, 9, 9..=11, _)
        // Limited ordering regions.
        | (3, 0, 10, 4, _)
        // SCXTNUM_EL1 and SCXTNUM_EL0.
        | (3, 0 | 3, 13, 0, 7)
        // The PMU.
        | (3, 0, 9, 14, _) | (3, 3, 9, 12..=14, _) | (3, 3, 14, 8..=15, _)
        // Activity monitors.
        | (3, 3, 13, 2..=15, _)
        // CCSIDR2_EL1.
        | (3, 1, 0, 0, 2)
        // CNTPCTSS_EL0 and CNTVCTSS_EL0.
        | (3, 3, 14, 0, 5 | 6)
    )
}

/// Returns op0, op1, CRn, CRm and op2, which [`sysreg`] packs.
const fn split(encoding: u16) -> (u16, u16, u16, u16, u16) {
    (encoding >> 14, encoding >> 11 & 7, encoding >> 7 & 0xf, encoding >> 3 & 0xf, encoding & 7)
}

const _: () = assert!({
    let (op0, op1, crn, crm, op2) = split(0xabcd);
    sysreg(op0, op1, crn, crm, op2) == 0xabcd
});

#[cfg(test)]
mod tests;
