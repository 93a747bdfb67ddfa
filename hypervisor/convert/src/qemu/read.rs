//! A whole machine from QEMU: the records of a guest from a stream ([`read`]). The other direction
//! is [`whole`](super::whole).
//!
//! What Stasis does not have must be as in a base, which is what the same QEMU has written of such
//! a machine that never ran: what a guest has set there would be lost. It is refused, or told where
//! a guest can do without.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use stasis_state::records::{GuestState, VcpuState};
use stasis_state::timer::{ENABLE, PHYSICAL_TIMER, VIRTUAL_TIMER, settle};
use stasis_state::vcpu::{Identity, PowerState};

use super::Backend;
use super::cpu::{self, Entry};
use super::cpus::{self, Cpu};
use super::decode::{Decoded, Machine, decode};
use super::fields::{Fields, Way};
use super::section::{ArmGic, NAME};
use super::sections::Part;
use super::stream::{CPU_NAME, locate_in};
use super::virtio::{self, Load};
use super::whole::{Needs, RAM_BASE, check_frequency, exchange_devices};
use crate::error::Error;
use crate::loss::Loss;
use crate::unknown::Unknown;
use crate::vgic::{Interrupt, Vgic};

/// `power_state` of a CPU that is off.
const OFF: u64 = 1;
/// Most CPUs of a machine with a GICv2.
const MAX_CPUS: usize = 8;

/// The sections of a machine `virt` of which nothing comes along: what Stasis has in their place is
/// as at reset.
const LEFT_BEHIND: [(&str, &str); 8] = [
    ("slirp", "the connections of QEMU's own network"),
    ("pflash_cfi01", "the flash"),
    ("0000:00:00.0/gpex_root", "the PCI host bridge"),
    ("PCIHost", "the PCI host bridge"),
    ("PCIBUS", "the PCI bus"),
    ("gpio-key", "the power key"),
    ("fw_cfg", "the configuration device of QEMU's firmware"),
    ("virt_acpi_build", "the ACPI tables"),
];
/// The sections of which the state comes along.
const KEPT: [&str; 8] =
    ["timer", "cpu_common", CPU_NAME, NAME, "pl011", "pl031", "pl061", "globalstate"];

/// A machine that came from QEMU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The records; the guest has no name yet, and its identity is that of QEMU's CPU.
    pub state: GuestState,
    /// What a GIC with fewer priority bits does not have; and the second counter that KVM has.
    pub losses: Vec<Loss>,
    /// What the stream does not say of the GIC.
    pub unknowns: Vec<Unknown>,
    /// What the guest has used, and will not find.
    pub left_behind: Vec<&'static str>,
}

/// What ran a machine, with what a stream does not say of it.
#[derive(Clone, Copy, Debug)]
pub enum Origin<'a> {
    /// QEMU itself, with this CPU.
    Tcg(&'a Cpu),
    /// A KVM, whose counter has this frequency in Hz.
    Kvm {
        /// CNTFRQ_EL0 of the machine with the KVM.
        cntfrq: u64,
    },
}

impl Origin<'_> {
    /// Returns which of QEMU's back ends it is.
    pub fn backend(&self) -> Backend {
        match self {
            Self::Tcg(_) => Backend::Tcg,
            Self::Kvm { .. } => Backend::Kvm,
        }
    }

    /// Returns the ID registers of a CPU in a stream.
    fn identity(&self, fields: &mut Fields<'_>, index: usize) -> Result<Identity, Error> {
        let otherwise = Identity::default();
        match self {
            Self::Tcg(cpu) => cpus::identity(fields, Some(cpu), index, &otherwise),
            Self::Kvm { .. } => {
                let mut identity = cpus::identity(fields, None, index, &otherwise)?;
                *identity.dczid_el0 = cpus::dczid(*identity.midr_el1);
                Ok(identity)
            }
        }
    }
}

