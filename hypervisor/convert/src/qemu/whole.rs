//! A whole machine to QEMU: a guest's records in the place of a base's devices ([`write`]). The
//! other direction is [`read`](super::read).
//!
//! A base is what QEMU has written of a machine of the same kind that never ran. What Stasis does
//! not have stays as it is there.

use alloc::vec::Vec;

use stasis_state::RecordType;
use stasis_state::devices::{DeviceRecord, Devices, Visitor};
use stasis_state::guest::GuestPowerState;
use stasis_state::machine::Machine as StateMachine;
use stasis_state::records::{GuestState, VcpuState};
use stasis_state::timer::{ENABLE, Timer, settle};
use stasis_state::vcpu::{Identity, PowerState};

use super::cpu::{self, Instant};
use super::cpus::{self, Cpu};
use super::encode::{Encoded, Signal, encode, signal};
use super::fields::{Fields, Way};
use super::request::Request;
use super::sections::{Part, Sections};
use super::stream::{CPU_NAME, locate_in};
use super::{Backend, device, virtio};
use crate::error::Error;
use crate::loss::Loss;
use crate::power::entered;
use crate::vgic::Vgic;

/// QEMU's name of the RAM of `virt`.
pub const RAM_NAME: &str = "mach-virt.ram";
/// Guest-physical address of the RAM of `virt`.
pub const RAM_BASE: u64 = 0x4000_0000;

/// `interrupt_request` and `irq_line_state` of a CPU that is interrupted: CPU_INTERRUPT_HARD,
/// CPU_INTERRUPT_FIQ.
const IRQ: u64 = 0x02;
const FIQ: u64 = 0x10;
/// `runstate`, with its 0 at the end.
const RUNNING: &[u8] = b"running\0";

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// Checks that QEMU can count at a guest's frequency: its own CPUs count whole nanoseconds. A KVM
/// counts as its machine does.
///
/// # Errors
///
/// [`Error::Frequency`] if a tick is no whole number of nanoseconds, or if there are none.
pub(super) fn check_frequency(cntfrq: u64, backend: Backend) -> Result<(), Error> {
    let is_whole = cntfrq != 0 && SECOND.is_multiple_of(cntfrq);
    let counts = is_whole || cntfrq != 0 && backend == Backend::Kvm;
    if counts { Ok(()) } else { Err(Error::Frequency { cntfrq }) }
}

/// What QEMU must be started with for a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// For `-cpu`; with KVM it is the host's, and none is told.
    pub cpu: Option<Cpu>,
    /// For the property `cntfrq` of the CPU, if it is not QEMU's own.
    pub cntfrq: Option<u64>,
    /// For `-smp`.
    pub cpus: usize,
    /// For `-m`, in bytes.
    pub ram: u64,
}

impl Needs {
    /// CNTFRQ_EL0 of the CPUs that are known here, in Hz.
    pub(super) const CNTFRQ: u64 = 62_500_000;

    /// Returns what a guest needs where its CPUs are run by `backend`.
    ///
    /// # Errors
    ///
    /// What the guest has and no machine of QEMU's.
    pub fn of(state: &GuestState, backend: Backend) -> Result<Self, Error> {
        check(state)?;
        let first = state.vcpus.first().ok_or(Error::Cpus { stream: 0, guest: 0 })?;
        let cntfrq = *state.clock.cntfrq;
        check_frequency(cntfrq, backend)?;
        let (cpu, set) = match backend {
            Backend::Tcg => (Some(Cpu::of_midr(*first.identity.midr_el1)?), cntfrq),
            Backend::Kvm => (None, Self::CNTFRQ),
        };
        Ok(Self {
            cpu,
            cntfrq: (set != Self::CNTFRQ).then_some(set),
            cpus: state.vcpus.len(),
            ram: *state.guest.ram_size,
        })
    }
}

