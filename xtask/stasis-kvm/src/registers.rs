//! A vCPU's registers to KVM and back; and those that it has beside the format's, which must be as
//! they were at reset.

use std::fmt;

use anyhow::{Context, Result, bail, ensure};
use kvm_bindings::{KVM_MP_STATE_STOPPED, RegList, kvm_vcpu_events};
use kvm_ioctls::VcpuFd;
use stasis_convert::kvm::registers::{self, COUNTER, PHYSICAL_COUNTER, PHYSICAL_TIMER, Register};
use stasis_guest::sysreg::identity;
use stasis_state::VcpuState;
use stasis_state::register::Record;
use stasis_state::vcpu::{Identity, PowerState, sysreg};
use zerocopy::IntoBytes;

/// The most registers that a vCPU is asked for, which is what the bindings have room for. Linux
/// 6.12 has some 260.
const MOST: usize = 500;
/// KVM_REG_ARM64_SYSREG, with the bits that say what kind of register an id is of.
const IS_SYSREG: (u64, u64) = (0x0fff_0000, 0x0013_0000);
/// ACTLR_EL1, which is the machine's.
const ACTLR: u64 = registers::sysreg_id(sysreg(3, 0, 1, 0, 1));

/// What KVM has of a vCPU.
#[derive(Debug)]
pub struct Known {
    /// Whether KVM tells of the physical timer.
    pub physical_timer: bool,
    /// The ids and the values at reset of the registers that are not the format's.
    others: Vec<(u64, Vec<u8>)>,
    /// The ids that KVM has.
    ids: Vec<u64>,
}

impl Known {
    /// Asks KVM which registers a vCPU has that was just initialised.
    ///
    /// # Errors
    ///
    /// KVM does not tell.
    pub fn new(vcpu: &VcpuFd) -> Result<Self> {
        let mut list = RegList::new(MOST)?;
        vcpu.get_reg_list(&mut list).context("KVM does not list a vCPU's registers")?;
        let ids = list.as_slice().to_vec();
        let mut ours = vec![COUNTER, PHYSICAL_COUNTER, ACTLR];
        registers::each(&mut VcpuState::default(), &mut |register| {
            ours.push(register.id);
            Ok::<_, anyhow::Error>(())
        })?;
        let others = ids.iter().filter(|id| !ours.contains(id));
        let others: Result<Vec<_>> = others.map(|id| Ok((*id, get(vcpu, *id)?))).collect();
        let physical_timer = PHYSICAL_TIMER.iter().all(|id| ids.contains(id));
        Ok(Self { physical_timer, others: others?, ids })
    }

    /// Gives a vCPU the registers of its records.
    ///
    /// # Errors
    ///
    /// KVM refuses one, or does not have one of which the value matters.
    pub fn write(&self, vcpu: &VcpuFd, state: &VcpuState) -> Result<()> {
        let mut entered = registers::entered(state);
        let at_reset = VcpuState::default();
        let mut resets = Vec::new();
        registers::each(&mut at_reset.clone(), &mut |register| {
            resets.push(register.value.to_vec());
            Ok::<_, anyhow::Error>(())
        })?;
        let mut resets = resets.into_iter();
        registers::each(&mut entered, &mut |Register { id, name, value }| {
            let reset = resets.next().unwrap_or_default();
            if self.ids.contains(&id) || PHYSICAL_TIMER.contains(&id) && self.physical_timer {
                let set = vcpu.set_one_reg(id, value);
                return set.map(drop).with_context(|| format!("KVM refuses {name}"));
            }
            // A physical timer that is off has nothing to lose.
            let idle = PHYSICAL_TIMER.contains(&id) && *state.system.cntp_ctl_el0 & 1 == 0;
            let what = "which this KVM does not have";
            ensure!(idle || *value == reset[..], "the guest uses {name}, {what}");
            Ok(())
        })?;
        write_serror(vcpu, state)
    }

