//! A device of the machine that is given to a guest: where it is, and whether it can be given at
//! all.
//!
//! A guest reaches a device's registers itself, by whole pages. So whatever else lies in those
//! pages must be the same guest's, and nothing that Stasis uses. A device that accesses memory by
//! itself accesses all of the machine's, and knows no other addresses. Bindings: the Devicetree
//! Specification, 2.3 and 2.4, and `arm,gic` for the interrupts.

mod dma;
mod properties;

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{FdtStringListIterator, Node, Property};

use self::dma::Dma;
use super::bus::Bus;
use super::lookup::Lookup;
use super::own::Own;
use super::search::GICS;
use crate::config::{GuestConfig, MemoryMap};
use stasis_guest::given::{DeviceClocks, Grant, Interrupt};
use stasis_memory::PAGE_SIZE;
use stasis_memory::range::Range;

/// Why a device can't be given away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// The machine has no such device.
    #[error("the machine has no device \"{0}\"")]
    NotThere(String),
    /// The device's node says that it is not in use.
    #[error("device \"{0}\" is disabled in the machine's device tree")]
    Disabled(String),
    /// The device has no registers to map.
    #[error("device \"{0}\" has no registers that a CPU can reach")]
    NoRegisters(String),
    /// The device is Stasis's own.
    #[error("device \"{0}\" is in use by Stasis itself, or shares a page with one that is")]
    Own(String),
    /// The device shares its interrupt with one of Stasis's own.
    #[error("device \"{path}\" shares interrupt {intid} with a device that Stasis itself uses")]
    OwnInterrupt {
        /// The device.
        path: String,
        /// The INTID.
        intid: u32,
    },
    /// With the device another one would be given away, too.
    #[error(
        "device \"{path}\" shares a page of registers with \"{other}\", which is not given to this guest"
    )]
    SharesPage {
        /// The device.
        path: String,
        /// The other one.
        other: String,
    },
    /// An interrupt that is no SPI of the GIC.
    #[error("device \"{0}\" has an interrupt that is no SPI of the GIC")]
    NotAnSpi(String),
    /// A clock that may change, or that nobody knows.
    #[error("device \"{0}\" has a clock without a fixed frequency")]
    Clock(String),
    /// The device works on memory by itself, and goes on when its guest has ended.
    #[error(
        "device \"{0}\" accesses memory by itself, and nothing here can stop it when the guest ends"
    )]
    AccessesMemory(String),
    /// The device would work on other memory than the guest means.
    #[error(
        "device \"{0}\" accesses memory by itself, at the machine's addresses: the guest needs memory-map = \"identity\""
    )]
    Elsewhere(String),
    /// The device could do everything, and nobody has said that its guest may.
    #[error(
        "device \"{0}\" accesses memory by itself, and could all of the machine's: the guest needs dma = \"trusted\""
    )]
    NotTrusted(String),
    /// The device's addresses are neither the guest's nor the machine's.
    #[error(
        "device \"{0}\" accesses memory by itself, at addresses that its bus translates (dma-ranges)"
    )]
    Translated(String),
}

/// The device that accesses memory by itself, and that Stasis knows how to stop.
const VIRTIO: &str = "virtio,mmio";
/// Others that are known to access memory by themselves.
const BUS_MASTERS: [&str; 4] =
    ["pci-host-ecam-generic", "arm,pl330", "arm,pl080", "brcm,bcm2835-dma"];

/// A node with its path, and the bus that it is on.
pub(super) struct Found<'a> {
    pub(super) path: String,
    pub(super) node: FdtNode<'a>,
    pub(super) bus: Bus,
    /// The interrupt controller that its interrupts go to, unless it says otherwise itself.
    parent: Option<u64>,
    dma: Dma,
}

/// Looks at every node in use, and those below it.
fn walk<'a>(
    node: FdtNode<'a>,
    path: &str,
    bus: &Bus,
    parent: Option<u64>,
    dma: Dma,
    each: &mut dyn FnMut(Found<'a>),
) {
    for child in node.children() {
        let path = alloc::format!("{path}/{}", child.name());
        let own = child.integer("interrupt-parent").or(parent);
        let below = bus.below(child);
        let dma = dma.of(child);
        each(Found { path: path.clone(), node: child, bus: bus.clone(), parent: own, dma });
        walk(child, &path, &below, own, dma.below(child), each);
    }
}

/// Returns all nodes in use, in the tree's order.
pub(super) fn all<'a>(fdt: Fdt<'a>) -> Vec<Found<'a>> {
    let mut found = Vec::new();
    let root = fdt.root();
    let (parent, dma) = (root.integer("interrupt-parent"), Dma::default().of(root));
    walk(root, "", &Bus::root(), parent, dma, &mut |node| found.push(node));
    found
}

