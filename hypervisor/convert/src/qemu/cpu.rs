//! The sections of a vCPU: `cpu_common` and `cpu` (hw/core/cpu-common.c, target/arm/machine.c).
//!
//! The system registers stand in a list of their own, by ids that are KVM's. The list that QEMU has
//! written says which there are. What the format does not have stays as it is in the base.

use stasis_state::records::VcpuState;
use stasis_state::timer::Timer;
use stasis_state::vcpu::{PSTATE_IS_AARCH32, PowerState, sysreg};

use super::Backend;
use super::fields::{Fields, Way};
use crate::error::Error;
use crate::sysreg::Sysreg;

/// The field that has the ids of the list.
pub(super) const IDS: &str = "cpreg_vmstate_indexes";

/// The ids of AArch64's system registers have this in their upper bits, and an encoding in their
/// lower 16.
const SYSTEM_REGISTER: u64 = 0x6030_0000_0013_0000;
/// PAR_EL1, which QEMU lists as AArch32's.
const PAR_AARCH32: u64 = 0x4030_0000_200f_0380;
const PAR: u16 = sysreg(3, 0, 7, 4, 0);
const FPCR: u16 = sysreg(3, 3, 4, 4, 0);
const FPSR: u16 = sysreg(3, 3, 4, 4, 1);
pub(super) const CNTFRQ: u16 = sysreg(3, 3, 14, 0, 0);
/// CNTV_CVAL_EL0, and the two ids of KVM's that were exchanged by mistake: where the comparison
/// value is, and the counter.
const CNTV_CVAL: u16 = sysreg(3, 3, 14, 3, 2);
pub(super) const KVM_CNTV_CVAL: u16 = 0xdf02;
const KVM_COUNTER: u16 = 0xdf1a;
/// CNTPCT_EL0, which Linux has told since 6.4, as it has of the physical timer.
const KVM_PHYSICAL_COUNTER: u16 = sysreg(3, 3, 14, 0, 1);
const CNTP_CTL: u16 = sysreg(3, 3, 14, 2, 1);

/// M of PSTATE, with EL1 and its own stack pointer in it.
const MODE: u64 = 0xf;
const EL1H: u64 = 5;
/// The index in `xregs` of the stack pointer that is in use.
const SP: usize = 31;
/// Bits of `fpscr` that are FPSR's, and that are FPCR's.
const FPSR_BITS: u32 = 0xf800_009f;
const FPCR_BITS: u32 = 0x07f7_9f00;
/// QEMU's banks of SPSR: of EL1, and of the modes of AArch32.
const SPSR_EL1: usize = 1;
const SPSR_ABT: usize = 2;
const SPSR_UND: usize = 3;
const SPSR_IRQ: usize = 4;
const SPSR_FIQ: usize = 5;

/// What an entry of the list is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A register of the format.
    Sysreg(Sysreg),
    Fpcr,
    Fpsr,
    /// The guest's counter, which KVM has among the registers.
    Counter,
    /// CNTPCT_EL0, which is another counter on a KVM.
    PhysicalCounter,
    /// A register that the format does not have.
    Other,
}

impl Entry {
    /// Returns what the entry with this id is.
    pub fn of(id: u64, backend: Backend) -> Self {
        let encoding = match id {
            PAR_AARCH32 => PAR,
            _ if id & !0xffff == SYSTEM_REGISTER => id as u16,
            _ => return Self::Other,
        };
        match (encoding, backend) {
            (KVM_COUNTER, Backend::Kvm) => Self::Counter,
            (KVM_PHYSICAL_COUNTER, Backend::Kvm) => Self::PhysicalCounter,
            (KVM_CNTV_CVAL, Backend::Kvm) => Self::sysreg(CNTV_CVAL),
            (FPCR, _) => Self::Fpcr,
            (FPSR, _) => Self::Fpsr,
            _ => Self::sysreg(encoding),
        }
    }

    fn sysreg(encoding: u16) -> Self {
        Sysreg::find(encoding).map_or(Self::Other, Self::Sysreg)
    }
}

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// The instant of a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instant {
    /// CNTVCT_EL0, in ticks.
    pub cntvct: u64,
    /// CNTFRQ_EL0, in Hz; it is not 0.
    pub cntfrq: u64,
}