    /// Returns the records of a vCPU that stands still, with all else that `before` has. The
    /// timers' status is not settled.
    ///
    /// # Errors
    ///
    /// The guest has changed a register that no record has.
    pub fn read(&self, vcpu: &VcpuFd, before: &VcpuState) -> Result<VcpuState> {
        for (id, at_reset) in &self.others {
            let is_neutral = get(vcpu, *id)? == *at_reset;
            ensure!(is_neutral, "the guest has changed {}, which no checkpoint has", Id(*id));
        }
        let mut state = before.clone();
        registers::each(&mut state, &mut |Register { id, name, value }| {
            if !self.ids.contains(&id) {
                return Ok(());
            }
            let got = vcpu.get_one_reg(id, value);
            got.map(drop).with_context(|| format!("KVM does not tell {name}"))
        })?;
        *state.core.pstate = stasis_state::vcpu::defined_pstate(*state.core.pstate);
        let events = vcpu.get_vcpu_events().context("KVM does not tell what is pending")?;
        *state.power.serror_pending = events.exception.serror_pending;
        *state.power.serror_syndrome = events.exception.serror_esr;
        let power = vcpu.get_mp_state().context("KVM does not tell whether a vCPU is on")?;
        let is_off = power.mp_state == KVM_MP_STATE_STOPPED;
        *state.power.state = if is_off { PowerState::Off } else { PowerState::On } as u8;
        (*state.power.entry, *state.power.context_id) = (0, 0);
        Ok(state)
    }
}

fn write_serror(vcpu: &VcpuFd, state: &VcpuState) -> Result<()> {
    if *state.power.serror_pending == 0 {
        return Ok(());
    }
    let mut events = kvm_vcpu_events::default();
    events.exception.serror_pending = 1;
    let syndrome = *state.power.serror_syndrome;
    (events.exception.serror_esr, events.exception.serror_has_esr) =
        (syndrome, (syndrome != 0).into());
    vcpu.set_vcpu_events(&events).context("KVM refuses the SError that is pending")
}

fn get(vcpu: &VcpuFd, id: u64) -> Result<Vec<u8>> {
    let mut value = vec![0; kvm_ioctls::reg_size(id)];
    let got = vcpu.get_one_reg(id, &mut value);
    got.with_context(|| format!("KVM does not tell {}", Id(id)))?;
    Ok(value)
}

/// Checks that a guest that was shown `saved` finds on vCPU `index` what it was shown.
///
/// # Errors
///
/// The first thing that this CPU, or this KVM, does not have.
pub fn check_identity(vcpu: &VcpuFd, saved: &Identity, index: usize) -> Result<()> {
    let mut raw = Identity::default();
    let bytes = raw.as_mut_bytes();
    for register in Identity::REGISTERS {
        let at = register.offset + stasis_state::register::VALUE_OFFSET;
        // What KVM has not for its guests, such as DCZID_EL0, is the machine's own, which nothing
        // here traps.
        let _ = vcpu.get_one_reg(registers::sysreg_id(register.id), &mut bytes[at..][..8]);
    }
    *raw.dczid_el0 = dczid();
    match identity::check(saved, &raw, index) {
        Ok(()) => Ok(()),
        Err(why) => bail!("this machine's CPU is not like the one that the guest was shown: {why}"),
    }
}

/// Returns DCZID_EL0, which KVM's guests read as this process does.
fn dczid() -> u64 {
    let value;
    // SAFETY: 1. The instruction reads a register that EL0 may read. 2. It touches no memory and no
    // flags.
    unsafe {
        core::arch::asm!("mrs {}, dczid_el0", out(reg) value, options(nomem, nostack, preserves_flags));
    }
    value
}

/// The id of a register, for people: `s3_0_c1_c0_1` of a system register.
struct Id(u64);

impl fmt::Display for Id {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.0;
        if id & IS_SYSREG.0 != IS_SYSREG.1 {
            return write!(out, "KVM's register {id:#x}");
        }
        let (op0, op1) = (id >> 14 & 3, id >> 11 & 7);
        let (crn, crm, op2) = (id >> 7 & 0xf, id >> 3 & 0xf, id & 7);
        write!(out, "s{op0}_{op1}_c{crn}_c{crm}_{op2}")
    }
}
