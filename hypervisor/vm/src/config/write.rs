//! A configuration, compiled.

use alloc::format;
use alloc::vec::Vec;

use dtoolkit::ToPropertyValue;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};

use super::core_plan::CoreConfig;
use super::error::ConfigError;
use super::policy::Periodic;
use super::shared::SharedConfig;
use super::{COMPATIBLE, Configuration, DEFAULT_WEIGHT, GuestConfig, check, property};

/// Checks a configuration and writes it.
pub fn compile(configuration: &Configuration) -> Result<Vec<u8>, ConfigError> {
    check(configuration)?;
    let mut tree = DeviceTree::new();
    put(&mut tree.root, "compatible", COMPATIBLE);
    number_children(&mut tree.root);
    for (number, config) in (0u32..).zip(&configuration.guests) {
        tree.root.add_child(guest(number, config));
    }
    for config in &configuration.cores {
        tree.root.add_child(core(config));
    }
    for (number, config) in (0u32..).zip(&configuration.shared) {
        tree.root.add_child(shared(number, config));
    }
    Ok(tree.to_dtb())
}

fn guest(number: u32, guest: &GuestConfig) -> DeviceTreeNode {
    let mut node = numbered("guest", number);
    put(&mut node, property::NAME, guest.name.as_str());
    put(&mut node, property::IMAGE, guest.image.as_str());
    if let Some(kind) = guest.kind {
        put(&mut node, property::KIND, kind.name());
    }
    if let Some(initrd) = &guest.initrd {
        put(&mut node, property::INITRD, initrd.as_str());
    }
    if !guest.cmdline.is_empty() {
        put(&mut node, property::BOOTARGS, guest.cmdline.as_str());
    }
    put(&mut node, property::MEMORY_SIZE, guest.memory);
    put(&mut node, property::VCPUS, u32::from(guest.vcpus));
    if !guest.cores.is_empty() {
        put(&mut node, property::CORES, guest.cores.clone());
    }
    if guest.weight != DEFAULT_WEIGHT {
        put(&mut node, property::WEIGHT, u32::from(guest.weight));
    }
    if let Some(frequency) = guest.counter_frequency {
        put(&mut node, property::COUNTER_FREQUENCY, frequency);
    }
    if guest.autostart {
        put(&mut node, property::AUTOSTART, [0u8; 0]);
    }
    put(&mut node, property::ON_CRASH, guest.on_crash.name());
    put(&mut node, property::ON_RESET, guest.on_reset.name());
    if let Some(watchdog_us) = guest.watchdog_us {
        put(&mut node, property::WATCHDOG_US, watchdog_us);
    }
    if let Some(Periodic { every_us, keep }) = guest.periodic {
        put(&mut node, property::CHECKPOINT_EVERY_US, every_us);
        put(&mut node, property::CHECKPOINT_KEEP, u32::from(keep));
    }
    node
}

fn core(core: &CoreConfig) -> DeviceTreeNode {
    let mut node = numbered("core", core.number);
    put(&mut node, property::FRAME_US, core.frame_us);
    number_children(&mut node);
    for (number, window) in (0u32..).zip(&core.windows) {
        let mut child = numbered("window", number);
        put(&mut child, property::NAME, window.guest.as_str());
        put(&mut child, property::AT_US, window.at_us);
        put(&mut child, property::LENGTH_US, window.length_us);
        node.add_child(child);
    }
    node
}

fn shared(number: u32, shared: &SharedConfig) -> DeviceTreeNode {
    let mut node = numbered("shared", number);
    put(&mut node, property::REGION, shared.name.as_str());
    put(&mut node, property::SIZE, shared.size);
    let guests: Vec<u8> = shared.guests.iter().flat_map(|guest| guest.bytes().chain([0])).collect();
    put(&mut node, property::GUESTS, guests);
    node
}

/// Says that a node's children have plain numbers.
fn number_children(node: &mut DeviceTreeNode) {
    put(node, "#address-cells", 1u32);
    put(node, "#size-cells", 0u32);
}

fn numbered(name: &str, number: u32) -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new_unchecked(format!("{name}@{number:x}"));
    put(&mut node, property::REG, number);
    node
}

fn put(node: &mut DeviceTreeNode, name: &str, value: impl ToPropertyValue) {
    node.add_property(DeviceTreeProperty::new_unchecked(name, value));
}