impl Instant {
    /// Returns the time in nanoseconds at which the counter reads `ticks`, as QEMU's clock counts;
    /// `None` if that clock does not go so far.
    pub fn ns(self, ticks: u64) -> Option<u64> {
        let ns = u128::from(ticks) * u128::from(SECOND) / u128::from(self.cntfrq);
        u64::try_from(ns).ok().filter(|ns| *ns <= i64::MAX as u64)
    }
}

/// Returns the ticks of a counter of `cntfrq` Hz, which is not 0, at the time `ns` of QEMU's clock.
pub(super) fn ticks(ns: u64, cntfrq: u64) -> u64 {
    (u128::from(ns) * u128::from(cntfrq) / u128::from(SECOND)) as u64
}

/// Returns whether a CPU's list has the physical timer, which Linux before 6.4 does not tell of.
///
/// # Errors
///
/// The section does not have what every CPU has.
pub(super) fn has_physical_timer(fields: &mut Fields<'_>) -> Result<bool, Error> {
    Ok(listed(fields, id(CNTP_CTL))?.is_some())
}

/// Passes the registers of a vCPU between its records and its section.
pub(super) fn exchange(
    fields: &mut Fields<'_>,
    vcpu: &mut VcpuState,
    backend: Backend,
) -> Result<(), Error> {
    general(fields, vcpu)?;
    vectors(fields, vcpu)?;
    let mut placed = 0;
    for n in 0..fields.count(IDS) {
        let id = fields.get(IDS, n)?;
        let value = "cpreg_vmstate_values";
        match Entry::of(id, backend) {
            Entry::Sysreg(register) => {
                placed += u32::from(register.get(vcpu) != register.reset());
                let mut word = register.get(vcpu);
                fields.exchange(value, n, &mut word)?;
                register.set(vcpu, word);
            }
            Entry::Fpcr => fields.exchange(value, n, &mut *vcpu.fp.fpcr)?,
            Entry::Fpsr => fields.exchange(value, n, &mut *vcpu.fp.fpsr)?,
            Entry::Counter | Entry::PhysicalCounter | Entry::Other => {}
        }
    }
    match fields.way {
        Way::ToQemu => all_have_a_place(fields, vcpu, backend, placed),
        Way::FromQemu => Ok(()),
    }
}

/// Checks that QEMU has each register that is not as at reset; `placed` were in its list.
fn all_have_a_place(
    fields: &mut Fields<'_>,
    vcpu: &VcpuState,
    backend: Backend,
    placed: u32,
) -> Result<(), Error> {
    let changed = || Sysreg::all().filter(|register| register.get(vcpu) != register.reset());
    if changed().count() as u32 == placed {
        return Ok(());
    }
    for register in changed() {
        let mut ids = (0..fields.count(IDS)).map(|n| fields.get(IDS, n));
        let is_it = |id: Result<u64, Error>| {
            id.is_ok_and(|id| Entry::of(id, backend) == Entry::Sysreg(register))
        };
        if !ids.any(is_it) {
            return Err(Error::NoPlace { register: register.name, value: register.get(vcpu) });
        }
    }
    Ok(())
}

/// Passes X, PC, PSTATE and the special registers.
fn general(fields: &mut Fields<'_>, vcpu: &mut VcpuState) -> Result<(), Error> {
    let VcpuState { core, system, .. } = vcpu;
    for (n, x) in core.x.iter_mut().enumerate() {
        fields.exchange("env.xregs", n, x)?;
    }
    fields.exchange("env.pc", 0, &mut *core.pc)?;
    fields.exchange("cpsr", 0, &mut *core.pstate)?;
    fields.exchange("env.elr_el", 1, &mut *system.elr_el1)?;
    fields.exchange("env.sp_el", 0, &mut *system.sp_el0)?;
    fields.exchange("env.sp_el", 1, &mut *system.sp_el1)?;
    for (bank, spsr) in [
        (SPSR_EL1, &mut *system.spsr_el1),
        (SPSR_ABT, &mut *system.spsr_abt),
        (SPSR_UND, &mut *system.spsr_und),
        (SPSR_IRQ, &mut *system.spsr_irq),
        (SPSR_FIQ, &mut *system.spsr_fiq),
    ] {
        fields.exchange("env.banked_spsr", bank, spsr)?;
    }
    if *core.pstate & PSTATE_IS_AARCH32 != 0 {
        return Err(Error::AArch32);
    }
    let sp = if *core.pstate & MODE == EL1H { &mut *system.sp_el1 } else { &mut *system.sp_el0 };
    fields.exchange("env.xregs", SP, sp)
}

