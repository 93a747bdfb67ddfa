//! A device of the machine that is given to a guest: where it is, and whether it can be given at all.
//!
//! A guest reaches a device's registers itself, by whole pages. So whatever else lies in those pages must be the same guest's, and
//! nothing that Stasis uses. Bindings: the Devicetree Specification, 2.3 and 2.4, and `arm,gic` for the interrupts.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{FdtStringListIterator, Node, Property};

use super::PAGE_SIZE;
use super::bus::Bus;
use super::lookup::Lookup;
use super::search::GICS;
use crate::range::Range;

/// A device that can be given away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Its node's path.
    pub path: String,
    /// What it is compatible with.
    pub compatible: Vec<String>,
    /// Its registers, at their physical addresses.
    pub frames: Vec<Range>,
    /// Its interrupts, all of them SPIs.
    pub interrupts: Vec<Interrupt>,
    /// Its clocks.
    pub clocks: Option<Clocks>,
}

/// The clocks' names, and what they run at, in Hz.
pub type Clocks = (Vec<String>, u32);

/// An interrupt of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// Its INTID, of an SPI.
    pub intid: u32,
    /// The third cell of its description: how it is triggered.
    pub flags: u32,
}

impl Interrupt {
    /// Whether it is edge-triggered.
    pub fn is_edge(self) -> bool {
        self.flags & 0b11 != 0
    }
}

/// Why a device can't be given away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// The machine has none such.
    #[error("the machine has no device \"{0}\"")]
    NotThere(String),
    /// Its node says that it is not in use.
    #[error("device \"{0}\" is disabled in the machine's device tree")]
    Disabled(String),
    /// There is nothing to map.
    #[error("device \"{0}\" has no registers that a CPU can reach")]
    NoRegisters(String),
    /// It is Stasis's own.
    #[error("device \"{0}\" is in use by Stasis itself, or shares a page with one that is")]
    Own(String),
    /// It would give away another one, too.
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
    /// It works on memory by itself, which no page table confines.
    #[error("device \"{0}\" accesses memory by itself, which nothing would confine")]
    AccessesMemory(String),
}

/// Devices that are known to access memory by themselves.
const BUS_MASTERS: [&str; 5] =
    ["virtio,mmio", "pci-host-ecam-generic", "arm,pl330", "arm,pl080", "brcm,bcm2835-dma"];

/// A node with its path, and the bus that it is on.
struct Found<'a> {
    path: String,
    node: FdtNode<'a>,
    bus: Bus,
    /// The interrupt controller that its interrupts go to, unless it says otherwise itself.
    parent: Option<u64>,
}

/// Looks at every node in use, and those below it.
fn walk<'a>(
    node: FdtNode<'a>,
    path: &str,
    bus: &Bus,
    parent: Option<u64>,
    each: &mut dyn FnMut(Found<'a>),
) {
    for child in node.children() {
        let path = alloc::format!("{path}/{}", child.name());
        let own = child.integer("interrupt-parent").or(parent);
        let below = bus.below(child);
        each(Found { path: path.clone(), node: child, bus: bus.clone(), parent: own });
        walk(child, &path, &below, own, each);
    }
}

fn all<'a>(fdt: Fdt<'a>) -> Vec<Found<'a>> {
    let mut found = Vec::new();
    let root = fdt.root();
    walk(root, "", &Bus::root(), root.integer("interrupt-parent"), &mut |node| found.push(node));
    found
}

/// Looks at the device that a person means by its path or its alias, for a guest that is given all of `given`. `own` is what
/// Stasis uses.
pub fn grant(
    fdt: Fdt<'_>,
    device: &str,
    given: &[String],
    own: &[Range],
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
    if compatible.iter().any(|name| BUS_MASTERS.contains(&name.as_str())) {
        return Err(GrantError::AccessesMemory(path));
    }
    let frames: Vec<Range> = found.bus.frames(found.node).filter(|f| !f.is_empty()).collect();
    if frames.is_empty() {
        return Err(GrantError::NoRegisters(path));
    }
    let pages: Vec<Range> = frames.iter().map(|frame| frame.outward(PAGE_SIZE)).collect();
    let touches = |frame: &Range| pages.iter().any(|p| frame.start < p.end && p.start < frame.end);
    if own.iter().any(touches) {
        return Err(GrantError::Own(path));
    }
    let given: Vec<String> = given.iter().map(|device| resolve(fdt, device)).collect();
    let stranger = nodes.iter().find(|other| {
        let has_frame = other.bus.frames(other.node).any(|frame| touches(&frame));
        has_frame && other.path != path && !given.contains(&other.path)
    });
    if let Some(other) = stranger.map(|other| other.path.clone()) {
        return Err(GrantError::SharesPage { path, other });
    }
    let interrupts = interrupts(&nodes, found).ok_or_else(|| GrantError::NotAnSpi(path.clone()))?;
    let clocks = clocks(&nodes, found.node).map_err(|()| GrantError::Clock(path.clone()))?;
    Ok(Grant { path, compatible, frames, interrupts, clocks })
}