/// Returns the records of the machine in a stream. `base` is what the same QEMU has written of such
/// a machine that never ran; `load` reads the machine's RAM. What is behind virtio devices, and
/// what they offer, the caller says, and then what the guest's machine is.
///
/// # Errors
///
/// What Stasis does not have, by its name.
pub fn read(
    stream: &mut Part<'_>,
    base: &mut Part<'_>,
    origin: Origin<'_>,
    load: &Load<'_>,
) -> Result<Read, Error> {
    let backend = origin.backend();
    cpus::check_backend(stream, backend)?;
    cpus::check_backend(base, backend)?;
    let left_behind = check_devices(stream, base)?;
    let located = locate_in(stream.bytes, stream.sections)?;
    let too_many = Error::Cpus { stream: located.cpus, guest: MAX_CPUS };
    let count = u8::try_from(located.cpus).ok();
    let count =
        count.filter(|count| (1..=MAX_CPUS).contains(&usize::from(*count))).ok_or(too_many)?;
    let section: ArmGic = located.section(stream.bytes)?;
    let Decoded { vgic, mut losses, mut unknowns } =
        decode(&section, Machine::virt(count), backend)?;
    let mut state = GuestState::reset(count);
    *state.guest.ram_base = RAM_BASE;
    for (index, (vcpu, interface)) in state.vcpus.iter_mut().zip(vgic.cpus).enumerate() {
        vcpu.cpu_interface = interface;
        let section = base.sections.get(CPU_NAME, index)?;
        let mut fresh = Fields::new(section, base.bytes, Way::FromQemu)?;
        let section = stream.sections.get(CPU_NAME, index)?;
        let mut fields = Fields::new(section, stream.bytes, Way::FromQemu)?;
        check_registers(&mut fields, &mut fresh, index, backend)?;
        vcpu.identity = origin.identity(&mut fields, index)?;
        cpu::exchange(&mut fields, vcpu, backend)?;
        if !cpu::has_physical_timer(&mut fields)? {
            unknowns.push(Unknown::PhysicalTimer { vcpu: index });
        }
        *vcpu.power.state = power(&mut fields, index)? as u8;
    }
    state.distributor = Box::new(vgic.distributor);
    losses.extend(read_clock(stream, &mut state, origin)?);
    exchange_devices(stream.bytes, stream.sections, &mut state, Way::FromQemu)?;
    state.devices.virtio = virtio::read(stream.bytes, stream.sections, load)?;
    let mut state = settled(state);
    if backend == Backend::Kvm {
        timers_are_lines(&mut state, &mut unknowns);
    }
    Ok(Read { state, losses, unknowns, left_behind })
}

/// Reads the guest's counter and how fast it is. Returns what is lost of it.
fn read_clock(
    stream: &mut Part<'_>,
    state: &mut GuestState,
    origin: Origin<'_>,
) -> Result<Option<Loss>, Error> {
    let section = stream.sections.get(CPU_NAME, 0)?;
    let mut fields = Fields::new(section, stream.bytes, Way::FromQemu)?;
    let cntfrq = match origin {
        Origin::Tcg(_) => cpu::listed(&mut fields, cpu::id(cpu::CNTFRQ))?.unwrap_or(Needs::CNTFRQ),
        Origin::Kvm { cntfrq } => cntfrq,
    };
    check_frequency(cntfrq, origin.backend())?;
    *state.clock.cntfrq = cntfrq;
    let (cntvct, physical) = match origin {
        Origin::Kvm { .. } => {
            let cntvct = cpu::kvm_counter(&mut fields)?.ok_or(Error::OtherMachine)?;
            (cntvct, cpu::kvm_physical_counter(&mut fields)?)
        }
        Origin::Tcg(_) => {
            let section = stream.sections.get("timer", 0)?;
            let mut fields = Fields::new(section, stream.bytes, Way::FromQemu)?;
            (cpu::ticks(fields.get("cpu_clock_offset", 0)?, cntfrq), None)
        }
    };
    let Some(found) = physical else {
        *state.clock.cntvct = cntvct;
        return Ok(None);
    };
    let becomes = one_counter(state, cntvct, found)?;
    *state.clock.cntvct = becomes;
    Ok(Some(Loss::PhysicalCounter { found, becomes }))
}

/// Returns what the only counter of a guest under Stasis reads whose two counters read these on a
/// KVM. CNTPCT_EL0 runs on there while QEMU's machine stands. If the guest waits for it, it goes on
/// from that, as if it had not been run meanwhile.
fn one_counter(state: &GuestState, cntvct: u64, physical: u64) -> Result<u64, Error> {
    let on = |vcpu: &VcpuState| *vcpu.system.cntp_ctl_el0 & ENABLE != 0;
    let Some(vcpu) = state.vcpus.iter().position(on) else { return Ok(cntvct) };
    let ahead = physical.checked_sub(cntvct);
    let is_soon = ahead.is_some_and(|ticks| ticks <= *state.clock.cntfrq);
    if is_soon { Ok(physical) } else { Err(Error::TwoCounters { vcpu, physical, cntvct }) }
}

