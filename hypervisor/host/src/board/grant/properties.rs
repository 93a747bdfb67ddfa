//! What a guest's device tree says of a device beyond where it is.
//!
//! All that the device's node says, but for references to other nodes, which the guest does not
//! have. A reference is a number, and nothing but the property's name tells that it is one.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dtoolkit::fdt::FdtNode;
use dtoolkit::{Node, Property};

/// What is the node's own on the machine, or is said anew.
const SAID_ANEW: [&str; 15] = [
    "#address-cells",
    "#size-cells",
    "clock-names",
    "clocks",
    "compatible",
    "dma-ranges",
    "interrupt-parent",
    "interrupts",
    "interrupts-extended",
    "linux,phandle",
    "name",
    "phandle",
    "ranges",
    "reg",
    "status",
];

/// References by their whole names, as the bindings have them.
const REFERENCES: [&str; 27] = [
    "cooling-device",
    "cpus",
    "dmas",
    "firmware",
    "gpio-ranges",
    "gpios",
    "hwlocks",
    "interconnects",
    "interrupt-affinity",
    "io-channels",
    "iommus",
    "leds",
    "mboxes",
    "memory-region",
    "mux-controls",
    "nvmem-cells",
    "operating-points-v2",
    "phy-handle",
    "phys",
    "power-domains",
    "pwms",
    "remote-endpoint",
    "resets",
    "sound-dai",
    "sram",
    "syscon",
    "thermal-sensors",
];

/// How the names of references begin, and how they end.
const PREFIXES: [&str; 2] = ["assigned-clock", "pinctrl-"];
const SUFFIXES: [&str; 6] = ["-gpio", "-gpios", "-map", "-parent", "-pwrseq", "-supply"];

fn is_reference(name: &str) -> bool {
    REFERENCES.contains(&name)
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

/// Returns what is passed on of a node, as names and values, and the names of what is not.
/// `noncoherent`: it accesses memory by itself, and not through the caches, which a guest's tree
/// says of no device unless it is told so.
pub fn of(node: FdtNode, noncoherent: bool) -> (Vec<(String, Vec<u8>)>, Vec<String>) {
    let (mut passed, mut left_out) = (Vec::new(), Vec::new());
    for property in node.properties() {
        let name = property.name();
        if is_reference(name) {
            left_out.push(name.to_string());
        } else if !SAID_ANEW.contains(&name) {
            passed.push((name.to_string(), property.value().to_vec()));
        }
    }
    const NONCOHERENT: &str = "dma-noncoherent";
    if noncoherent && node.property(NONCOHERENT).is_none() {
        passed.push((NONCOHERENT.to_string(), Vec::new()));
    }
    (passed, left_out)
}
