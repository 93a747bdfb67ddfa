//! All records of a guest together: [`Records`] borrows them for the writer, [`GuestState`] owns
//! those that the reader has read.

use alloc::{boxed::Box, vec, vec::Vec};
use core::{convert::Infallible, ops::Range};

use crate::envelope::RecordHeader;
use crate::{
    device::SharedMemory,
    devices::{DeviceRecord, DeviceRecords, Devices, Visitor},
    guest::{Clock, Guest, GuestPower, GuestPowerState, Lineage},
    header::{VERSION, Version},
    machine::Machine,
    register::{Descriptor, Record},
    vcpu::{Core, Debug, FpSimd, Identity, Power, PowerState, SystemRegisters},
    vgic::{CpuInterface, Distributor},
};
use zerocopy::IntoBytes;

/// References to all records of a guest, for the writer: the state that the hypervisor itself works
/// on.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Records<'a> {
    pub guest: &'a Guest,
    pub clock: &'a Clock,
    pub power: Option<&'a GuestPower>,
    pub lineage: Option<&'a Lineage>,
    pub machine: Option<&'a Machine>,
    pub distributor: &'a Distributor,
    /// The records of each vCPU, by its index.
    pub vcpus: Vec<VcpuRecords<'a>>,
    pub devices: DeviceRecords<'a>,
}

/// References to the records of one vCPU.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct VcpuRecords<'a> {
    pub core: &'a Core,
    pub system: &'a SystemRegisters,
    pub fp: &'a FpSimd,
    pub debug: &'a Debug,
    pub power: &'a Power,
    pub identity: &'a Identity,
    pub cpu_interface: &'a CpuInterface,
}

/// All records of a guest, as the reader has read them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct GuestState {
    pub guest: Guest,
    pub clock: Clock,
    pub power: Option<GuestPower>,
    pub lineage: Option<Lineage>,
    /// What the file says; [`GuestState::machine`] says what the guest has.
    pub machine: Option<Box<Machine>>,
    /// By far the largest record, in a box so that the state is cheap to move.
    pub distributor: Box<Distributor>,
    /// The records of each vCPU, by its index.
    pub vcpus: Vec<VcpuState>,
    pub devices: Devices,
}

/// The records of one vCPU, as the reader has read them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct VcpuState {
    pub core: Core,
    pub system: SystemRegisters,
    pub fp: FpSimd,
    pub debug: Debug,
    pub power: Power,
    pub identity: Identity,
    pub cpu_interface: CpuInterface,
}

impl GuestState {
    /// Returns the state at reset of a guest with this many vCPUs.
    pub fn reset(nr_vcpus: u8) -> Self {
        let mut state = Self::default();
        state.vcpus.resize_with(usize::from(nr_vcpus), VcpuState::default);
        *state.guest.nr_vcpus = nr_vcpus;
        *state.distributor.nr_cpus = nr_vcpus;
        state
    }

    /// Returns the power state of the guest's machine. A machine whose vCPUs are all off is off: no
    /// vCPU could switch another one on.
    pub fn power_state(&self) -> GuestPowerState {
        let is_off = |vcpu: &VcpuState| *vcpu.power.state == PowerState::Off as u8;
        match self.power.as_ref().map(|power| *power.state) {
            Some(state) if state == GuestPowerState::Off as u8 => GuestPowerState::Off,
            Some(state) if state == GuestPowerState::Reset as u8 => GuestPowerState::Reset,
            _ if self.vcpus.iter().all(is_off) => GuestPowerState::Off,
            _ => GuestPowerState::On,
        }
    }

    /// Returns the guest's machine: what its file says, or what all guests had whose files do not
    /// say it.
    pub fn machine(&self) -> Machine {
        match &self.machine {
            Some(machine) => (**machine).clone(),
            None => Machine::before(&self.devices.records()),
        }
    }

    /// Returns references to the records, to write or check them.
    pub fn records(&self) -> Records<'_> {
        Records {
            guest: &self.guest,
            clock: &self.clock,
            power: self.power.as_ref(),
            lineage: self.lineage.as_ref(),
            machine: self.machine.as_deref(),
            distributor: &self.distributor,
            vcpus: self.vcpus.iter().map(VcpuState::records).collect(),
            devices: self.devices.records(),
        }
    }
}

impl Records<'_> {
    /// Returns copies of the records.
    pub fn to_owned(&self) -> GuestState {
        GuestState {
            guest: self.guest.clone(),
            clock: self.clock.clone(),
            power: self.power.cloned(),
            lineage: self.lineage.cloned(),
            machine: self.machine.cloned().map(Box::new),
            distributor: Box::new(self.distributor.clone()),
            vcpus: self.vcpus.iter().map(VcpuRecords::to_owned).collect(),
            devices: self.devices.to_owned(),
        }
    }
}

