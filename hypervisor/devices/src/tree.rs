//! Writes a flattened device tree from front to back: the node that was begun last is ended first.
//! Devicetree Specification v0.4, chapter 5.
//!
//! Names and strings come from the caller, and contain no NUL.

use alloc::vec::Vec;

use crate::window::Window;

/// `FDT_MAGIC`, 5.2.
const MAGIC: u32 = 0xd00d_feed;
/// The version of the format, and the oldest version that is compatible with it.
const VERSION: u32 = 17;
const LAST_COMPATIBLE_VERSION: u32 = 16;
/// Bytes of the header, and of the one entry that ends the memory reservations (5.3).
const HEADER: u32 = 40;
const RESERVATIONS: u32 = 16;

/// The tokens of the structure, 5.4.1.
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const END: u32 = 9;

/// Handle of the GIC in a guest's device tree.
pub const PHANDLE_GIC: u32 = 1;
/// Handle of the clock of the PrimeCells. The devices' own handles come behind it
/// ([`Writer::phandle`]).
pub const PHANDLE_CLOCK: u32 = 2;

/// First cell of a GIC interrupt: an SPI, whose number is its INTID less 32.
pub const GIC_SPI: u32 = 0;
/// First cell of a GIC interrupt: a PPI, whose number is its INTID less 16.
pub const GIC_PPI: u32 = 1;
/// Third cell of a GIC interrupt: edge-triggered, rising.
pub const EDGE_RISING: u32 = 1;
/// Third cell of a GIC interrupt: level-sensitive, active high.
pub const LEVEL_HIGH: u32 = 4;

