//! What a person says about the machine's guests: which image, how much memory, how many vCPUs,
//! which cores and when.
//!
//! The configuration travels as `stasis.dtb` in the boot archive: a device tree whose root is
//! compatible with `stasis,config-1`, and has a child `guest@<n>` for each guest, `core@<n>` for
//! each core that has a plan, `shared@<n>` for memory that guests share, `network@<n>` for each
//! network of which something is said and `store` for the store; `property.rs` has the names of
//! their properties. The host tool writes it ([`compile`]) and the hypervisor reads it ([`parse`]),
//! under the same rules ([`check()`]).

mod check;
mod core_plan;
mod error;
pub mod lean;
mod memory_map;
mod network;
mod policy;
mod property;
mod read;
mod shared;
mod time;
mod virtio;
mod write;

use alloc::string::{String, ToString};
use alloc::vec::Vec;

pub use self::check::{check, check_plan, check_plan_waits};
pub use self::core_plan::{
    CONSOLE_CORE, CoreConfig, CoreProblem, NoPlannedCore, WindowConfig, has_time,
};
pub use self::error::{ConfigError, PlanError, Problem};
pub use self::memory_map::{MemoryMap, TRUSTED};
pub use self::network::{MAX_UPLINKS, NetworkConfig, NetworkProblem};
pub use self::policy::{DEFAULT_WELL_AFTER_US, Periodic, Policy};
pub use self::read::parse;
pub use self::shared::SharedProblem;
pub use self::time::Time;
pub use self::write::compile;
use stasis_guest::image::Kind;
use stasis_guest::shared::SharedRegion;
pub use stasis_state::name::check as check_name;

/// The configuration's name in the boot archive.
pub const FILE_NAME: &str = "stasis.dtb";
/// What its root is compatible with.
pub const COMPATIBLE: &str = "stasis,config-1";
/// The weight of a guest of which nothing is said.
pub const DEFAULT_WEIGHT: u16 = 100;

/// What a machine is configured to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// The guests, in the order in which they are made.
    pub guests: Vec<GuestConfig>,
    /// The cores whose time is divided by a plan.
    pub cores: Vec<CoreConfig>,
    /// The memory that guests share.
    pub shared: Vec<SharedRegion>,
    /// The networks of which something is said. Others are there when a guest names them.
    pub networks: Vec<NetworkConfig>,
    /// The store of checkpoints.
    pub store: StoreConfig,
}

impl Configuration {
    /// Returns whether a guest of this name has a window on a core.
    pub fn has_window(&self, guest: &str) -> bool {
        let mut windows = self.cores.iter().flat_map(|core| &core.windows);
        windows.any(|window| window.guest == guest)
    }
}

/// What a person says about the store of checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Whether what was written to an SD card is read again and compared.
    pub verify_writes: bool,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { verify_writes: true }
    }
}

/// A disk of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskConfig {
    /// Name of the volume behind the disk, which no other disk has.
    pub volume: String,
    /// Bytes that the volume has at least, and has if it is not there yet.
    pub size: u64,
    /// The name of the image in the archive that the volume is made of, if it is not there yet;
    /// `None`: it is all zeros then.
    pub from: Option<String>,
}

