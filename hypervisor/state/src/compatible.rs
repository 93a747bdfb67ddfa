//! Whether a host can go on with a guest. Which CPUs and which counters a guest can move between are
//! policies of the host's, and not here.

use core::ops::Range;

use crate::{error::Error, records::GuestState};

/// What a guest would find on this host.
#[derive(Clone, Debug)]
pub struct HostFacts {
    /// vCPUs that it could be given.
    pub vcpus: u8,
    /// Bytes of RAM that it could be given.
    pub memory: u64,
    /// Priority bits of the virtual CPU interface.
    pub prio_bits: u8,
    /// Where its RAM may be.
    pub ram: Range<u64>,
    /// What its RAM's address and size must be multiples of: what the host gives it more would be somebody else's.
    pub ram_unit: u64,
    /// Where it would find GICD.
    pub dist_base: u64,
    /// Where it would find GICC.
    pub cpu_base: u64,
}

impl HostFacts {
    /// Checks that the guest would find the machine that it was checkpointed on.
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