/// Checks that QEMU's `virt` has all that the guest has.
fn check(state: &GuestState) -> Result<(), Error> {
    if state.power_state() != GuestPowerState::On {
        return Err(Error::NotOn);
    }
    let base = *state.guest.ram_base;
    if base != RAM_BASE {
        return Err(Error::RamBase { base });
    }
    if state.vcpus.iter().any(|vcpu| *vcpu.power.serror_pending != 0) {
        return Err(Error::SError);
    }
    if *state.devices.pl061.key_until != 0 {
        return Err(Error::PowerKey);
    }
    state.devices.records().visit(&mut OfVirt)?;
    let of_virt = StateMachine::before(&Devices::default().records());
    let foreign = state.machine();
    let foreign = foreign
        .entries()
        .find(|entry| !virtio::is_slot(entry) && !of_virt.entries().any(|known| known == *entry));
    match foreign {
        Some(entry) => Err(Error::OtherDevice { entry }),
        None => Ok(()),
    }
}

/// Looks for devices that QEMU's `virt` does not have.
struct OfVirt;

impl<'a> Visitor<'a> for OfVirt {
    type Error = Error;

    fn record<R: DeviceRecord>(&mut self, record: &'a R) -> Result<(), Error> {
        match R::TYPE {
            RecordType::DevicePl011
            | RecordType::DevicePl031
            | RecordType::DevicePl061
            | RecordType::DeviceVirtio => Ok(()),
            _ if record.is_absent() => Ok(()),
            kind => Err(Error::NoDevice { kind: kind.name() }),
        }
    }
}

/// What [`write`] has to tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// What of the GIC, and of the timers, is lost.
    pub losses: Vec<Loss>,
    /// The ID registers of each vCPU as the guest will read them.
    pub identities: Vec<Identity>,
}

/// Puts a guest's records in the place of the devices of a base. `base` has the base's magic and
/// its last bytes, and `sections` are those in it. `requests` are all that the guest's disks have
/// not completed, in the order of each queue.
///
/// # Errors
///
/// What QEMU can't be told, or what the base does not have.
pub fn write(
    state: &GuestState,
    requests: &[Request],
    base: &mut Vec<u8>,
    sections: &Sections,
    backend: Backend,
) -> Result<Written, Error> {
    let needs = Needs::of(state, backend)?;
    cpus::check_backend(&mut Part { bytes: base, sections }, backend)?;
    let located = locate_in(base, sections)?;
    if located.cpus != needs.cpus {
        return Err(Error::Cpus { stream: located.cpus, guest: needs.cpus });
    }
    let (cntvct, cntfrq) = (*state.clock.cntvct, *state.clock.cntfrq);
    let now = Instant { cntvct, cntfrq };
    let mut state = state.clone();
    for vcpu in &mut state.vcpus {
        *vcpu = entered(vcpu).into_owned();
        settle(&mut vcpu.system, cntvct);
    }
    let Encoded { section: gic, mut losses } = encode(&Vgic::settled(&state), backend);
    // The lines of timers follow from their registers, which are kept.
    losses.retain(|loss| !matches!(loss, Loss::Level { interrupt, .. } if interrupt.is_of_timer()));
    located.replace(base, &gic)?;
    let mut identities = Vec::new();
    for (index, vcpu) in state.vcpus.iter_mut().enumerate() {
        let mut fields = Fields::new(sections.get(CPU_NAME, index)?, base, Way::ToQemu)?;
        identities.push(cpus::identity(&mut fields, needs.cpu.as_ref(), index, &vcpu.identity)?);
        same_frequency(&mut fields, cntfrq)?;
        losses.extend(idle_timer(&mut fields, vcpu, index)?);
        cpu::exchange(&mut fields, vcpu, backend)?;
        cpu::set_derived(&mut fields, vcpu, backend, now)?;
        let signal = if backend == Backend::Tcg { signal(&gic, index) } else { None };
        set_lines(&mut fields, signal)?;
        let mut common = Fields::new(sections.get("cpu_common", index)?, base, Way::ToQemu)?;
        common.set("halted", 0, (*vcpu.power.state == PowerState::Off as u8).into())?;
        common.set("interrupt_request", 0, lines(signal))?;
    }
    set_clock(base, sections, now)?;
    exchange_devices(base, sections, &mut state, Way::ToQemu)?;
    set_running(base, sections)?;
    // The last, for it moves what stands behind.
    virtio::write(&state.devices.virtio, requests, base, sections)?;
    Ok(Written { losses, identities })
}

