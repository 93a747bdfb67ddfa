//! PSCI 1.1 (DEN 0022), and the calls that discover it (SMCCC 1.1, DEN 0028), by HVC and by SMC.
//!
//! [`call`] answers in X0 and in the vCPUs' [`Power`] records. What it can't do there it returns to
//! its caller as an [`Action`].

use stasis_state::{
    register::Record,
    vcpu::{Core, Power, PowerState, SystemRegisters},
};

use crate::register::pstate;

/// The function identifiers. Functions with the bit [`SMC64`] take 64-bit arguments.
mod function {
    pub const SMC64: u32 = 1 << 30;

    pub const SMCCC_VERSION: u32 = 0x8000_0000;
    pub const SMCCC_ARCH_FEATURES: u32 = 0x8000_0001;

    pub const PSCI_VERSION: u32 = 0x8400_0000;
    pub const CPU_SUSPEND: u32 = 0x8400_0001;
    pub const CPU_SUSPEND_64: u32 = CPU_SUSPEND | SMC64;
    pub const CPU_OFF: u32 = 0x8400_0002;
    pub const CPU_ON: u32 = 0x8400_0003;
    pub const CPU_ON_64: u32 = CPU_ON | SMC64;
    pub const AFFINITY_INFO: u32 = 0x8400_0004;
    pub const AFFINITY_INFO_64: u32 = AFFINITY_INFO | SMC64;
    pub const MIGRATE_INFO_TYPE: u32 = 0x8400_0006;
    pub const SYSTEM_OFF: u32 = 0x8400_0008;
    pub const SYSTEM_RESET: u32 = 0x8400_0009;
    pub const PSCI_FEATURES: u32 = 0x8400_000a;
    pub const SYSTEM_RESET2: u32 = 0x8400_0012;
    pub const SYSTEM_RESET2_64: u32 = SYSTEM_RESET2 | SMC64;
}

/// Answer to PSCI_VERSION: 1.1.
const PSCI_1_1: i64 = 0x1_0001;
/// Answer to SMCCC_VERSION: 1.1.
const SMCCC_1_1: i64 = 0x1_0001;
/// Answer to MIGRATE_INFO_TYPE: there is no trusted OS that would have to be migrated.
const NO_MIGRATION: i64 = 2;
/// Bit 31 of MPIDR_EL1, which is RES1. Callers pass an MPIDR with this bit and without it.
const MPIDR_RES1: u64 = 1 << 31;
/// Bits that CPU_SUSPEND's power_state may have: the type and the platform's own state id (5.4.2).
/// There are no power levels above the core's.
const POWER_STATE: u64 = 0x1_ffff;

/// Error codes of PSCI (5.2.2), and the one with which SMCCC answers an unknown function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
enum Error {
    NotSupported = -1,
    InvalidParameters = -2,
    AlreadyOn = -4,
    OnPending = -5,
}

/// What the caller of [`call`] must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The vCPU goes on.
    Resume,
    /// The vCPU waits as for WFI, then goes on: the state that it asks for is never deeper than
    /// standby.
    Suspend,
    /// The vCPU is off, and does not go on.
    Off,
    /// Another vCPU was switched on, and must be started ([`enter`]). The calling vCPU goes on.
    StartCpu {
        /// Index of the other vCPU.
        index: usize,
    },
    /// The guest has switched its machine off.
    SystemOff,
    /// The guest has reset its machine.
    SystemReset,
}

/// The power records of a guest's vCPUs.
pub trait Cpus {
    /// Returns the number of vCPUs.
    fn count(&self) -> usize;
    /// Returns the record of vCPU `index`, which is below [`Cpus::count`].
    fn power(&mut self, index: usize) -> &mut Power;
}

impl Cpus for [Power] {
    fn count(&self) -> usize {
        self.len()
    }

    fn power(&mut self, index: usize) -> &mut Power {
        &mut self[index]
    }
}

/// Answers an HVC or SMC of vCPU `this`, whose instruction has the immediate `imm`. Returns what
/// the caller must do.
///
/// `core` has the calling vCPU's registers, of which only X0 changes. After an SMC the PC is still
/// at the instruction: whatever the action, the caller moves it on with
/// [`crate::exit::skip_instruction`].
///
/// # Panics
///
/// If the guest has no vCPU `this` and the call is CPU_OFF.
pub fn call<C: Cpus + ?Sized>(core: &mut Core, imm: u16, this: usize, cpus: &mut C) -> Action {
    let (answer, action) = if imm == 0 {
        dispatch(&core.x, this, cpus)
    } else {
        // SMCCC knows no other immediate (2.9).
        Err(Error::NotSupported)
    }
    .unwrap_or_else(|error| (error as i64, Action::Resume));
    core.x[0] = answer as u64;
    action
}