/// One guest's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestConfig {
    /// The guest's name, by which the console knows it.
    pub name: String,
    /// The name of the guest's image in the archive.
    pub image: String,
    /// How to load it; `None`: as it looks.
    pub kind: Option<Kind>,
    /// The name of the initial RAM disk in the archive.
    pub initrd: Option<String>,
    /// The kernel's command line; may be empty.
    pub cmdline: String,
    /// Bytes of RAM.
    pub memory: u64,
    /// Where the guest has its RAM.
    pub memory_map: MemoryMap,
    /// Whether its memory is taken as it writes it, and not reserved when it is made.
    pub overcommit: bool,
    /// Whether the guest must be able to go on on any board, whatever caches its CPU has.
    pub portable: bool,
    /// Number of vCPUs.
    pub vcpus: u8,
    /// The physical cores of its vCPUs, of which there may be fewer: the list begins again where it
    /// ends. None at all: whoever makes it chooses. Whether the machine has them, the caller knows.
    pub cores: Vec<u32>,
    /// The guest's share of a core that it has together with others, relative to theirs.
    pub weight: u16,
    /// What the guest's counter runs at, in Hz; `None`: as the machine's.
    pub counter_frequency: Option<u32>,
    /// Whether the guest starts by itself.
    pub autostart: bool,
    /// What is done when it can't go on, or has not fed its watchdog.
    pub on_crash: Policy,
    /// What is done when it resets its machine.
    pub on_reset: Policy,
    /// The guest's watchdog, if it has one: the microseconds within which it must be fed from its
    /// start, or 0: it has to start it.
    pub watchdog_us: Option<u64>,
    /// The machine's devices that it is given: paths in the machine's device tree, or aliases
    /// there.
    pub devices: Vec<String>,
    /// Whether the guest is trusted with devices that access memory by themselves, all of the
    /// machine's.
    pub dma_trusted: bool,
    /// The guest's disks, in the order of their slots.
    pub disks: Vec<DiskConfig>,
    /// The networks that the guest has a card in, in the order of the cards' slots, which follow
    /// those of the disks.
    pub networks: Vec<String>,
    /// Whether the guest has a source of random bytes, and a generation ID that tells it to make
    /// its random numbers anew.
    pub entropy: bool,
    /// Whether the guest has a second terminal, a virtio console.
    pub terminal: bool,
    /// The checkpoints that are made of it without being asked for.
    pub periodic: Option<Periodic>,
    /// How long it must run after a start or a resume to count as well, in microseconds.
    pub well_after_us: u64,
}

impl GuestConfig {
    /// Returns the configuration of a guest of which a person has said only this; `memory` is in
    /// bytes.
    pub fn new(name: &str, image: &str, memory: u64) -> Self {
        Self {
            name: name.to_string(),
            image: image.to_string(),
            kind: None,
            initrd: None,
            cmdline: String::new(),
            memory,
            memory_map: MemoryMap::Virt,
            overcommit: false,
            portable: true,
            vcpus: 1,
            cores: Vec::new(),
            weight: DEFAULT_WEIGHT,
            counter_frequency: None,
            autostart: true,
            on_crash: Policy::Stop,
            on_reset: Policy::Restart,
            watchdog_us: None,
            devices: Vec::new(),
            dma_trusted: false,
            disks: Vec::new(),
            networks: Vec::new(),
            entropy: false,
            terminal: false,
            periodic: None,
            well_after_us: DEFAULT_WELL_AFTER_US,
        }
    }

    /// Returns whether the guest has a device that accesses its memory by itself.
    pub fn has_virtio(&self) -> bool {
        !self.disks.is_empty() || !self.networks.is_empty() || self.entropy || self.terminal
    }
}

/// Returns the names that a guest needs the archive to have.
fn files_of(guest: &GuestConfig) -> impl Iterator<Item = &str> {
    let images = guest.disks.iter().filter_map(|disk| disk.from.as_deref());
    [guest.image.as_str()].into_iter().chain(guest.initrd.as_deref()).chain(images)
}

/// Returns all the names that a [checked](check()) configuration needs the archive to have.
pub fn files(configuration: &Configuration) -> Vec<&str> {
    let mut files: Vec<&str> = Vec::new();
    let guests = configuration.guests.iter();
    for name in guests.flat_map(files_of) {
        if !files.contains(&name) {
            files.push(name);
        }
    }
    files
}

/// Returns the guests that are configured to have checkpoints, each with the key that says so.
pub fn in_need_of_a_store(configuration: &Configuration) -> Vec<(&GuestConfig, &'static str)> {
    let wishes = |guest| wishes_for_a_store(guest).map(|key| (guest, key));
    configuration.guests.iter().filter_map(wishes).collect()
}

/// Returns the key by which a guest is configured to have checkpoints or disks, which a machine
/// without a store does not have.
pub fn wishes_for_a_store(guest: &GuestConfig) -> Option<&'static str> {
    let wishes = [
        (guest.periodic.is_some(), "checkpoint-every"),
        (guest.on_crash == Policy::Resume, "on-crash = \"resume\""),
        (guest.on_reset == Policy::Resume, "on-reset = \"resume\""),
        (!guest.disks.is_empty(), "disks"),
    ];
    wishes.into_iter().find_map(|(wish, key)| wish.then_some(key))
}

#[cfg(test)]
mod tests;
