//! Whether a host has what a guest needs to be resumed. Which CPUs and which counters a guest can
//! move between is the host's policy, and not decided here.

use core::ops::Range;

use crate::{error::Error, records::GuestState};

/// The facts about a host that decide whether it can have a guest.
#[derive(Clone, Debug)]
pub struct HostFacts {
    /// The greatest number of vCPUs that the guest could get.
    pub vcpus: u8,
    /// Bytes of RAM that the guest could get.
    pub memory: u64,
    /// Number of priority bits of the virtual CPU interface.
    pub prio_bits: u8,
    /// Guest-physical addresses at which the guest's RAM may be.
    pub ram: Range<u64>,
    /// Bytes of which the address and the size of the guest's RAM must be multiples. The host gives
    /// RAM in such units, so a guest whose RAM ends within one would also get memory of somebody
    /// else.
    pub ram_unit: u64,
    /// Guest-physical address of GICD.
    pub dist_base: u64,
    /// Guest-physical address of GICC.
    pub cpu_base: u64,
}

impl HostFacts {
    /// Checks that the guest would find the same machine on this host as on the one where it was
    /// stored.
    ///
    /// # Errors
    ///
    /// The first thing that differs.
    pub fn check(&self, guest: &GuestState) -> Result<(), Error> {
        let (config, dist) = (&guest.guest, &guest.distributor);
        if let Err(why) = config.checked_name() {
            return Err(Error::HostName { found: config.shown_name(), why });
        }
        if *config.nr_vcpus > self.vcpus {
            return Err(Error::HostVcpus { guest: *config.nr_vcpus, host: self.vcpus });
        }
        if !config.ram_size.is_multiple_of(self.ram_unit) {
            return Err(Error::HostRamSize { guest: *config.ram_size, unit: self.ram_unit });
        }
        if *config.ram_size > self.memory {
            return Err(Error::HostMemory { guest: *config.ram_size, host: self.memory });
        }
        if *dist.prio_bits != self.prio_bits {
            return Err(Error::HostPriorityBits { guest: *dist.prio_bits, host: self.prio_bits });
        }
        let (base, Range { start, end }) = (*config.ram_base, self.ram.clone());
        let fits = end.checked_sub(*config.ram_size).is_some_and(|last| base <= last);
        if base < start || !fits || !base.is_multiple_of(self.ram_unit) {
            return Err(Error::HostRam { guest: base, start, end, unit: self.ram_unit });
        }
        let addresses =
            [("GICD", *dist.dist_base, self.dist_base), ("GICC", *dist.cpu_base, self.cpu_base)];
        for (what, guest, host) in addresses {
            if guest != host {
                return Err(Error::HostAddress { what, guest, host });
            }
        }
        Ok(())
    }
}
