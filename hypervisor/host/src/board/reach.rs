//! The memory that devices reach by themselves, and where they find it: [`Reach`], from
//! `dma-ranges` (Devicetree Specification, 2.3.9).

use super::window::{Window, windows};
use dtoolkit::fdt::FdtNode;
use stasis_memory::range::Range;

/// Windows of one bus. More than any board's SD host has are left out, and memory behind them
/// counts as out of reach.
const MAX_WINDOWS: usize = 4;

/// The memory that the devices of a bus reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach([Option<Window>; MAX_WINDOWS]);

impl Reach {
    /// Devices that reach all memory, at the CPU's addresses.
    pub const EVERYTHING: Self = Self([Some(Window::EVERYTHING), None, None, None]);

    /// Returns the address on the bus of the memory that is `range` for the CPU, if its devices
    /// reach all of it through one window.
    pub fn to_bus(&self, range: Range) -> Option<u64> {
        self.0.iter().flatten().find_map(|window| {
            let offset = range.start.checked_sub(window.cpu)?;
            let end = offset.checked_add(range.len())?;
            if end <= window.len { window.start.checked_add(offset) } else { None }
        })
    }

    /// Returns what the children of `node` reach, which is on this bus. Without entries in
    /// `dma-ranges`, that is what `node` itself reaches.
    pub fn below(&self, node: FdtNode) -> Self {
        let mut entries = node.dma_ranges().ok().flatten().into_iter().flatten();
        let Some(windows) = windows(&mut entries, &|address| self.translate(address)) else {
            return *self;
        };
        let mut below = Self([None; MAX_WINDOWS]);
        below.0.iter_mut().zip(windows).for_each(|(place, window)| *place = Some(window));
        below
    }

    fn translate(&self, address: u64) -> Option<u64> {
        self.0.iter().flatten().find_map(|window| window.translate(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dtoolkit::fdt::Fdt;
    use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
    use std::vec::Vec;

    /// Returns a bus with these entries of `dma-ranges`: its own address, of one cell, its
    /// parent's, of two, and a size.
    fn bus(name: &str, entries: Option<&[[u32; 4]]>) -> DeviceTreeNode {
        let mut bus = DeviceTreeNode::new_unchecked(name);
        let mut put = |name, cells: &[u32]| {
            let value: Vec<u8> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
            bus.add_property(DeviceTreeProperty::new_unchecked(name, value));
        };
        put("#address-cells", &[if entries.is_some_and(|all| !all.is_empty()) { 1 } else { 2 }]);
        put("#size-cells", &[1]);
        if let Some(entries) = entries {
            put("dma-ranges", entries.as_flattened());
        }
        bus
    }

    /// Returns what the devices on the inner of two buses reach.
    fn inner(outer: Option<&[[u32; 4]]>, inner: Option<&[[u32; 4]]>) -> Reach {
        let mut tree = DeviceTree::new();
        let mut outer = bus("outer", outer);
        outer.add_child(bus("inner", inner));
        tree.root.add_child(outer);
        let dtb = tree.to_dtb();
        let fdt = Fdt::new(&dtb).unwrap();
        let node = |path| fdt.find_node(path).unwrap();
        Reach::EVERYTHING.below(node("/outer")).below(node("/outer/inner"))
    }

    #[test]
    fn memory_is_where_the_bus_has_it_and_nowhere_else() {
        // As for the EMMC2 of the first Raspberry Pi 4, and of later ones.
        let first = inner(Some(&[]), Some(&[[0xc000_0000, 0, 0, 0x4000_0000]]));
        assert_eq!(first.to_bus(Range::new(0x20_0000, 0x1000)), Some(0xc020_0000));
        assert_eq!(first.to_bus(Range::new(0x3fff_f000, 0x1000)), Some(0xffff_f000));
        assert_eq!(first.to_bus(Range::new(0x3fff_f000, 0x1001)), None);
        assert_eq!(first.to_bus(Range::new(0x4000_0000, 0x1000)), None);
        let later = inner(None, Some(&[[0, 0, 0, 0xfc00_0000]]));
        assert_eq!(later.to_bus(Range::new(0x4000_0000, 0x1000)), Some(0x4000_0000));
        assert_eq!(later.to_bus(Range::new(0x1_0000_0000, 0x1000)), None);
    }

    #[test]
    fn a_bus_that_says_nothing_reaches_what_its_parent_does() {
        let everything = inner(None, Some(&[]));
        assert_eq!(everything, Reach::EVERYTHING);
        let outer = inner(Some(&[[0xc000_0000, 0, 0x1000_0000, 0x1000_0000]]), None);
        assert_eq!(outer.to_bus(Range::new(0x1000_0000, 0x1000)), Some(0xc000_0000));
        assert_eq!(outer.to_bus(Range::new(0, 0x1000)), None);
    }

    #[test]
    fn one_of_several_windows_has_all_of_it() {
        let two = [[0, 0, 0, 0x1000], [0x8000_0000, 0, 0x1000, 0x1000]];
        let reach = inner(None, Some(&two));
        assert_eq!(reach.to_bus(Range::new(0x1000, 0x1000)), Some(0x8000_0000));
        assert_eq!(reach.to_bus(Range::new(0xfff, 2)), None);
    }
}
