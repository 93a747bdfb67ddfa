//! Trapped system registers and instructions.
//!
//! What traps, and so has an answer here: the ID registers (HCR_EL2.TID1 and TID3; TID2 where the guest is shown
//! another CTR_EL0 than the core's), ACTLR_EL1 (TACR), the
//! physical timer (CNTHCTL_EL2), the PMU (MDCR_EL2.TPM), the OS lock and the OS double lock (TDOSA), and implementation
//! defined registers (TIDCP). Cache maintenance by set and way (TSW) has one for hosts that trap it. Features that
//! [`identity`] hides are UNDEFINED, as they are on a CPU without them.

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

/// The state of a vCPU that trapped registers are about.
pub struct Vcpu<'a> {
    /// Its general registers.
    pub core: &'a mut Core,
    /// Its record of system registers, of which only those are used that are not in the hardware
    /// while it is loaded: ACTLR_EL1 and the physical timer.
    pub system: &'a mut SystemRegisters,
    /// Its debug registers: the OS lock, and the others as long as that is locked.
    pub debug: &'a mut Debug,
    /// What it sees of its CPU.
    pub identity: &'a Identity,
    /// Its CNTVCT, which is its CNTPCT.
    pub now: u64,
}

/// What came of a trapped register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done: [`crate::exit::skip_instruction`].
    Done,
    /// It is done, and the physical timer's line and deadline may be others now.
    TimerChanged,
    /// A data cache is to be cleaned and invalidated by set and way: all of the guest's memory is. Then it is done.
    CleanAll,
    /// The OS lock was written: whoever has lent the vCPU its debug registers takes them back, or lends them. Then it is done.
    OsLock,
    /// One of the core's own: it is read into X`rt`, or `written`. Then it is done.
    Cache {
        /// Which one.
        register: CacheRegister,
        /// The value, if it is a write.
        written: Option<u64>,
    },
    /// [`crate::inject::undefined`].
    Undefined {
        /// The register is of a feature the guest was told is absent. If not, it is worth a line in the log.
        hidden: bool,
    },
}

/// What describes the core's caches. Whoever maintains a cache by set and way needs the geometry of this core's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheRegister {
    /// CLIDR_EL1.
    Levels,
    /// CCSIDR_EL1, of the cache that is selected.
    Size,
    /// CSSELR_EL1.
    Selection,
}

/// A trapped register by what answers it.
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

/// OSLSR_EL1: OSLM is 0b10, an OS lock is implemented; OSLK is bit 1.
const OSLSR_IMPLEMENTED: u64 = 1 << 3;
const OSLSR_LOCKED: u64 = 1 << 1;

