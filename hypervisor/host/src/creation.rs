//! Making a guest from its configuration, and starting one again in its place.
//!
//! [`Blueprint::parts`] finds in the boot archive what [`image::load`](stasis_guest::image::load)
//! puts into the guest's RAM, and [`Blueprint::build`] makes the guest that starts there. `boot`
//! takes the RAM, the cores and the devices. A guest that was stored is made by
//! [`admission`](crate::admission).

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use stasis_devices::equipment::Equipment;
use stasis_devices::machine::RAM_BASE;
use stasis_devices::virtio::address::address_of;
use stasis_devices::virtio::block::SECTOR;
use stasis_devices::virtio::fitting::Fitting;
use stasis_guest::clock::{Pace, PaceError};
use stasis_guest::given::Given;
use stasis_guest::image::{Boot, ImageError, Parts};
use stasis_guest::shared::{Connection, SharedRegion, connections};
use stasis_guest::sysreg::identity::{self, NoSuchGranule, Reach};
use stasis_guest::{Guest, Start, Vcpu};
use stasis_memory::range::Range;
use stasis_state::vcpu::Identity;

use crate::archive::{Archive, ArchiveError};
use crate::config::{GuestConfig, MemoryMap};

/// Why a guest can't be made as it is configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreationError {
    /// The archive lacks a file.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The image can't be loaded.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The machine's counter is too fast.
    #[error(transparent)]
    Pace(#[from] PaceError),
    /// The cores lack what the image says that it needs.
    #[error(transparent)]
    Cpu(#[from] NoSuchGranule),
    /// The virtual GIC can't have the guest's interrupts.
    #[error(transparent)]
    Interrupts(#[from] stasis_vgic::Error),
}

/// What a guest is made of.
#[derive(Debug)]
pub struct Blueprint<'a> {
    /// How it is configured.
    config: &'a GuestConfig,
    /// What it shares with others.
    connections: Vec<Connection<'a>>,
    /// The machine's devices that it was given.
    given: &'a Given,
    /// Where its RAM is, in its map.
    ram: Range,
    /// The virtio devices.
    fittings: Vec<Fitting<'a>>,
    /// The first generation ID, if it has one.
    generation: Option<[u8; 16]>,
}

/// What a guest that is made finds on this machine.
#[derive(Clone, Copy, Debug)]
pub struct Here<'a> {
    /// ID registers of the cores.
    pub identity: &'a Identity,
    /// What the counter runs at, in Hz.
    pub counter_hz: u64,
    /// Seconds since 1970.
    pub wall_time: u64,
    /// Whether a guest can leave this machine: checkpoints can be made of it.
    pub can_leave: bool,
}

impl<'a> Blueprint<'a> {
    /// Returns the plan of a guest whose RAM is at `ram_base` in its map; `regions` are all that
    /// guests of this machine share. `random` are random bytes, or None if the machine has no
    /// source of them: then the guest gets none.
    pub fn new(
        config: &'a GuestConfig,
        regions: &'a [SharedRegion],
        given: &'a Given,
        ram_base: u64,
        random: Option<[u8; 16]>,
    ) -> Self {
        let connections = connections(regions, &config.name);
        let disks = config
            .disks
            .iter()
            .map(|disk| Fitting::Disk { volume: &disk.volume, sectors: disk.size / SECTOR });
        let generation = random.filter(|_| config.entropy);
        let cards = config
            .networks
            .iter()
            .map(|network| Fitting::Card { network, address: address_of(&config.name, network) });
        let entropy = generation.map(|_| Fitting::Entropy);
        let terminal = config.terminal.then_some(Fitting::Terminal);
        let fittings = disks.chain(cards).chain(entropy).chain(terminal).collect();
        let ram = Range::new(ram_base, config.memory);
        Self { config, connections, given, ram, fittings, generation }
    }