/// Passes V, and FPSR and FPCR in AArch32's form, which counts where they are not in the list.
fn vectors(fields: &mut Fields<'_>, vcpu: &mut VcpuState) -> Result<(), Error> {
    for (n, v) in vcpu.fp.v.iter_mut().enumerate() {
        let name = alloc::format!("env.vfp.zregs[{n}].d");
        for (half, word) in v.iter_mut().enumerate() {
            fields.exchange(&name, half, word)?;
        }
    }
    let mut fpscr = *vcpu.fp.fpsr & FPSR_BITS | *vcpu.fp.fpcr & FPCR_BITS;
    fields.exchange("fpscr", 0, &mut fpscr)?;
    if fields.way == Way::FromQemu {
        (*vcpu.fp.fpsr, *vcpu.fp.fpcr) = (fpscr & FPSR_BITS, fpscr & FPCR_BITS);
    }
    Ok(())
}

/// Writes what follows from a vCPU's registers and the time: its power state, and when QEMU looks
/// at its timers.
pub(super) fn set_derived(
    fields: &mut Fields<'_>,
    vcpu: &VcpuState,
    backend: Backend,
    now: Instant,
) -> Result<(), Error> {
    let off = *vcpu.power.state == PowerState::Off as u8;
    fields.set("power_state", 0, off.into())?;
    match backend {
        Backend::Tcg => {
            // QEMU before 8 gives them numbers.
            let timers = [
                ("gt_timer[GTIMER_PHYS]", "gt_timer[0]", Timer::physical_timer(&vcpu.system)),
                ("gt_timer[GTIMER_VIRT]", "gt_timer[1]", Timer::virtual_timer(&vcpu.system)),
            ];
            for (name, older, timer) in timers {
                let name = if fields.count(older) > 0 { older } else { name };
                fields.set(name, 0, expiry(timer, now))?;
            }
        }
        Backend::Kvm => {
            set_entry(fields, Entry::Counter, backend, now.cntvct)?;
            // Stasis's guests read the same in both counters.
            set_entry(fields, Entry::PhysicalCounter, backend, now.cntvct)?;
        }
    }
    Ok(())
}

/// Returns the time in nanoseconds at which QEMU must look at a timer; -1 where it need not.
fn expiry(timer: Timer, now: Instant) -> u64 {
    const NEVER: u64 = u64::MAX;
    const LAST: u64 = i64::MAX as u64;
    let due = |cval: u64| now.ns(cval).unwrap_or(LAST);
    timer.deadline(now.cntvct).map_or(NEVER, due)
}

/// Writes the entries of the list that are `entry`.
fn set_entry(
    fields: &mut Fields<'_>,
    entry: Entry,
    backend: Backend,
    value: u64,
) -> Result<(), Error> {
    for n in 0..fields.count(IDS) {
        if Entry::of(fields.get(IDS, n)?, backend) == entry {
            fields.set("cpreg_vmstate_values", n, value)?;
        }
    }
    Ok(())
}

/// Returns the value of the register with this id in the list; `None` if it is not there.
pub(super) fn listed(fields: &mut Fields<'_>, id: u64) -> Result<Option<u64>, Error> {
    for n in 0..fields.count(IDS) {
        if fields.get(IDS, n)? == id {
            return fields.get("cpreg_vmstate_values", n).map(Some);
        }
    }
    Ok(None)
}

/// Returns the id of a system register in the list.
pub(super) const fn id(encoding: u16) -> u64 {
    SYSTEM_REGISTER | encoding as u64
}

/// Returns the guest's counter as KVM has it.
pub(super) fn kvm_counter(fields: &mut Fields<'_>) -> Result<Option<u64>, Error> {
    listed(fields, id(KVM_COUNTER))
}

/// Returns CNTPCT_EL0 as KVM has it; `None` where it does not tell.
pub(super) fn kvm_physical_counter(fields: &mut Fields<'_>) -> Result<Option<u64>, Error> {
    listed(fields, id(KVM_PHYSICAL_COUNTER))
}

/// The uppermost byte of the ids of AArch32's registers.
const AARCH32: u64 = 0x40;

/// Returns the bits of a register that Stasis does not have of which it does not matter what they
/// are.
///
/// AArch32's registers are other views of AArch64's: who has EL1 in AArch64 can't reach them by
/// themselves.
pub(super) fn harmless(id: u64) -> u64 {
    match id {
        _ if id >> 56 == AARCH32 => u64::MAX,
        _ => 0,
    }
}
