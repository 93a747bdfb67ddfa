//! Where a guest has its RAM: where QEMU's `virt` has it, or where the machine has it.

use stasis_devices::machine::RAM_BASE;

/// The only thing that can be said of devices that access memory by themselves.
pub const TRUSTED: &str = "trusted";

/// Where a guest has its RAM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemoryMap {
    /// At [`RAM_BASE`], wherever it is on the machine.
    #[default]
    Virt,
    /// At the machine's own addresses, which are those that its devices use.
    Identity,
}

impl MemoryMap {
    /// Both of them.
    pub const ALL: [MemoryMap; 2] = [MemoryMap::Virt, MemoryMap::Identity];

    /// Returns the memory map's name in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            MemoryMap::Virt => "virt",
            MemoryMap::Identity => "identity",
        }
    }

    /// Returns the memory map with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|map| map.name() == name)
    }

    /// Returns the lowest physical address that its RAM may have: below [`RAM_BASE`] the guest has
    /// its devices.
    pub fn lowest(self) -> u64 {
        match self {
            MemoryMap::Virt => 0,
            MemoryMap::Identity => RAM_BASE,
        }
    }

    /// Returns where the guest has RAM that begins at this physical address.
    pub fn ram_base(self, physical: u64) -> u64 {
        match self {
            MemoryMap::Virt => RAM_BASE,
            MemoryMap::Identity => physical,
        }
    }
}