/// Takes from a vCPU the physical timer where the CPU of the base does not have it. One that is off
/// has nothing to lose but its registers.
fn idle_timer(
    fields: &mut Fields<'_>,
    vcpu: &mut VcpuState,
    index: usize,
) -> Result<Option<Loss>, Error> {
    let Timer { ctl, cval } = Timer::physical_timer(&vcpu.system);
    if cpu::has_physical_timer(fields)? || (ctl, cval) == (0, 0) {
        return Ok(None);
    }
    if ctl & ENABLE != 0 {
        return Err(Error::PhysicalTimer { vcpu: index });
    }
    (*vcpu.system.cntp_ctl_el0, *vcpu.system.cntp_cval_el0) = (0, 0);
    Ok(Some(Loss::PhysicalTimer { vcpu: index, ctl, cval }))
}

/// Checks that the base's counter is as fast as the guest's, if the base says how fast it is.
fn same_frequency(fields: &mut Fields<'_>, cntfrq: u64) -> Result<(), Error> {
    match cpu::listed(fields, cpu::id(cpu::CNTFRQ))? {
        Some(found) if found != cntfrq => Err(Error::OtherFrequency { found, cntfrq }),
        _ => Ok(()),
    }
}

/// Returns a signal of the GIC's as `interrupt_request` has it.
fn lines(signal: Option<Signal>) -> u64 {
    match signal {
        Some(Signal::Irq) => IRQ,
        Some(Signal::Fiq) => FIQ,
        None => 0,
    }
}

/// Writes the lines of a CPU's interrupts.
fn set_lines(fields: &mut Fields<'_>, signal: Option<Signal>) -> Result<(), Error> {
    fields.set("env.irq_line_state", 0, lines(signal))
}

/// Makes QEMU's virtual clock, of which it makes the counters, the guest's.
fn set_clock(base: &mut [u8], sections: &Sections, now: Instant) -> Result<(), Error> {
    let ns = now.ns(now.cntvct).ok_or(Error::Counter { cntvct: now.cntvct })?;
    let mut fields = Fields::new(sections.get("timer", 0)?, base, Way::ToQemu)?;
    fields.set("cpu_clock_offset", 0, ns)
}

/// Makes the machine run as soon as it is loaded.
fn set_running(base: &mut [u8], sections: &Sections) -> Result<(), Error> {
    let section = sections.get("globalstate", 0)?;
    Fields::new(section, base, Way::ToQemu)?.set("size", 0, RUNNING.len() as u64)?;
    let place = section.device.contents.find("runstate");
    let start = place.map(|place| section.contents.start + place.offset);
    let missing =
        || Error::FieldMissing { section: "globalstate".into(), field: "runstate".into() };
    let bytes = start.and_then(|start| base.get_mut(start..start + RUNNING.len()));
    bytes.ok_or_else(missing)?.copy_from_slice(RUNNING);
    Ok(())
}

/// Passes the state of the devices that both have.
pub(super) fn exchange_devices(
    bytes: &mut [u8],
    sections: &Sections,
    state: &mut GuestState,
    way: Way,
) -> Result<(), Error> {
    let devices = &mut state.devices;
    device::pl011(&mut Fields::new(sections.get("pl011", 0)?, bytes, way)?, &mut devices.pl011)?;
    device::pl031(&mut Fields::new(sections.get("pl031", 0)?, bytes, way)?, &mut devices.pl031)?;
    device::pl061(&mut Fields::new(sections.get("pl061", 0)?, bytes, way)?, &mut devices.pl061)
}
