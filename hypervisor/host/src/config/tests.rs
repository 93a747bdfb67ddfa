//! Configurations that are compiled, parsed again, and refused. Here are the ones that most tests
//! begin with; the files beside this one have the rules by what they are about.

mod devices;
mod guests;
mod parsing;
mod plans;
mod shared;

use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};

use super::*;

fn linux() -> GuestConfig {
    GuestConfig {
        name: "linux".to_string(),
        image: "vmlinuz".to_string(),
        kind: Some(Kind::Linux),
        initrd: Some("initrd.cpio".to_string()),
        cmdline: "console=ttyAMA0 quiet".to_string(),
        memory: 256 << 20,
        memory_map: MemoryMap::Virt,
        vcpus: 2,
        cores: vec![1, 2],
        weight: 300,
        counter_frequency: Some(62_500_000),
        autostart: true,
        on_crash: Policy::Resume,
        on_reset: Policy::Stop,
        watchdog_us: Some(5_000_000),
        devices: Vec::new(),
        dma_trusted: false,
        overcommit: false,
        portable: true,
        disks: vec![
            DiskConfig { from: Some("root.img".to_string()), ..disk("root", 64 << 20) },
            disk("data", 4096),
        ],
        networks: vec!["lan".to_string(), "wan".to_string()],
        entropy: true,
        terminal: true,
        periodic: Some(Periodic { every_us: 60_000_000, keep: 5, run_share: 70 }),
        well_after_us: 90_000_000,
    }
}

fn disk(volume: &str, size: u64) -> DiskConfig {
    DiskConfig { volume: volume.to_string(), size, from: None }
}

fn bare() -> GuestConfig {
    let devices = vec!["/pl031@9010000".to_string(), "gpio0".to_string()];
    let bare = GuestConfig::new("counter", "counter.elf", 16 << 20);
    let memory_map = MemoryMap::Identity;
    let portable = false;
    GuestConfig { autostart: false, memory_map, portable, devices, dma_trusted: true, ..bare }
}

/// Returns a plan of core 1 for `linux()` and `bare()`, the latter on that core, too.
fn divided() -> Configuration {
    let window =
        |guest: &str, at_us, length_us| WindowConfig { guest: guest.to_string(), at_us, length_us };
    let windows = vec![window("counter", 0, 2000), window("linux", 2000, 8000)];
    let cores = vec![CoreConfig { number: 1, frame_us: 10_000, windows }];
    let guests = vec![linux(), GuestConfig { cores: vec![1], ..bare() }];
    let store = StoreConfig { verify_writes: false };
    let uplink = Some("/virtio_mmio@a003a00".to_string());
    let networks = vec![network("lan", uplink), network("wan", None)];
    Configuration { guests, cores, shared: vec![ring()], networks, store }
}

fn network(name: &str, uplink: Option<String>) -> NetworkConfig {
    NetworkConfig { name: name.to_string(), uplink }
}

/// Memory that both share.
fn ring() -> SharedRegion {
    let guests = vec!["linux".to_string(), "counter".to_string()];
    SharedRegion { name: "ring".to_string(), size: 2 << 20, guests }
}

fn only(guests: &[GuestConfig]) -> Configuration {
    Configuration { guests: guests.to_vec(), ..Configuration::default() }
}

fn complaint(change: impl FnOnce(&mut GuestConfig)) -> String {
    let mut configuration = only(&[linux(), bare()]);
    change(&mut configuration.guests[1]);
    compile(&configuration).expect_err("a broken rule").to_string()
}

/// Returns what `parse` says of a configuration that was changed behind the compiler's back.
fn parse_complaint(change: impl FnOnce(&mut DeviceTreeNode)) -> String {
    let dtb = compile(&only(&[linux()])).unwrap();
    let mut tree = DeviceTree::from_fdt(&Fdt::new(&dtb).unwrap());
    change(tree.root.child_mut("guest@0").unwrap());
    parse(&tree.to_dtb()).expect_err("a broken rule").to_string()
}

fn put(node: &mut DeviceTreeNode, name: &str, value: &[u8]) {
    node.add_property(DeviceTreeProperty::new(name, value).unwrap());
}

#[test]
fn what_was_compiled_is_parsed() {
    assert_eq!(parse(&compile(&divided()).unwrap()).unwrap(), divided());
}

#[test]
fn the_files_of_all_guests_are_listed_once() {
    let mut second = linux();
    second.name = "second".to_string();
    assert_eq!(
        files(&only(&[linux(), second, bare()])),
        ["vmlinuz", "initrd.cpio", "root.img", "counter.elf"]
    );
}

#[test]
fn what_needs_a_store_is_named_by_its_key() {
    assert_eq!(wishes_for_a_store(&linux()), Some("checkpoint-every"));
    let guest = GuestConfig { periodic: None, ..linux() };
    assert_eq!(wishes_for_a_store(&guest), Some("on-crash = \"resume\""));
    let guest = GuestConfig { on_crash: Policy::Stop, on_reset: Policy::Resume, ..guest };
    assert_eq!(wishes_for_a_store(&guest), Some("on-reset = \"resume\""));
    let guest = GuestConfig { on_reset: Policy::Stop, ..guest };
    assert_eq!(wishes_for_a_store(&guest), Some("disks"));
    assert_eq!(wishes_for_a_store(&GuestConfig { disks: Vec::new(), ..guest }), None);
}
