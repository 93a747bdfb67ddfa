//! How a device accesses memory by itself (Devicetree Specification, 2.3.9 and 2.3.10).

use dtoolkit::fdt::FdtNode;
use dtoolkit::{Node, Property};

/// How a device, or those on a bus, access memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dma {
    /// Through the CPUs' caches.
    pub coherent: bool,
    /// At other addresses than the CPUs.
    pub translated: bool,
}

impl Dma {
    /// Returns how `node`, which is on this bus, accesses memory.
    pub fn of(self, node: FdtNode) -> Self {
        let coherent = if node.property("dma-coherent").is_some() {
            true
        } else if node.property("dma-noncoherent").is_some() {
            false
        } else {
            self.coherent
        };
        Self { coherent, ..self }
    }

    /// Returns how the nodes on the bus that `node` is access memory; `node` itself accesses it as
    /// this says.
    pub fn below(self, node: FdtNode) -> Self {
        // Without any ranges in it, both buses have the same addresses.
        let ranges = node.property("dma-ranges");
        let translated = ranges.is_some_and(|ranges| !ranges.value().is_empty());
        Self { translated: self.translated || translated, ..self }
    }
}
