//! Where the addresses of a bus's devices are, seen from the CPU, and where its devices find memory
//! (Devicetree Specification, 2.3.8 and 2.3.9).

use super::Device;
use super::lookup::Lookup;
use super::reach::Reach;
use super::window::{MAX_WINDOWS, Window, windows};
use arrayvec::ArrayVec;
use dtoolkit::Node;
use dtoolkit::fdt::FdtNode;
use stasis_memory::range::Range;

/// The bus that a node's children are on.
#[derive(Clone, Debug)]
pub struct Bus {
    windows: ArrayVec<Window, MAX_WINDOWS>,
    reach: Reach,
}

impl Bus {
    /// Returns the bus that the root node's children are on: its addresses are the CPU's.
    pub fn root() -> Self {
        Self { windows: ArrayVec::from_iter([Window::EVERYTHING]), reach: Reach::EVERYTHING }
    }

    /// Returns the bus that the children of `node`, which is on this one, are on.
    pub fn below(&self, node: FdtNode) -> Self {
        let windows = match node.property("ranges") {
            // The node's children have no addresses of the CPU's: chips on an I2C bus, say.
            None => ArrayVec::new(),
            Some(_) => self.through(node),
        };
        Self { windows, reach: self.reach.below(node) }
    }

    /// Returns the memory that the bus's devices reach.
    pub fn reach(&self) -> Reach {
        self.reach
    }

    /// Returns the windows below `node`, which has `ranges`. If that is empty, both are one bus.
    fn through(&self, node: FdtNode) -> ArrayVec<Window, MAX_WINDOWS> {
        let mut entries = node.ranges().ok().flatten().into_iter().flatten();
        let windows = windows(&mut entries, &|address| self.translate(address));
        windows.unwrap_or_else(|| self.windows.clone())
    }

    /// Returns the CPU's address for one on this bus, if the CPU can reach it.
    pub fn translate(&self, address: u64) -> Option<u64> {
        self.windows.iter().find_map(|window| window.translate(address))
    }

    /// Returns the ranges of `node`'s `reg` that the CPU can reach.
    pub fn frames<'a>(&'a self, node: FdtNode<'a>) -> impl Iterator<Item = Range> + 'a {
        let registers = node.reg().ok().flatten().into_iter().flatten();
        registers.filter_map(|reg| {
            Some(Range::new(self.translate(reg.address().ok()?)?, reg.size().ok()?))
        })
    }
}

/// Returns the first frame and the first interrupt of the device that `node` is, if the CPU can
/// reach it.
pub fn device(node: FdtNode, bus: &Bus) -> Option<Device> {
    Some(Device { frame: bus.frames(node).next()?, intid: node.first_interrupt().unwrap_or(0) })
}
