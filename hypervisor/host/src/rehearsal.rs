//! What a board would say of a configuration, found out from its device tree, without the board.
//!
//! [`rehearse`] makes each decision of the boot in the boot's order, by the functions that the boot
//! itself calls: [`Machine`] for the RAM, [`uplink`] for the networks, [`choose_cores`] for the
//! cores, [`give`] for the devices, [`Pool`] for the memory. What only the hardware knows is left
//! out: which of its cores come up, what their ID registers say, what is in the slots of virtio,
//! and whether there is a store.

use alloc::string::String;
use alloc::vec::Vec;

use dtoolkit::fdt::Fdt;
use stasis_devices::machine::RAM_UNIT;
use stasis_guest::clock::{Pace, PaceError};
use stasis_guest::given::Given;
use stasis_guest::shared::{NotMade, connections};
use stasis_memory::range::{NoRam, Pool, Range};

use crate::board::give::{GiveError, Remark, give, remarks};
use crate::board::own::Own;
use crate::board::uplink::{UplinkError, uplink};
use crate::board::{Machine, MachineError};
use crate::config::{Configuration, GuestConfig, NoPlannedCore, has_time};
use crate::sched::{NoSuchCore, choose_cores};

/// Bytes between the beginning of RAM and the image, as boot loaders leave them.
const IMAGE_AT: u64 = 2 << 20;
/// Bytes between the beginning of RAM and the archive at the most, as QEMU leaves them.
const ARCHIVE_AT: u64 = 128 << 20;

/// What a boot loader puts into RAM, and what it puts into the device tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Bytes of the image with its heap and stacks.
    pub image: u64,
    /// Bytes of the boot archive.
    pub archive: u64,
    /// Bytes of RAM, from address 0 on, of a board whose tree says nothing of RAM.
    pub ram: u64,
}

/// What a finding is about, for whoever knows where that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The plan of a core, by its place among the plans.
    Core(usize),
    /// A region that guests share, by its place among the regions.
    Shared(usize),
    /// A network, by its place among the networks.
    Network(usize),
    /// A guest, by its place among the guests, and the key of its configuration.
    Guest(usize, &'static str),
}