/// Looks at the device that a person means by its path or its alias, for one of the devices of
/// `guest`.
pub fn grant(
    fdt: Fdt<'_>,
    device: &str,
    guest: &GuestConfig,
    own: &Own,
) -> Result<Grant, GrantError> {
    let nodes = all(fdt);
    let path = resolve(fdt, device);
    let found = nodes.iter().find(|found| found.path == path);
    let found = found.ok_or_else(|| GrantError::NotThere(device.to_string()))?;
    if !found.node.enabled() {
        return Err(GrantError::Disabled(path));
    }
    let compatible: Vec<String> =
        found.node.compatible().into_iter().flatten().map(ToString::to_string).collect();
    let is_one_of = |known: &[&str]| compatible.iter().any(|name| known.contains(&name.as_str()));
    if is_one_of(&BUS_MASTERS) {
        return Err(GrantError::AccessesMemory(path));
    }
    let bus_master = is_one_of(&[VIRTIO]);
    if bus_master {
        check_bus_master(found, guest)?;
    }
    let frames: Vec<Range> = found.bus.frames(found.node).filter(|f| !f.is_empty()).collect();
    if frames.is_empty() {
        return Err(GrantError::NoRegisters(path));
    }
    let pages: Vec<Range> = frames.iter().map(|frame| frame.outward(PAGE_SIZE)).collect();
    let touches = |frame: &Range| pages.iter().any(|page| page.overlaps(*frame));
    if own.frames.iter().any(touches) {
        return Err(GrantError::Own(path));
    }
    let given: Vec<String> = guest.devices.iter().map(|device| resolve(fdt, device)).collect();
    let stranger = nodes.iter().find(|other| {
        let has_frame = other.bus.frames(other.node).any(|frame| touches(&frame));
        has_frame && other.path != path && !given.contains(&other.path)
    });
    if let Some(other) = stranger.map(|other| other.path.clone()) {
        return Err(GrantError::SharesPage { path, other });
    }
    let interrupts = interrupts(&nodes, found).ok_or_else(|| GrantError::NotAnSpi(path.clone()))?;
    let is_own = |interrupt: &&Interrupt| own.interrupts.contains(&interrupt.intid);
    if let Some(&Interrupt { intid, .. }) = interrupts.iter().find(is_own) {
        return Err(GrantError::OwnInterrupt { path, intid });
    }
    let clocks = clocks(&nodes, found.node).map_err(|()| GrantError::Clock(path.clone()))?;
    let (properties, left_out) = properties::of(found.node, bus_master && !found.dma.coherent);
    Ok(Grant { path, compatible, frames, interrupts, clocks, properties, left_out, bus_master })
}

/// Checks that a device that accesses memory by itself accesses what the guest means, and that the
/// guest may have it do so.
fn check_bus_master(found: &Found<'_>, guest: &GuestConfig) -> Result<(), GrantError> {
    let wrong = if guest.memory_map != MemoryMap::Identity {
        GrantError::Elsewhere
    } else if !guest.dma_trusted {
        GrantError::NotTrusted
    } else if found.dma.translated {
        GrantError::Translated
    } else {
        return Ok(());
    };
    Err(wrong(found.path.clone()))
}

/// Returns the path that a path or an alias stands for.
pub(super) fn resolve(fdt: Fdt<'_>, device: &str) -> String {
    let alias = fdt.find_node("/aliases").and_then(|aliases| aliases.string(device));
    alias.unwrap_or(device).to_string()
}

/// A device's interrupts; none if one of them is no SPI of the GIC.
fn interrupts(nodes: &[Found<'_>], found: &Found<'_>) -> Option<Vec<Interrupt>> {
    if found.node.property("interrupts-extended").is_some() {
        return None;
    }
    let Some(property) = found.node.property("interrupts") else {
        return Some(Vec::new());
    };
    let gic = nodes.iter().find(|node| node.node.compatible_with(&GICS).is_some())?;
    if gic.node.integer("phandle") != found.parent {
        return None;
    }
    let (cells, rest) = property.value().as_chunks::<12>();
    let cell = |bytes: &[u8; 12], n: usize| {
        u32::from_be_bytes([bytes[n * 4], bytes[n * 4 + 1], bytes[n * 4 + 2], bytes[n * 4 + 3]])
    };
    let spi = |bytes: &[u8; 12]| {
        let intid = cell(bytes, 1).checked_add(32).filter(|intid| *intid < 1020)?;
        (cell(bytes, 0) == 0).then_some(Interrupt { intid, flags: cell(bytes, 2) & 0xf })
    };
    if rest.is_empty() { cells.iter().map(spi).collect() } else { None }
}

/// A device's clocks, if it has any: all of one fixed frequency.
fn clocks(nodes: &[Found<'_>], node: FdtNode<'_>) -> Result<Option<DeviceClocks>, ()> {
    let Some(property) = node.property("clocks") else { return Ok(None) };
    let (handles, _) = property.value().as_chunks::<4>();
    let mut frequency = None;
    for handle in handles.iter().map(|cell| u64::from(u32::from_be_bytes(*cell))) {
        let clock = nodes.iter().find(|other| other.node.integer("phandle") == Some(handle));
        let fixed = clock.filter(|clock| clock.node.compatible_with(&["fixed-clock"]).is_some());
        let hz = fixed.and_then(|clock| clock.node.integer("clock-frequency")).ok_or(())?;
        if frequency.replace(hz).is_some_and(|other| other != hz) {
            return Err(());
        }
    }
    let names = node.property("clock-names");
    let names = names.and_then(|names| names.value_as::<FdtStringListIterator<'_>>().ok());
    let names = names.into_iter().flatten().map(ToString::to_string).collect();
    let hz = frequency.and_then(|hz| u32::try_from(hz).ok()).ok_or(())?;
    Ok(Some((names, hz)))
}

#[cfg(test)]
mod tests;