/// Carries out a trapped access.
#[inline]
pub fn handle(access: SystemAccess, vcpu: &mut Vcpu<'_>) -> Outcome {
    let register = classify(access.encoding, vcpu);
    let written = general(vcpu.core, access.rt);
    let value = match (register, access.is_read) {
        (Register::Constant(value) | Register::ReadOnly(value), true) => value,
        (Register::Constant(_), false) => return Outcome::Done,

        (Register::Timer(timer), true) => read_physical(vcpu.system, timer, vcpu.now),
        (Register::Timer(timer), false) if timer != PhysicalRegister::Count => {
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
        // Read-only, write-only, or hidden.
        _ => return Outcome::Undefined { hidden: true },
    };
    set_general(vcpu.core, access.rt, value);
    Outcome::Done
}

/// DDI 0487, D17 and the tables of D22.3. Encodings read op0, op1, CRn, CRm, op2.
#[inline]
fn classify(encoding: u16, vcpu: &Vcpu<'_>) -> Register {
    if let Some(value) = identity::read(vcpu.identity, encoding) {
        return Register::ReadOnly(value);
    }
    const DEBUG: u16 = 2;
    let (op0, ..) = split(encoding);
    if op0 == DEBUG
        && *vcpu.debug.os_lock != 0
        && let Some(register) = while_locked(split(encoding), vcpu.identity)
    {
        return register;
    }
    match split(encoding) {
        // DC ISW, CSW, CISW.
        (1, 0, 7, 6 | 10 | 14, 2) => Register::SetWay,

        // OSLAR_EL1, OSLSR_EL1; OSDLR_EL1 and DBGPRCR_EL1 do nothing on a core that stays powered.
        (2, 0, 1, 0, 4) => Register::OsLockAccess,
        (2, 0, 1, 1, 4) => Register::OsLockStatus,
        (2, 0, 1, 3 | 4, 4) => Register::Constant(0),
        // MDRAR_EL1: there is no table of debug components.
        (2, 0, 1, 0, 0) => Register::ReadOnly(0),
        // Trace.
        (2, 1, ..) => Register::Hidden,

        // ACTLR_EL1: whatever it does on this board, it would do something else on another.
        (3, 0, 1, 0, 1) => Register::Constant(*vcpu.system.actlr_el1),
        // RGSR_EL1 and GCR_EL1 (MTE), ZCR_EL1 to SMCR_EL1 (SVE, trace, SME).
        (3, 0, 1, 0, 5 | 6) | (3, 0, 1, 2, _) => Register::Hidden,
        // Pointer authentication's keys.
        (3, 0, 2, 1..=3, _) => Register::Hidden,
        // ICC_PMR_EL1 and the rest of a GICv3's CPU interface.
        (3, 0, 4, 6, 0) | (3, 0, 12, 8..=12, _) => Register::Hidden,
        // RAS: the error records. MTE: TFSR_EL1.
        (3, 0, 5, 3..=4 | 6, _) => Register::Hidden,
        // Statistical profiling and the trace buffer.
        (3, 0, 9, 9..=11, _) => Register::Hidden,
        // Limited ordering regions.
        (3, 0, 10, 4, _) => Register::Hidden,
        // SCXTNUM_EL1 and SCXTNUM_EL0.
        (3, 0 | 3, 13, 0, 7) => Register::Hidden,
        // The PMU.
        (3, 0, 9, 14, _) | (3, 3, 9, 12..=14, _) | (3, 3, 14, 8..=15, _) => Register::Hidden,
        // Activity monitors.
        (3, 3, 13, 2..=15, _) => Register::Hidden,

        (3, 1, 0, 0, 0) => Register::Cache(CacheRegister::Size),
        (3, 1, 0, 0, 1) => Register::Cache(CacheRegister::Levels),
        (3, 2, 0, 0, 0) => Register::Cache(CacheRegister::Selection),
        // CCSIDR2_EL1.
        (3, 1, 0, 0, 2) => Register::Hidden,

        (3, 3, 14, 0, 1) => Register::Timer(PhysicalRegister::Count),
        // CNTPCTSS_EL0 and CNTVCTSS_EL0.
        (3, 3, 14, 0, 5 | 6) => Register::Hidden,
        (3, 3, 14, 2, 0) => Register::Timer(PhysicalRegister::TimerValue),
        (3, 3, 14, 2, 1) => Register::Timer(PhysicalRegister::Control),
        (3, 3, 14, 2, 2) => Register::Timer(PhysicalRegister::CompareValue),

        // Implementation defined, as QEMU's Cortex-A53, A57 and A72 have them: L2CTLR_EL1, L2ECTLR_EL1, L2ACTLR_EL1,
        // CPUACTLR_EL1, CPUECTLR_EL1, CPUMERRSR_EL1, L2MERRSR_EL1; CBAR_EL1 has the GIC's address.
        (3, 1, 11, 0, 2 | 3) | (3, 1, 15, 0, 0) | (3, 1, 15, 2, 0..=3) => Register::Constant(0),
        (3, 1, 15, 3, 0) => Register::ReadOnly(GICD_BASE),

        _ => Register::Unknown,
    }
}

/// The parts that [`sysreg`] packs.
const fn split(encoding: u16) -> (u16, u16, u16, u16, u16) {
    (encoding >> 14, encoding >> 11 & 7, encoding >> 7 & 0xf, encoding >> 3 & 0xf, encoding & 7)
}

const _: () = assert!({
    let (op0, op1, crn, crm, op2) = split(0xabcd);
    sysreg(op0, op1, crn, crm, op2) == 0xabcd
});

#[cfg(test)]
mod tests;