/// Answers a call that neither acts nor asks about a vCPU, as [`call`] would: it asks for a
/// version, for what there is, or for a function that there is not. Returns `false` if it is
/// another call: then nothing was done.
#[inline]
pub fn ask(core: &mut Core, imm: u16) -> bool {
    let answer = match core.x[0] as u32 {
        _ if imm != 0 => Err(Error::NotSupported),
        // Of those that nobody knows, most are far from all that there are.
        id if !is_near(id) => Err(Error::NotSupported),
        function::PSCI_VERSION => Ok(PSCI_1_1),
        id if needs_vcpus(id) => return false,
        _ => tell(&core.x),
    };
    core.x[0] = answer.unwrap_or_else(|error| error as i64) as u64;
    true
}

/// The number of a function among PSCI's first 32.
const NUMBER: u32 = 0x1f;

/// Returns whether `id` is one of the first 32 functions of PSCI, with arguments of 32 or 64 bits,
/// or one of the first 32 of SMCCC. All that there are are among them.
#[inline]
fn is_near(id: u32) -> bool {
    const OF_PSCI: u32 = function::PSCI_VERSION ^ function::SMCCC_VERSION;
    id & !(function::SMC64 | OF_PSCI | NUMBER) == function::SMCCC_VERSION
}

/// Returns whether a function [near](is_near) those that there are may be one that acts, or asks
/// about a vCPU.
#[inline]
fn needs_vcpus(id: u32) -> bool {
    /// A set of numbers: one bit for each.
    const SET: u32 = bit(function::CPU_SUSPEND)
        | bit(function::CPU_OFF)
        | bit(function::CPU_ON)
        | bit(function::AFFINITY_INFO)
        | bit(function::SYSTEM_OFF)
        | bit(function::SYSTEM_RESET)
        | bit(function::SYSTEM_RESET2);
    const fn bit(id: u32) -> u32 {
        1 << (id & NUMBER)
    }
    SET >> (id & NUMBER) & 1 != 0 && id & function::PSCI_VERSION == function::PSCI_VERSION
}

/// Returns the answer to a call that [needs no vCPUs](needs_vcpus).
#[inline]
fn tell(x: &[u64; 31]) -> Result<i64, Error> {
    match x[0] as u32 {
        function::PSCI_VERSION => Ok(PSCI_1_1),
        function::SMCCC_VERSION => Ok(SMCCC_1_1),
        function::MIGRATE_INFO_TYPE => Ok(NO_MIGRATION),
        function::SMCCC_ARCH_FEATURES => arch_features(x[1] as u32),
        function::PSCI_FEATURES => features(x[1] as u32),
        _ => Err(Error::NotSupported),
    }
}

fn dispatch<C: Cpus + ?Sized>(
    x: &[u64; 31],
    this: usize,
    cpus: &mut C,
) -> Result<(i64, Action), Error> {
    // W0 is the function identifier. A 32-bit function's arguments are W1 to W3.
    let id = x[0] as u32;
    let argument = |index: usize| match id & function::SMC64 {
        0 => x[index] & u64::from(u32::MAX),
        _ => x[index],
    };
    let answer = |value| Ok((value, Action::Resume));
    match id {
        function::CPU_SUSPEND | function::CPU_SUSPEND_64 => {
            if argument(1) & !POWER_STATE != 0 {
                return Err(Error::InvalidParameters);
            }
            Ok((0, Action::Suspend))
        }
        function::CPU_OFF => {
            set_state(cpus.power(this), PowerState::Off);
            Ok((0, Action::Off))
        }
        function::CPU_ON | function::CPU_ON_64 => {
            let index = find(cpus, argument(1))?;
            cpu_on(cpus.power(index), argument(2), argument(3))?;
            Ok((0, Action::StartCpu { index }))
        }
        function::AFFINITY_INFO | function::AFFINITY_INFO_64 => match argument(2) {
            0 => {
                let index = find(cpus, argument(1))?;
                answer(affinity_info(*cpus.power(index).state))
            }
            // Each of these groups contains this vCPU, which is on.
            1..=3 => answer(0),
            _ => Err(Error::InvalidParameters),
        },
        function::SYSTEM_OFF => Ok((0, Action::SystemOff)),
        function::SYSTEM_RESET => Ok((0, Action::SystemReset)),
        // Only the architectural warm reset is implemented.
        function::SYSTEM_RESET2 | function::SYSTEM_RESET2_64 => match argument(1) as u32 {
            0 => Ok((0, Action::SystemReset)),
            _ => Err(Error::InvalidParameters),
        },
        _ => tell(x).and_then(answer),
    }
}

