//! The configuration as a device tree blob, both ways.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use dtoolkit::{FdtStringListIterator, FromPropertyValue, Node, Property, ToPropertyValue};

use super::{COMPATIBLE, ConfigError, GuestConfig, Kind, Problem, check};
use crate::text::quoted;

/// Not `name`, which the device tree specification has for the node's own (section 2.3.11).
const NAME: &str = "guest-name";
/// The node's number, which its unit address repeats.
const REG: &str = "reg";
const IMAGE: &str = "image";
const KIND: &str = "kind";
const INITRD: &str = "initrd";
const BOOTARGS: &str = "bootargs";
const MEMORY_SIZE: &str = "memory-size";
const VCPUS: &str = "vcpus";
const CORE: &str = "core";
const AUTOSTART: &str = "autostart";
const PROPERTIES: [&str; 10] =
    [NAME, REG, IMAGE, KIND, INITRD, BOOTARGS, MEMORY_SIZE, VCPUS, CORE, AUTOSTART];

/// Reads a configuration and checks it.
pub fn parse(dtb: &[u8]) -> Result<Vec<GuestConfig>, ConfigError> {
    let root = Fdt::new(dtb).map_err(ConfigError::DeviceTree)?.root();
    let compatible = root
        .property("compatible")
        .and_then(|property| property.value_as::<FdtStringListIterator<'_>>().ok())
        .is_some_and(|mut list| list.any(|one| one == COMPATIBLE));
    if !compatible {
        return Err(ConfigError::NotAConfiguration);
    }
    let mut guests = Vec::new();
    for node in root.children() {
        if node.name_without_address() != "guest" {
            return Err(ConfigError::UnknownNode(node.name().to_string()));
        }
        let guest = parse_guest(&node).map_err(|problem| {
            let name = value::<&str>(&node, NAME, "").ok().flatten();
            let guest = name.map_or_else(|| node.name().to_string(), quoted);
            ConfigError::Guest { guest, problem }
        })?;
        guests.push(guest);
    }
    check(&guests)?;
    Ok(guests)
}

fn parse_guest(node: &FdtNode<'_>) -> Result<GuestConfig, Problem> {
    let stranger = node.properties().find(|property| !PROPERTIES.contains(&property.name()));
    if let Some(stranger) = stranger {
        return Err(Problem::Unknown(stranger.name().to_string()));
    }
    let string = |property| value::<String>(node, property, "a string");
    let vcpus = value::<u32>(node, VCPUS, "a 32-bit number")?.ok_or(Problem::Missing(VCPUS))?;
    Ok(GuestConfig {
        name: string(NAME)?.ok_or(Problem::Missing(NAME))?,
        image: string(IMAGE)?.ok_or(Problem::Missing(IMAGE))?,
        kind: match string(KIND)? {
            Some(kind) => Some(Kind::from_name(&kind).ok_or(Problem::Kind(kind))?),
            None => None,
        },
        initrd: string(INITRD)?,
        cmdline: string(BOOTARGS)?.unwrap_or_default(),
        memory: value::<u64>(node, MEMORY_SIZE, "a 64-bit number")?
            .ok_or(Problem::Missing(MEMORY_SIZE))?,
        vcpus: u8::try_from(vcpus).map_err(|_| Problem::Vcpus(vcpus))?,
        core: value::<u32>(node, CORE, "a 32-bit number")?,
        autostart: value::<[u8; 0]>(node, AUTOSTART, "empty")?.is_some(),
    })
}

/// The value of a property that may be absent.
fn value<'a, T: FromPropertyValue<'a>>(
    node: &FdtNode<'a>,
    property: &'static str,
    expected: &'static str,
) -> Result<Option<T>, Problem> {
    match node.property(property) {
        Some(found) => found.value_as().map(Some).map_err(|_| Problem::Type { property, expected }),
        None => Ok(None),
    }
}

/// Checks a configuration and writes it.
pub fn compile(guests: &[GuestConfig]) -> Result<Vec<u8>, ConfigError> {
    check(guests)?;
    let mut tree = DeviceTree::new();
    put(&mut tree.root, "compatible", COMPATIBLE);
    put(&mut tree.root, "#address-cells", 1u32);
    put(&mut tree.root, "#size-cells", 0u32);
    for (number, guest) in (0u32..).zip(guests) {
        let mut node = DeviceTreeNode::new_unchecked(alloc::format!("guest@{number:x}"));
        put(&mut node, REG, number);
        put(&mut node, NAME, guest.name.as_str());
        put(&mut node, IMAGE, guest.image.as_str());
        if let Some(kind) = guest.kind {
            put(&mut node, KIND, kind.name());
        }
        if let Some(initrd) = &guest.initrd {
            put(&mut node, INITRD, initrd.as_str());
        }
        if !guest.cmdline.is_empty() {
            put(&mut node, BOOTARGS, guest.cmdline.as_str());
        }
        put(&mut node, MEMORY_SIZE, guest.memory);
        put(&mut node, VCPUS, u32::from(guest.vcpus));
        if let Some(core) = guest.core {
            put(&mut node, CORE, core);
        }
        if guest.autostart {
            put(&mut node, AUTOSTART, [0u8; 0]);
        }
        tree.root.add_child(node);
    }
    Ok(tree.to_dtb())
}

fn put(node: &mut DeviceTreeNode, name: &str, value: impl ToPropertyValue) {
    node.add_property(DeviceTreeProperty::new_unchecked(name, value));
}