/// A device tree that is being written. Its root node is open until [`Writer::finish`].
#[derive(Debug)]
pub struct Writer {
    structure: Vec<u8>,
    /// The properties' names, each followed by a NUL.
    strings: Vec<u8>,
    /// The greatest handle that [`Writer::phandle`] has given, or that has a constant.
    last_phandle: u32,
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl Writer {
    /// Returns a tree whose root node is open.
    pub fn new() -> Self {
        let mut writer =
            Self { structure: Vec::new(), strings: Vec::new(), last_phandle: PHANDLE_CLOCK };
        writer.begin("");
        writer
    }

    /// Begins a node inside the open node. Write a node's properties before its children.
    pub fn begin(&mut self, name: &str) {
        self.word(BEGIN_NODE);
        self.structure.extend_from_slice(name.as_bytes());
        self.structure.push(0);
        self.align();
    }

    /// Ends the open node. The one around it is open again.
    pub fn end(&mut self) {
        self.word(END_NODE);
    }

    /// Writes a property of the open node, with `value` as it is.
    pub fn bytes(&mut self, name: &str, value: &[u8]) {
        let name = self.name(name);
        self.word(PROP);
        self.word(value.len() as u32);
        self.word(name);
        self.structure.extend_from_slice(value);
        self.align();
    }

    /// Writes a property without a value.
    pub fn empty(&mut self, name: &str) {
        self.bytes(name, &[]);
    }

    /// Writes a property of one cell.
    pub fn cell(&mut self, name: &str, value: u32) {
        self.bytes(name, &value.to_be_bytes());
    }

    /// Writes a property of several cells.
    pub fn cells(&mut self, name: &str, values: &[u32]) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_be_bytes()).collect();
        self.bytes(name, &bytes);
    }

    /// Writes a property that is one number of two cells.
    pub fn number(&mut self, name: &str, value: u64) {
        self.bytes(name, &value.to_be_bytes());
    }

    /// Writes a property that is one string.
    pub fn string(&mut self, name: &str, value: &str) {
        self.strings(name, &[value]);
    }

    /// Writes a property that is a list of strings.
    pub fn strings(&mut self, name: &str, values: &[&str]) {
        let mut bytes = Vec::new();
        for value in values {
            bytes.extend_from_slice(value.as_bytes());
            bytes.push(0);
        }
        self.bytes(name, &bytes);
    }

    /// Writes the open node's `reg`: address and bytes of each range, with two cells for each
    /// number.
    pub fn reg(&mut self, ranges: &[(u64, u64)]) {
        let numbers =
            ranges.iter().flat_map(|(base, size)| [base.to_be_bytes(), size.to_be_bytes()]);
        let bytes: Vec<u8> = numbers.flatten().collect();
        self.bytes("reg", &bytes);
    }

    /// Writes the open node's `interrupts`: the SPI of the `n`th window of a device, which must
    /// have an SPI. `trigger` is [`EDGE_RISING`] or [`LEVEL_HIGH`].
    pub fn interrupt(&mut self, window: &Window, n: u8, trigger: u32) {
        let spi = u32::from(window.spi.unwrap_or(0)) + u32::from(n);
        self.cells("interrupts", &[GIC_SPI, spi, trigger]);
    }

    /// Writes the node of a PrimeCell with one window, as QEMU has it. All its clocks are that of
    /// [`PHANDLE_CLOCK`].
    pub fn primecell(&mut self, name: &str, compatible: &str, window: &Window, clocks: &[&str]) {
        self.begin_primecell(name, compatible, window, clocks);
        self.end();
    }

    /// Begins the node that [`Writer::primecell`] writes, for a device with more properties.
    pub fn begin_primecell(
        &mut self,
        name: &str,
        compatible: &str,
        window: &Window,
        clocks: &[&str],
    ) {
        self.begin(name);
        self.strings("compatible", &[compatible, "arm,primecell"]);
        self.reg(&[(window.base, window.size)]);
        self.interrupt(window, 0, LEVEL_HIGH);
        self.cells("clocks", &alloc::vec![PHANDLE_CLOCK; clocks.len()]);
        self.strings("clock-names", clocks);
    }

    /// Gives the open node a handle that no other node has, and returns it.
    pub fn phandle(&mut self) -> u32 {
        self.last_phandle += 1;
        self.cell("phandle", self.last_phandle);
        self.last_phandle
    }

    /// Ends the root node, and returns the bytes of the tree. Only the root may be open.
    pub fn finish(mut self) -> Vec<u8> {
        self.end();
        self.word(END);
        let (structure, strings) = (self.structure.len() as u32, self.strings.len() as u32);
        let begin = HEADER + RESERVATIONS;
        let header = [
            MAGIC,
            begin + structure + strings,
            begin,
            begin + structure,
            HEADER,
            VERSION,
            LAST_COMPATIBLE_VERSION,
            // The CPU that boots.
            0,
            strings,
            structure,
        ];
        let mut tree: Vec<u8> = header.iter().flat_map(|word| word.to_be_bytes()).collect();
        tree.resize(begin as usize, 0);
        tree.append(&mut self.structure);
        tree.append(&mut self.strings);
        tree
    }

    /// Returns the offset of a property's name in the strings, and adds the name if it is new. The
    /// same names come again and again.
    fn name(&mut self, name: &str) -> u32 {
        let mut at = 0;
        for known in self.strings.split_inclusive(|&byte| byte == 0) {
            if known.strip_suffix(&[0]) == Some(name.as_bytes()) {
                return at;
            }
            at += known.len() as u32;
        }
        self.strings.extend_from_slice(name.as_bytes());
        self.strings.push(0);
        at
    }

    fn word(&mut self, word: u32) {
        self.structure.extend_from_slice(&word.to_be_bytes());
    }

    fn align(&mut self) {
        self.structure.resize(self.structure.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};

    use super::*;

    #[test]
    fn a_tree_is_byte_for_byte_what_dtoolkit_writes() {
        let mut writer = Writer::new();
        writer.cell("#address-cells", 2);
        writer.empty("dma-coherent");
        writer.begin("memory@40000000");
        writer.number("reg", 0x4000_0000);
        writer.cells("interrupts", &[0, 1, 4]);
        writer.begin("inner");
        writer.cell("#address-cells", 1);
        writer.end();
        writer.end();
        writer.begin("psci");
        writer.strings("compatible", &["arm,psci-1.0", "arm,psci-0.2"]);
        writer.string("method", "hvc");
        writer.end();

        let property = DeviceTreeProperty::new_unchecked;
        let mut tree = DeviceTree::new();
        tree.root.add_property(property("#address-cells", 2u32.to_be_bytes().to_vec()));
        tree.root.add_property(property("dma-coherent", Vec::new()));
        let mut memory = DeviceTreeNode::new_unchecked("memory@40000000");
        memory.add_property(property("reg", 0x4000_0000u64.to_be_bytes().to_vec()));
        let interrupts = [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 4];
        memory.add_property(property("interrupts", interrupts.to_vec()));
        let mut inner = DeviceTreeNode::new_unchecked("inner");
        inner.add_property(property("#address-cells", 1u32.to_be_bytes().to_vec()));
        memory.add_child(inner);
        tree.root.add_child(memory);
        let mut psci = DeviceTreeNode::new_unchecked("psci");
        psci.add_property(property("compatible", b"arm,psci-1.0\0arm,psci-0.2\0".to_vec()));
        psci.add_property(property("method", b"hvc\0".to_vec()));
        tree.root.add_child(psci);

        assert_eq!(writer.finish(), tree.to_dtb());
    }
}