/// Answers SMCCC_ARCH_FEATURES. It says nothing about the workarounds for speculation: a guest must
/// not be told that it needs none, as it may go on on another board.
fn arch_features(id: u32) -> Result<i64, Error> {
    match id {
        function::SMCCC_VERSION | function::SMCCC_ARCH_FEATURES => Ok(0),
        _ => Err(Error::NotSupported),
    }
}

fn features(id: u32) -> Result<i64, Error> {
    match id {
        function::SMCCC_VERSION
        | function::PSCI_VERSION
        | function::CPU_SUSPEND
        | function::CPU_SUSPEND_64
        | function::CPU_OFF
        | function::CPU_ON
        | function::CPU_ON_64
        | function::AFFINITY_INFO
        | function::AFFINITY_INFO_64
        | function::MIGRATE_INFO_TYPE
        | function::SYSTEM_OFF
        | function::SYSTEM_RESET
        | function::PSCI_FEATURES
        | function::SYSTEM_RESET2
        | function::SYSTEM_RESET2_64 => Ok(0),
        _ => Err(Error::NotSupported),
    }
}

/// Returns the MPIDR_EL1 of vCPU `index`: Aff0 is the index, as on QEMU's `virt` with a GICv2.
pub const fn mpidr(index: usize) -> u64 {
    MPIDR_RES1 | index as u64
}

fn find<C: Cpus + ?Sized>(cpus: &C, target: u64) -> Result<usize, Error> {
    usize::try_from(target & !MPIDR_RES1)
        .ok()
        .filter(|index| *index < cpus.count())
        .ok_or(Error::InvalidParameters)
}

fn cpu_on(power: &mut Power, entry: u64, context_id: u64) -> Result<(), Error> {
    if *power.state == PowerState::OnPending as u8 {
        return Err(Error::OnPending);
    }
    if *power.state != PowerState::Off as u8 {
        return Err(Error::AlreadyOn);
    }
    // An instruction can't be at this address. QEMU answers so, too; INVALID_ADDRESS is for ranges
    // that are not available.
    if entry & 3 != 0 {
        return Err(Error::InvalidParameters);
    }
    set_state(power, PowerState::OnPending);
    *power.entry = entry;
    *power.context_id = context_id;
    Ok(())
}

fn affinity_info(state: u8) -> i64 {
    const ON: i64 = 0;
    const OFF: i64 = 1;
    const ON_PENDING: i64 = 2;

    if state == PowerState::Off as u8 {
        OFF
    } else if state == PowerState::OnPending as u8 {
        ON_PENDING
    } else {
        // A suspended vCPU counts as on (5.7.2).
        ON
    }
}

fn set_state(power: &mut Power, state: PowerState) {
    *power.state = state as u8;
}

/// Starts a vCPU for which CPU_ON or CPU_SUSPEND has left an entry address. Returns whether there
/// was one; if not, nothing was done.
///
/// The registers are as at reset (6.4), except PC and X0. The caller resets FP and debug registers.
pub fn enter(power: &mut Power, core: &mut Core, system: &mut SystemRegisters) -> bool {
    let state = *power.state;
    if state != PowerState::OnPending as u8 && state != PowerState::Suspended as u8 {
        return false;
    }
    start(power, core, system);
    true
}

#[cold]
fn start(power: &mut Power, core: &mut Core, system: &mut SystemRegisters) {
    *core = Core::reset();
    *system = SystemRegisters::reset();
    *core.pc = *power.entry;
    *core.pstate = pstate::RESET;
    core.x[0] = *power.context_id;
    *power.entry = 0;
    *power.context_id = 0;
    set_state(power, PowerState::On);
}

#[cfg(test)]
mod tests;
