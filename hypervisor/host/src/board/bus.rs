//! Where the addresses of a bus's devices are, seen from the CPU (Devicetree Specification, 2.3.8).

use super::Device;
use super::lookup::Lookup;
use arrayvec::ArrayVec;
use dtoolkit::Node;
use dtoolkit::fdt::FdtNode;
use stasis_memory::range::Range;

/// Windows of one bus. More than any board has are left out, and what lies behind them is not found.
const MAX_WINDOWS: usize = 16;

/// One entry of `ranges`, translated.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// Its start on the bus.
    start: u64,
    /// Its start for the CPU.
    cpu: u64,
    /// Bytes.
    len: u64,
}

/// The bus that a node's children are on.
#[derive(Clone, Debug)]
pub struct Bus {
    windows: ArrayVec<Window, MAX_WINDOWS>,
}

impl Bus {
    /// Returns the bus that the root node's children are on: its addresses are the CPU's.
    pub fn root() -> Self {
        let everything = Window { start: 0, cpu: 0, len: u64::MAX };
        Self { windows: ArrayVec::from_iter([everything]) }
    }

    /// Returns the bus that the children of `node`, which is on this one, are on.
    pub fn below(&self, node: FdtNode) -> Self {
        match node.property("ranges") {
            // Its children's addresses are none of the CPU's: those of chips on an I2C bus, say.
            None => Self { windows: ArrayVec::new() },
            Some(_) => self.through(node),
        }
    }

    /// The same, where `node` has `ranges`. If that is empty, both are one bus.
    fn through(&self, node: FdtNode) -> Self {
        let mut ranges = node.ranges().ok().flatten().into_iter().flatten().peekable();
        if ranges.peek().is_none() {
            return self.clone();
        }
        let windows = ranges.filter_map(|range| {
            let cpu = self.translate(range.parent_bus_address().ok()?)?;
            let start = range.child_bus_address().ok()?;
            Some(Window { start, cpu, len: range.length().ok()? })
        });
        Self { windows: windows.take(MAX_WINDOWS).collect() }
    }

    /// Returns the CPU's address for one on this bus, if the CPU can reach it.
    pub fn translate(&self, address: u64) -> Option<u64> {
        self.windows.iter().find_map(|window| {
            let offset = address.checked_sub(window.start)?;
            if offset < window.len { window.cpu.checked_add(offset) } else { None }
        })
    }

    /// Returns the ranges of `node`'s `reg` that the CPU can reach.
    pub fn frames<'a>(&'a self, node: FdtNode<'a>) -> impl Iterator<Item = Range> + 'a {
        let registers = node.reg().ok().flatten().into_iter().flatten();
        registers.filter_map(|reg| {
            Some(Range::new(self.translate(reg.address().ok()?)?, reg.size().ok()?))
        })
    }
}

/// Returns the first frame and the first interrupt of the device that `node` is, if the CPU can reach it.
pub fn device(node: FdtNode, bus: &Bus) -> Option<Device> {
    Some(Device { frame: bus.frames(node).next()?, intid: node.first_interrupt().unwrap_or(0) })
}