    /// Returns what the guest's machine has that not every guest's has.
    fn equipment(&self) -> Equipment<'_> {
        Equipment {
            watchdog_us: self.config.watchdog_us,
            shared: &self.connections,
            virtio: &self.fittings,
            generation: self.generation,
            ..Equipment::default()
        }
    }

    /// Returns what is loaded into the guest's RAM.
    ///
    /// # Errors
    ///
    /// [`CreationError::Archive`] if the archive lacks the image or the initial RAM disk.
    pub fn parts(&self, archive: &Archive<'a>) -> Result<Parts<'_>, CreationError> {
        let config = self.config;
        Ok(Parts {
            ram_base: self.ram.start,
            image: archive.file(&config.image)?,
            kind: config.kind,
            initrd: config.initrd.as_deref().map(|name| archive.file(name)).transpose()?,
            cmdline: &config.cmdline,
            vcpus: config.vcpus,
            counter_frequency: config.counter_frequency,
            equipment: self.equipment(),
            given: &self.given.devices,
        })
    }

    /// Returns whether the guest's RAM is written past stage 2, which does not see it: one of its
    /// devices accesses memory by itself.
    pub fn is_written_unseen(&self) -> bool {
        self.given.devices.iter().any(|device| device.grant.bus_master)
    }

    /// Makes the guest, whose image was loaded so, and its vCPUs.
    ///
    /// # Errors
    ///
    /// [`CreationError::Pace`], [`CreationError::Cpu`] and [`CreationError::Interrupts`].
    pub fn build(
        &self,
        loaded: &Boot,
        here: Here<'_>,
    ) -> Result<(Box<Guest>, Vec<Vcpu>), CreationError> {
        let config = self.config;
        let pace = Pace::configured(config.counter_frequency.map(u64::from), here.counter_hz)?;
        let reach = if config.portable && here.can_leave { Reach::Anywhere } else { Reach::Alike };
        let identities = (0..config.vcpus.into())
            .map(|index| identity::made(here.identity, index, loaded.granule, reach))
            .collect::<Result<Vec<Identity>, _>>()?;
        let (mut guest, vcpus) = Guest::new(
            &config.name,
            self.ram,
            &identities,
            Start { entry: loaded.entry, x0: loaded.x0 },
            pace,
            here.wall_time,
        )?;
        guest.equip(&self.equipment());
        guest.take_devices(self.given)?;
        Ok((guest, vcpus))
    }
}

/// Why a guest can't be started from the boot archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotStartable {
    /// The machine was started without one.
    #[error("there is no boot archive")]
    NoArchive,
    /// The guest came from a checkpoint, and the boot archive has no image of it. Nor is it known
    /// to be a clone or a copy of one that is there.
    #[error("the boot archive does not have it")]
    NotInArchive,
    /// The guest that has the name now has other memory, or another number of vCPUs.
    #[error("the boot archive has another guest of that name")]
    OtherGuest,
    /// The guest of the boot archive of which it is a clone or a copy has more disks, or fewer.
    #[error("its original in the boot archive has another number of disks")]
    OtherDisks,
}

/// Checks that a guest that has `vcpus` and its RAM there, in its map, can be started again as it
/// is configured.
///
/// # Errors
///
/// [`NotStartable::OtherGuest`]: it was resumed from a checkpoint of another guest of its name. A
/// guest that was resumed has its RAM where it had that when it was stored.
pub fn check_restart(config: &GuestConfig, vcpus: usize, ram: Range) -> Result<(), NotStartable> {
    let is_elsewhere = config.memory_map == MemoryMap::Virt && ram.start != RAM_BASE;
    let is_as_large = (ram.len(), vcpus) == (config.memory, config.vcpus.into());
    if is_as_large && !is_elsewhere { Ok(()) } else { Err(NotStartable::OtherGuest) }
}

/// Returns how a clone or a copy of a guest is configured that is called `name`: as its original,
/// with the `volumes` that it has behind its disks, in the order of its slots.
///
/// # Errors
///
/// [`NotStartable::OtherDisks`]: it has more disks than its original, or fewer.
pub fn config_under_name(
    original: &GuestConfig,
    name: &str,
    volumes: Vec<String>,
) -> Result<GuestConfig, NotStartable> {
    if volumes.len() != original.disks.len() {
        return Err(NotStartable::OtherDisks);
    }
    let mut config = GuestConfig { name: name.into(), ..original.clone() };
    for (disk, volume) in config.disks.iter_mut().zip(volumes) {
        disk.volume = volume;
    }
    Ok(config)
}

/// How the RAM of a guest that is made of its configuration comes to be zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewRam {
    /// Pages are taken from the pool as the guest writes them.
    Overcommitted,
    /// All of it is cleared before the guest runs.
    Cleared,
    /// Each part is cleared as the guest touches it.
    Stale,
}

impl NewRam {
    /// Returns how it is done for a guest, which has a window on a core or not. What devices access
    /// is cleared at once, for one request may be all over it; so is that of a guest whose time is
    /// planned.
    pub fn of(config: &GuestConfig, has_window: bool) -> Self {
        match config.overcommit {
            true => Self::Overcommitted,
            false if config.dma_trusted || config.has_virtio() || has_window => Self::Cleared,
            false => Self::Stale,
        }
    }
}

#[cfg(test)]
mod tests;