impl VcpuRecords<'_> {
    /// Returns copies of the records.
    pub fn to_owned(&self) -> VcpuState {
        VcpuState {
            core: self.core.clone(),
            system: self.system.clone(),
            fp: self.fp.clone(),
            debug: self.debug.clone(),
            power: self.power.clone(),
            identity: self.identity.clone(),
            cpu_interface: self.cpu_interface.clone(),
        }
    }
}

impl VcpuState {
    /// Returns references to the records, to write or check them.
    pub fn records(&self) -> VcpuRecords<'_> {
        VcpuRecords {
            core: &self.core,
            system: &self.system,
            fp: &self.fp,
            debug: &self.debug,
            power: &self.power,
            identity: &self.identity,
            cpu_interface: &self.cpu_interface,
        }
    }
}

/// A record as the writer needs it.
#[derive(Clone, Copy)]
pub(crate) struct Body<'a> {
    pub kind: crate::RecordType,
    pub instance: u16,
    pub bytes: &'a [u8],
    /// The first minor version of the format that can express the record.
    since: u16,
    /// Whether a reader that does not know the kind may skip the record.
    is_optional: bool,
    registers: &'static [Descriptor],
}

impl<'a> Body<'a> {
    fn of<R: Record>(instance: u16, record: &'a R) -> Self {
        Self {
            kind: R::TYPE,
            instance,
            bytes: record.as_bytes(),
            since: R::TYPE.since(),
            is_optional: false,
            registers: R::REGISTERS,
        }
    }

    /// Returns the field `kind` of the record's header.
    pub(crate) fn stored_kind(&self) -> u16 {
        let optional = if self.is_optional { RecordHeader::OPTIONAL } else { 0 };
        self.kind as u16 | optional
    }

    /// Returns whether the header of each register is the one in the record's table.
    pub(crate) fn is_intact(&self) -> bool {
        self.registers
            .iter()
            .all(|register| self.bytes[register.offset..].starts_with(register.header().as_bytes()))
    }
}

impl<'a> Records<'a> {
    /// Returns the lowest version of the format that can express all of these records.
    pub(crate) fn version(&self) -> Version {
        let minor = self.bodies().iter().map(|body| body.since).max().unwrap_or(0);
        Version { minor, ..VERSION }
    }

    /// Returns the ranges of guest-physical addresses that MEMORY records cover, in ascending
    /// order: the RAM and the shared regions.
    pub(crate) fn memory(&self) -> Vec<Range<u64>> {
        let (base, size) = (*self.guest.ram_base, *self.guest.ram_size);
        let mut ranges: Vec<_> =
            self.devices.shared.into_iter().flat_map(SharedMemory::ranges).collect();
        // The shared regions ascend, by the invariants, so only the place of the RAM among them
        // must be found.
        let place = ranges.iter().take_while(|range| range.start < base).count();
        ranges.insert(place, base..base.saturating_add(size));
        ranges
    }

    /// Returns the record of the guest's machine. A reader that does not know it may skip it if it
    /// says what such a reader takes for granted.
    fn body_of(&self, machine: &'a Machine) -> Body<'a> {
        let is_optional = *machine == Machine::before(&self.devices);
        Body { is_optional, ..Body::of(0, machine) }
    }

    /// Returns every record that a file has, except those of memory, in the order in which they are
    /// written.
    pub(crate) fn bodies(&self) -> Vec<Body<'a>> {
        let mut bodies = vec![Body::of(0, self.guest), Body::of(0, self.clock)];
        bodies.extend(self.power.map(|power| Body::of(0, power)));
        bodies.extend(self.lineage.map(|lineage| Body::of(0, lineage)));
        bodies.extend(self.machine.map(|machine| self.body_of(machine)));
        bodies.push(Body::of(0, self.distributor));
        for (index, vcpu) in (0..).zip(&self.vcpus) {
            bodies.extend_from_slice(&[
                Body::of(index, vcpu.identity),
                Body::of(index, vcpu.power),
                Body::of(index, vcpu.core),
                Body::of(index, vcpu.system),
                Body::of(index, vcpu.fp),
                Body::of(index, vcpu.debug),
                Body::of(index, vcpu.cpu_interface),
            ]);
        }
        let Ok(()) = self.devices.visit(&mut bodies);
        bodies
    }
}

impl<'a> Visitor<'a> for Vec<Body<'a>> {
    type Error = Infallible;

    fn record<R: DeviceRecord>(&mut self, record: &'a R) -> Result<(), Infallible> {
        if !record.is_absent() {
            self.push(Body { since: record.since(), ..Body::of(0, record) });
        }
        Ok(())
    }
}