/// The path that a path or an alias stands for.
fn resolve(fdt: Fdt<'_>, device: &str) -> String {
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
fn clocks(nodes: &[Found<'_>], node: FdtNode<'_>) -> Result<Option<Clocks>, ()> {
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
mod tests {
    use super::*;
    use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};

    fn put(node: &mut DeviceTreeNode, name: &str, value: &[u8]) {
        node.add_property(DeviceTreeProperty::new_unchecked(name, value));
    }

    fn cells(values: &[u32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_be_bytes()).collect()
    }

    fn node(
        name: &str,
        compatible: &str,
        frame: Option<(u32, u32)>,
        spis: &[u32],
    ) -> DeviceTreeNode {
        let mut node = DeviceTreeNode::new_unchecked(name);
        put(&mut node, "compatible", [compatible.as_bytes(), b"\0"].concat().as_slice());
        if let Some((start, len)) = frame {
            put(&mut node, "reg", &cells(&[start, len]));
        }
        let interrupts: Vec<u32> = spis.iter().flat_map(|spi| [0, *spi, 4]).collect();
        if !interrupts.is_empty() {
            put(&mut node, "interrupts", &cells(&interrupts));
        }
        node
    }

    /// A machine with a clock, two devices on one page, one that is disabled, and others that can't be given.
    fn machine() -> Vec<u8> {
        let mut tree = DeviceTree::new();
        let root = &mut tree.root;
        put(root, "#address-cells", &cells(&[1]));
        put(root, "#size-cells", &cells(&[1]));
        put(root, "interrupt-parent", &cells(&[7]));
        let mut gic = node("intc@1000", "arm,gic-400", Some((0x1000, 0x1000)), &[]);
        put(&mut gic, "phandle", &cells(&[7]));
        let mut crystal = node("crystal", "fixed-clock", None, &[]);
        put(&mut crystal, "phandle", &cells(&[9]));
        put(&mut crystal, "clock-frequency", &cells(&[24_000_000]));
        let mut rtc = node("rtc@4000", "arm,pl031", Some((0x4000, 0x1000)), &[2]);
        put(&mut rtc, "clocks", &cells(&[9]));
        put(&mut rtc, "clock-names", b"apb_pclk\0");
        let mut off = node("off@8000", "arm,pl061", Some((0x8000, 0x1000)), &[]);
        put(&mut off, "status", b"disabled\0");
        let mut cascaded = node("cascaded@9000", "x", Some((0x9000, 0x1000)), &[3]);
        put(&mut cascaded, "interrupt-parent", &cells(&[8]));
        let mut private = node("private@a000", "x", Some((0xa000, 0x1000)), &[]);
        put(&mut private, "interrupts", &cells(&[1, 3, 4]));
        let mut gated = node("gated@b000", "x", Some((0xb000, 0x1000)), &[]);
        put(&mut gated, "clocks", &cells(&[7]));
        let mut aliases = DeviceTreeNode::new_unchecked("aliases");
        put(&mut aliases, "clock0", b"/rtc@4000\0");
        let left = node("left@6000", "x", Some((0x6000, 0x200)), &[40]);
        let right = node("right@6200", "x", Some((0x6200, 0x200)), &[41]);
        let bus_master = node("dma@c000", "arm,pl330", Some((0xc000, 0x1000)), &[42]);
        for child in
            [gic, crystal, rtc, off, cascaded, private, gated, aliases, left, right, bus_master]
        {
            root.add_child(child);
        }
        tree.to_dtb()
    }

    fn ask(device: &str, given: &[&str]) -> Result<Grant, GrantError> {
        let dtb = machine();
        let given: Vec<String> = given.iter().map(ToString::to_string).collect();
        grant(Fdt::new(&dtb).unwrap(), device, &given, &[Range::new(0x1000, 0x1000)])
    }

    #[test]
    fn a_device_is_found_by_its_path_and_by_its_alias() {
        let rtc = ask("/rtc@4000", &["/rtc@4000"]).unwrap();
        assert_eq!(rtc.frames, [Range::new(0x4000, 0x1000)]);
        assert_eq!(rtc.interrupts, [Interrupt { intid: 34, flags: 4 }]);
        assert_eq!(rtc.clocks, Some((vec!["apb_pclk".to_string()], 24_000_000)));
        assert_eq!(ask("clock0", &["clock0"]), Ok(rtc));
    }

    #[test]
    fn devices_of_one_page_are_given_together_or_not_at_all() {
        let why = ask("/left@6000", &["/left@6000"]).unwrap_err().to_string();
        assert!(why.contains("shares a page of registers with \"/right@6200\""), "{why}");
        let both = ["/left@6000", "/right@6200"];
        assert!(both.iter().all(|device| ask(device, &both).is_ok()));
    }

    #[test]
    fn what_cannot_be_given_is_told_apart() {
        let path = String::from;
        for (device, why) in [
            ("/nothing", GrantError::NotThere(path("/nothing"))),
            ("/off@8000", GrantError::Disabled(path("/off@8000"))),
            ("/crystal", GrantError::NoRegisters(path("/crystal"))),
            ("/intc@1000", GrantError::Own(path("/intc@1000"))),
            ("/cascaded@9000", GrantError::NotAnSpi(path("/cascaded@9000"))),
            ("/private@a000", GrantError::NotAnSpi(path("/private@a000"))),
            ("/gated@b000", GrantError::Clock(path("/gated@b000"))),
            ("/dma@c000", GrantError::AccessesMemory(path("/dma@c000"))),
        ] {
            assert_eq!(ask(device, &[device]), Err(why));
        }
    }
}