/// What a board has to say of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Complaint {
    /// A plan is for a core that is not there.
    #[error(transparent)]
    Plan(#[from] NoPlannedCore),
    /// The machine lacks a core that the guest needs.
    #[error(transparent)]
    Core(#[from] NoSuchCore),
    /// The machine lacks memory for a region that the guest shares.
    #[error(transparent)]
    Shared(#[from] NotMade),
    /// A network can't have its uplink.
    #[error(transparent)]
    Uplink(#[from] UplinkError),
    /// The guest can't get the devices of its configuration.
    #[error(transparent)]
    Devices(#[from] GiveError),
    /// The machine lacks RAM.
    #[error(transparent)]
    Ram(#[from] NoRam),
    /// The machine's counter is too fast.
    #[error(transparent)]
    Pace(#[from] PaceError),
    /// The guest is made, and a person should know this of its devices. It goes on the guest's
    /// name.
    #[error("{0}")]
    Remark(Remark),
}

impl Complaint {
    /// Returns whether the guest, the region or the plan comes to nothing.
    pub fn is_error(&self) -> bool {
        !matches!(self, Self::Remark(_))
    }

    /// Returns the key of a guest's configuration that the complaint is about.
    fn key(&self) -> &'static str {
        match self {
            Self::Plan(_) | Self::Core(_) => "cores",
            Self::Shared(_) => "name",
            Self::Uplink(_) => "uplink",
            Self::Devices(_) | Self::Remark(_) => "devices",
            Self::Ram(_) => "memory",
            Self::Pace(_) => "counter-frequency",
        }
    }
}

/// A complaint, and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub place: Subject,
    /// What the board says.
    pub complaint: Complaint,
}

/// The result of a rehearsal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rehearsed {
    /// Name of the board.
    pub model: String,
    /// Number of cores that the boot can start.
    pub cores: usize,
    /// Bytes of RAM that are free before there is a guest.
    pub free_at_first: u64,
    /// Bytes of RAM that are free in the end.
    pub free_at_last: u64,
    /// What the board says, in the boot's order.
    pub findings: Vec<Finding>,
}

/// Makes the boot's decisions for this configuration on the board of this device tree.
///
/// A tree that names no boot archive gets one where QEMU would put it. `configuration` was
/// [checked](crate::config::check()).
///
/// # Errors
///
/// [`MachineError`] if Stasis can't boot on that board at all.
pub fn rehearse(
    configuration: &Configuration,
    fdt: Fdt<'_>,
    loaded: Loaded,
) -> Result<Rehearsed, MachineError> {
    let (machine, image) = placed(fdt, loaded)?;
    machine.gic?;
    let loads: Vec<_> = machine.startable_cores().map(|can| can.then_some(0)).collect();
    let cores = loads.iter().flatten().count();
    let pool = machine.free_ram(image);
    let free_at_first = pool.free_bytes();
    let mut rehearsal = Rehearsal {
        configuration,
        fdt,
        own: machine.own(image, None),
        counter_hz: machine.counter_frequency,
        loads,
        pool,
        zeros_taken: false,
        regions: Vec::new(),
        given: Vec::new(),
        findings: Vec::new(),
    };
    rehearsal.connect_networks(&machine);
    rehearsal.run();
    Ok(Rehearsed {
        model: machine.model.into(),
        cores,
        free_at_first,
        free_at_last: rehearsal.pool.free_bytes(),
        findings: rehearsal.findings,
    })
}

/// Returns the machine with what a boot loader has put into its RAM, and where the image is.
fn placed(fdt: Fdt<'_>, loaded: Loaded) -> Result<(Machine<'_>, Range), MachineError> {
    let mut machine = Machine::describe(fdt, 0)?;
    machine.memory.retain(|range| !range.is_empty());
    if machine.memory.is_empty() {
        machine.memory.push(Range::new(0, loaded.ram));
    }
    let ram = machine.memory.first().copied().unwrap_or(Range::new(0, 0));
    let image = Range::new(ram.start.saturating_add(IMAGE_AT), loaded.image);
    if machine.initrd.is_none() {
        let at = ram.start.saturating_add(ARCHIVE_AT.min(ram.len() / 2)).max(image.end);
        machine.initrd = Some(Range::new(at, loaded.archive).outward(stasis_memory::PAGE_SIZE));
    }
    // QEMU has the tree in the block behind the archive.
    let behind = machine.initrd.map_or(image, |archive| archive).outward(RAM_UNIT).end;
    machine.device_tree = Range::new(behind, machine.device_tree.len());
    Ok((machine, image))
}

/// A boot that is rehearsed.
struct Rehearsal<'a> {
    configuration: &'a Configuration,
    fdt: Fdt<'a>,
    own: Own,
    /// What the counter runs at, in Hz, if the device tree says it.
    counter_hz: Option<u64>,
    /// Number of vCPUs of each core.
    loads: Vec<Option<usize>>,
    pool: Pool,
    /// Whether the block of zeros of guests with `overcommit` was taken.
    zeros_taken: bool,
    /// Names of the regions that were made.
    regions: Vec<&'a str>,
    /// Names of the guests that were made, and what they were given.
    given: Vec<(&'a str, Given)>,
    findings: Vec<Finding>,
}

impl<'a> Rehearsal<'a> {
    fn run(&mut self) {
        let configuration = self.configuration;
        for (index, plan) in configuration.cores.iter().enumerate() {
            if self.loads.get(plan.number as usize).is_none_or(Option::is_none) {
                self.find(Subject::Core(index), NoPlannedCore(plan.number).into());
            }
        }
        for (index, region) in configuration.shared.iter().enumerate() {
            match self.pool.take(0, region.size, RAM_UNIT) {
                Ok(_) => self.regions.push(&region.name),
                Err(error) => self.find(Subject::Shared(index), error.into()),
            }
        }
        for (index, guest) in configuration.guests.iter().enumerate() {
            if let Err(complaint) = self.create(index, guest) {
                self.find(Subject::Guest(index, complaint.key()), complaint);
            }
        }
    }

    /// Makes the decisions about the networks: the machine's cards are theirs before a guest gets
    /// devices.
    fn connect_networks(&mut self, machine: &Machine<'_>) {
        for (index, network) in self.configuration.networks.iter().enumerate() {
            let Some(name) = &network.uplink else { continue };
            match uplink(machine, self.fdt, name, &self.own) {
                Ok(device) => self.own.add(device),
                Err(error) => self.find(Subject::Network(index), error.into()),
            }
        }
    }

    fn find(&mut self, place: Subject, complaint: Complaint) {
        self.findings.push(Finding { place, complaint });
    }

    /// Makes the decisions about a guest, in the order in which the boot makes them.
    fn create(&mut self, index: usize, guest: &'a GuestConfig) -> Result<(), Complaint> {
        let has_time = |core| has_time(&self.configuration.cores, core, &guest.name);
        let cores = choose_cores(&guest.cores, guest.vcpus.into(), &self.loads, &has_time)?;
        self.connect(guest)?;
        let others = self.given.iter().map(|(name, given)| (*name, given));
        let given = match guest.devices.is_empty() {
            true => Given::default(),
            false => give(self.fdt, guest, &self.own, others)?,
        };
        for remark in remarks(&given) {
            self.find(Subject::Guest(index, "devices"), Complaint::Remark(remark));
        }
        let ram = self.take_ram(guest)?;
        if let Some(hz) = self.counter_hz
            && let Err(error) = Pace::configured(guest.counter_frequency.map(u64::from), hz)
        {
            self.pool.add(ram);
            return Err(error.into());
        }
        for core in cores {
            self.loads[core] = self.loads[core].map(|load| load + 1);
        }
        self.given.push((&guest.name, given));
        Ok(())
    }

    /// Checks that all regions that a guest shares were made.
    fn connect(&self, guest: &GuestConfig) -> Result<(), NotMade> {
        let all = connections(&self.configuration.shared, &guest.name);
        let mut regions = all.into_iter().map(|connection| &connection.region.name);
        match regions.find(|name| !self.regions.contains(&name.as_str())) {
            None => Ok(()),
            Some(region) => Err(NotMade { region: region.clone() }),
        }
    }

    /// Takes a guest's RAM; of one with `overcommit` the block of zeros that all of them share.
    fn take_ram(&mut self, guest: &GuestConfig) -> Result<Range, NoRam> {
        if !guest.overcommit {
            return self.pool.take(guest.memory_map.lowest(), guest.memory, RAM_UNIT);
        }
        if !self.zeros_taken {
            self.pool.take(0, RAM_UNIT, RAM_UNIT)?;
            self.zeros_taken = true;
        }
        Ok(Range::new(0, 0))
    }
}

#[cfg(test)]
mod tests;
