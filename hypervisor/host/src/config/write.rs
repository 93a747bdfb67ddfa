//! A configuration, compiled.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::core_plan::CoreConfig;
use super::error::ConfigError;
use super::memory_map::{MemoryMap, TRUSTED};
use super::network::NetworkConfig;
use super::policy::{DEFAULT_WELL_AFTER_US, Periodic};
use super::{COMPATIBLE, Configuration, DEFAULT_WEIGHT, GuestConfig, StoreConfig, check, property};
use stasis_guest::fdt::Writer;
use stasis_guest::shared::SharedRegion;

/// Checks a configuration and writes it.
pub fn compile(configuration: &Configuration) -> Result<Vec<u8>, ConfigError> {
    check(configuration)?;
    let mut tree = Writer::new();
    tree.string("compatible", COMPATIBLE);
    number_children(&mut tree);
    for (number, config) in (0u32..).zip(&configuration.guests) {
        guest(&mut tree, number, config);
    }
    for config in &configuration.cores {
        core(&mut tree, config);
    }
    for (number, config) in (0u32..).zip(&configuration.shared) {
        shared(&mut tree, number, config);
    }
    for (number, config) in (0u32..).zip(&configuration.networks) {
        network(&mut tree, number, config);
    }
    store(&mut tree, configuration.store);
    Ok(tree.finish())
}

fn guest(tree: &mut Writer, number: u32, config: &GuestConfig) {
    begin_numbered(tree, "guest", number);
    software(tree, config);
    machine(tree, config);
    fate(tree, config);
    devices(tree, config);
    care(tree, config);
    tree.end();
}

/// Writes what the guest is and what it starts with.
fn software(tree: &mut Writer, guest: &GuestConfig) {
    tree.string(property::NAME, &guest.name);
    tree.string(property::IMAGE, &guest.image);
    if let Some(kind) = guest.kind {
        tree.string(property::KIND, kind.name());
    }
    if let Some(initrd) = &guest.initrd {
        tree.string(property::INITRD, initrd);
    }
    if !guest.cmdline.is_empty() {
        tree.string(property::BOOTARGS, &guest.cmdline);
    }
}

/// Writes the guest's memory, its vCPUs and its time.
fn machine(tree: &mut Writer, guest: &GuestConfig) {
    tree.number(property::MEMORY_SIZE, guest.memory);
    if guest.memory_map != MemoryMap::Virt {
        tree.string(property::MEMORY_MAP, guest.memory_map.name());
    }
    if guest.overcommit {
        tree.empty(property::OVERCOMMIT);
    }
    if !guest.portable {
        tree.empty(property::NOT_PORTABLE);
    }
    tree.cell(property::VCPUS, u32::from(guest.vcpus));
    if !guest.cores.is_empty() {
        tree.cells(property::CORES, &guest.cores);
    }
    if guest.weight != DEFAULT_WEIGHT {
        tree.cell(property::WEIGHT, u32::from(guest.weight));
    }
    if let Some(frequency) = guest.counter_frequency {
        tree.cell(property::COUNTER_FREQUENCY, frequency);
    }
}

/// Writes when the guest starts, and what becomes of it when it can't go on.
fn fate(tree: &mut Writer, guest: &GuestConfig) {
    if guest.autostart {
        tree.empty(property::AUTOSTART);
    }
    tree.string(property::ON_CRASH, guest.on_crash.name());
    tree.string(property::ON_RESET, guest.on_reset.name());
    if let Some(watchdog_us) = guest.watchdog_us {
        tree.number(property::WATCHDOG_US, watchdog_us);
    }
}

/// Writes what the guest reaches: devices of the machine, disks, networks, random numbers, a
/// terminal.
fn devices(tree: &mut Writer, guest: &GuestConfig) {
    if !guest.devices.is_empty() {
        list(tree, property::DEVICES, &guest.devices);
    }
    if guest.dma_trusted {
        tree.string(property::DMA, TRUSTED);
    }
    if !guest.disks.is_empty() {
        let volumes: Vec<&str> = guest.disks.iter().map(|disk| disk.volume.as_str()).collect();
        tree.strings(property::DISKS, &volumes);
        let sizes = guest.disks.iter().flat_map(|disk| disk.size.to_be_bytes());
        tree.bytes(property::DISK_SIZES, &sizes.collect::<Vec<u8>>());
        if guest.disks.iter().any(|disk| disk.from.is_some()) {
            let images = guest.disks.iter().map(|disk| disk.from.as_deref().unwrap_or_default());
            tree.strings(property::DISK_IMAGES, &images.collect::<Vec<&str>>());
        }
    }
    if !guest.networks.is_empty() {
        list(tree, property::NETWORKS, &guest.networks);
    }
    if guest.entropy {
        tree.empty(property::ENTROPY);
    }
    if guest.terminal {
        tree.empty(property::TERMINAL);
    }
}

/// Writes when the guest is stored by itself, and when it counts as well.
fn care(tree: &mut Writer, guest: &GuestConfig) {
    if let Some(Periodic { every_us, keep, run_share }) = guest.periodic {
        tree.number(property::CHECKPOINT_EVERY_US, every_us);
        tree.cell(property::CHECKPOINT_KEEP, u32::from(keep));
        if run_share != Periodic::DEFAULT_RUN_SHARE {
            tree.cell(property::CHECKPOINT_RUN_SHARE, u32::from(run_share));
        }
    }
    if guest.well_after_us != DEFAULT_WELL_AFTER_US {
        tree.number(property::WELL_AFTER_US, guest.well_after_us);
    }
}

fn core(tree: &mut Writer, core: &CoreConfig) {
    begin_numbered(tree, "core", core.number);
    tree.number(property::FRAME_US, core.frame_us);
    number_children(tree);
    for (number, window) in (0u32..).zip(&core.windows) {
        begin_numbered(tree, "window", number);
        tree.string(property::NAME, &window.guest);
        tree.number(property::AT_US, window.at_us);
        tree.number(property::LENGTH_US, window.length_us);
        tree.end();
    }
    tree.end();
}

fn shared(tree: &mut Writer, number: u32, shared: &SharedRegion) {
    begin_numbered(tree, "shared", number);
    tree.string(property::REGION, &shared.name);
    tree.number(property::SIZE, shared.size);
    list(tree, property::GUESTS, &shared.guests);
    tree.end();
}

fn network(tree: &mut Writer, number: u32, network: &NetworkConfig) {
    begin_numbered(tree, "network", number);
    tree.string(property::NETWORK, &network.name);
    if let Some(uplink) = &network.uplink {
        tree.string(property::UPLINK, uplink);
    }
    tree.end();
}

/// Writes the node `store`, if something in it differs from its default.
fn store(tree: &mut Writer, store: StoreConfig) {
    if !store.verify_writes {
        tree.begin("store");
        tree.empty(property::UNVERIFIED_WRITES);
        tree.end();
    }
}

fn list(tree: &mut Writer, property: &str, strings: &[String]) {
    let strings: Vec<&str> = strings.iter().map(String::as_str).collect();
    tree.strings(property, &strings);
}

/// Says that the open node's children have plain numbers.
fn number_children(tree: &mut Writer) {
    tree.cell("#address-cells", 1);
    tree.cell("#size-cells", 0);
}

fn begin_numbered(tree: &mut Writer, name: &str, number: u32) {
    tree.begin(&format!("{name}@{number:x}"));
    tree.cell(property::REG, number);
}