/// Returns a state in which what follows from other registers is what follows, whatever the stream
/// said.
fn settled(mut state: GuestState) -> GuestState {
    let cntvct = *state.clock.cntvct;
    let settle = |vcpu: &mut VcpuState| settle(&mut vcpu.system, cntvct);
    state.vcpus.iter_mut().for_each(settle);
    let cpus = Vgic::settled(&state).cpus;
    state.vcpus.iter_mut().zip(cpus).for_each(|(vcpu, cpu)| vcpu.cpu_interface = cpu);
    state
}

/// Takes a timer's interrupt for one whose line is high, and not for a latched one, where its timer
/// says so.
fn timers_are_lines(state: &mut GuestState, unknowns: &mut Vec<Unknown>) {
    for (index, vcpu) in state.vcpus.iter_mut().enumerate() {
        let cpu = &mut vcpu.cpu_interface;
        for timer in [VIRTUAL_TIMER, PHYSICAL_TIMER].map(usize::from) {
            if *cpu.priv_level >> timer & 1 == 0 {
                continue;
            }
            *cpu.priv_latch &= !(1 << timer);
            let interrupt = Interrupt::Private { vcpu: index, intid: timer };
            unknowns.retain(|unknown| *unknown != Unknown::Line { interrupt });
        }
    }
}

/// Returns the power state of a CPU.
fn power(fields: &mut Fields<'_>, cpu: usize) -> Result<PowerState, Error> {
    match fields.get("power_state", 0)? {
        0 => Ok(PowerState::On),
        OFF => Ok(PowerState::Off),
        found => Err(Error::Field { what: "power_state", cpu, found: found as u32 }),
    }
}

/// Checks that Stasis has, or can do without, each device of the machine. Returns the names of
/// those that the guest has used and will not find.
fn check_devices(stream: &Part<'_>, base: &Part<'_>) -> Result<Vec<&'static str>, Error> {
    let mut left_behind = Vec::new();
    for section in &stream.sections.all {
        let name = section.device.name.as_str();
        if KEPT.contains(&name) || virtio::device_of(name).is_some() {
            continue;
        }
        let left = LEFT_BEHIND.iter().find(|(known, _)| *known == name);
        let Some(&(_, what)) = left else { return Err(Error::UnknownDevice { name: name.into() }) };
        let fresh = base.sections.all.iter().find(|fresh| fresh.device == section.device);
        let fresh = fresh.and_then(|fresh| base.bytes.get(fresh.contents.clone()));
        let used = fresh != stream.bytes.get(section.contents.clone());
        if used && !left_behind.contains(&what) {
            left_behind.push(what);
        }
    }
    for name in KEPT {
        let (found, expected) = (stream.sections.count(name), base.sections.count(name));
        if found > expected {
            return Err(Error::UnknownDevice { name: format!("another {name}") });
        }
    }
    Ok(left_behind)
}

/// Checks that registers that Stasis does not have are as in a machine that never ran.
fn check_registers(
    fields: &mut Fields<'_>,
    fresh: &mut Fields<'_>,
    vcpu: usize,
    backend: Backend,
) -> Result<(), Error> {
    let (ids, values) = (cpu::IDS, "cpreg_vmstate_values");
    if fields.count(ids) != fresh.count(ids) {
        return Err(Error::OtherMachine);
    }
    for n in 0..fields.count(ids) {
        let id = fields.get(ids, n)?;
        if id != fresh.get(ids, n)? {
            return Err(Error::OtherMachine);
        }
        let (found, neutral) = (fields.get(values, n)?, fresh.get(values, n)?);
        if cpus::is_identity(id) && found != neutral {
            return Err(Error::OtherMachine);
        }
        if cpus::is_newer(id) && found != 0 {
            return Err(Error::Newer { vcpu, id, found });
        }
        if Entry::of(id, backend) == Entry::Other && (found ^ neutral) & !cpu::harmless(id) != 0 {
            return Err(match cpus::is_pmu(id) {
                true => Error::Pmu { vcpu },
                false => Error::NotNeutral { vcpu, id, found, neutral },
            });
        }
    }
    Ok(())
}
