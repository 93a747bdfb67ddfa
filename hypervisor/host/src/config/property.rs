//! The names of the properties in a compiled configuration, and how one that may be absent is read.

use alloc::string::{String, ToString};

use dtoolkit::fdt::FdtNode;
use dtoolkit::{FromPropertyValue, Node, Property};

/// What can be wrong with a property of any node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PropertyProblem {
    /// A property that every node of the kind needs is not there.
    #[error("property \"{0}\" is missing")]
    Missing(&'static str),
    /// A property nobody knows: a misspelt one.
    #[error("property \"{0}\" is not known")]
    Unknown(String),
    /// A property's value is of another type.
    #[error("property \"{property}\" is not {expected}")]
    Type {
        /// The property.
        property: &'static str,
        /// What it should be.
        expected: &'static str,
    },
}

/// Not `name`, which the device tree specification has for the node's own (section 2.3.11).
pub const NAME: &str = "guest-name";
/// The node's number, which its unit address repeats.
pub const REG: &str = "reg";
pub const IMAGE: &str = "image";
pub const KIND: &str = "kind";
pub const INITRD: &str = "initrd";
pub const BOOTARGS: &str = "bootargs";
pub const MEMORY_SIZE: &str = "memory-size";
pub const MEMORY_MAP: &str = "memory-map";
pub const OVERCOMMIT: &str = "overcommit";
pub const NOT_PORTABLE: &str = "not-portable";
pub const VCPUS: &str = "vcpus";
pub const CORES: &str = "cores";
pub const WEIGHT: &str = "weight";
pub const COUNTER_FREQUENCY: &str = "counter-frequency";
pub const AUTOSTART: &str = "autostart";
pub const ON_CRASH: &str = "on-crash";
pub const ON_RESET: &str = "on-reset";
pub const WATCHDOG_US: &str = "watchdog-us";
pub const DEVICES: &str = "devices";
pub const DMA: &str = "dma";
pub const DISKS: &str = "disks";
pub const DISK_IMAGES: &str = "disk-images";
pub const DISK_SIZES: &str = "disk-sizes";
pub const NETWORKS: &str = "networks";
pub const ENTROPY: &str = "entropy";
pub const TERMINAL: &str = "terminal";
pub const CHECKPOINT_EVERY_US: &str = "checkpoint-every-us";
pub const CHECKPOINT_KEEP: &str = "checkpoint-keep";
pub const CHECKPOINT_RUN_SHARE: &str = "checkpoint-run-share";
pub const WELL_AFTER_US: &str = "well-after-us";
/// Properties of a guest.
pub const GUEST: &[&str] = &[
    NAME,
    REG,
    IMAGE,
    KIND,
    INITRD,
    BOOTARGS,
    MEMORY_SIZE,
    MEMORY_MAP,
    OVERCOMMIT,
    NOT_PORTABLE,
    VCPUS,
    CORES,
    WEIGHT,
    COUNTER_FREQUENCY,
    AUTOSTART,
    ON_CRASH,
    ON_RESET,
    WATCHDOG_US,
    DEVICES,
    DMA,
    DISKS,
    DISK_SIZES,
    DISK_IMAGES,
    NETWORKS,
    ENTROPY,
    TERMINAL,
    CHECKPOINT_EVERY_US,
    CHECKPOINT_KEEP,
    CHECKPOINT_RUN_SHARE,
    WELL_AFTER_US,
];

pub const FRAME_US: &str = "frame-us";
/// Properties of a core, whose `reg` is its number; the last two say how its windows are counted.
pub const CORE: [&str; 4] = [REG, FRAME_US, "#address-cells", "#size-cells"];

pub const AT_US: &str = "at-us";
pub const LENGTH_US: &str = "length-us";
/// Properties of a window.
pub const WINDOW: [&str; 4] = [REG, NAME, AT_US, LENGTH_US];

pub const SIZE: &str = "size";
pub const GUESTS: &str = "guests";
pub const REGION: &str = "region-name";
/// Properties of memory that guests share.
pub const SHARED: [&str; 4] = [REG, REGION, SIZE, GUESTS];

pub const NETWORK: &str = "network-name";
pub const UPLINK: &str = "uplink";
/// Properties of a network.
pub const NETWORK_NODE: [&str; 3] = [REG, NETWORK, UPLINK];

pub const UNVERIFIED_WRITES: &str = "unverified-writes";
/// Properties of the store.
pub const STORE: [&str; 1] = [UNVERIFIED_WRITES];

pub const TEXT: &str = "a string";
pub const TEXTS: &str = "a list of strings";
pub const WORD: &str = "a 32-bit number";
pub const WORDS: &str = "a list of 32-bit numbers";
pub const DOUBLEWORD: &str = "a 64-bit number";
pub const DOUBLEWORDS: &str = "a list of 64-bit numbers, one for each disk";

/// Refuses a node with a property that is none of `known`.
pub fn only(node: &FdtNode<'_>, known: &[&str]) -> Result<(), PropertyProblem> {
    match node.properties().find(|property| !known.contains(&property.name())) {
        Some(stranger) => Err(PropertyProblem::Unknown(stranger.name().to_string())),
        None => Ok(()),
    }
}

/// Returns the value of a property that may be absent.
pub fn value<'a, T: FromPropertyValue<'a>>(
    node: &FdtNode<'a>,
    property: &'static str,
    expected: &'static str,
) -> Result<Option<T>, PropertyProblem> {
    match node.property(property) {
        Some(found) => {
            found.value_as().map(Some).map_err(|_| PropertyProblem::Type { property, expected })
        }
        None => Ok(None),
    }
}

/// Returns the value of a property that must be there.
pub fn needed<'a, T: FromPropertyValue<'a>>(
    node: &FdtNode<'a>,
    property: &'static str,
    expected: &'static str,
) -> Result<T, PropertyProblem> {
    value(node, property, expected)?.ok_or(PropertyProblem::Missing(property))
}
