//! Whether a host can go on with a guest.

use alloc::string::ToString;

use crate::{
    error::Error,
    records::GuestState,
    register::{Record, VALUE_OFFSET},
    vcpu::Identity,
};
use zerocopy::IntoBytes;

/// What a guest would find on this host.
#[derive(Clone, Debug)]
pub struct HostFacts {
    /// vCPUs that it could be given.
    pub vcpus: u8,
    /// Bytes of RAM that it could be given.
    pub memory: u64,
    /// CNTFRQ_EL0, in Hz.
    pub cntfrq: u64,
    /// Priority bits of the virtual CPU interface.
    pub prio_bits: u8,
    /// Where it would find its RAM.
    pub ram_base: u64,
    /// Where it would find GICD.
    pub dist_base: u64,
    /// Where it would find GICC.
    pub cpu_base: u64,
    /// What it would see of the CPU. MPIDR_EL1 is the guest's own, and not compared.
    pub identity: Identity,
}

impl HostFacts {
    /// Checks that the guest would find the machine that it was checkpointed on.
    pub fn check(&self, guest: &GuestState) -> Result<(), Error> {
        let (config, dist) = (&guest.guest, &guest.distributor);
        if *config.nr_vcpus > self.vcpus {
            return Err(Error::HostVcpus { guest: *config.nr_vcpus, host: self.vcpus });
        }
        if *config.ram_size > self.memory {
            return Err(Error::HostMemory { guest: *config.ram_size, host: self.memory });
        }
        if *guest.clock.cntfrq != self.cntfrq {
            return Err(Error::HostFrequency { guest: *guest.clock.cntfrq, host: self.cntfrq });
        }
        if *dist.prio_bits != self.prio_bits {
            return Err(Error::HostPriorityBits { guest: *dist.prio_bits, host: self.prio_bits });
        }
        let addresses = [
            ("RAM", *config.ram_base, self.ram_base),
            ("GICD", *dist.dist_base, self.dist_base),
            ("GICC", *dist.cpu_base, self.cpu_base),
        ];
        for (what, guest, host) in addresses {
            if guest != host {
                return Err(Error::HostAddress { what, guest, host });
            }
        }
        for (index, vcpu) in (0..).zip(&guest.vcpus) {
            self.check_cpu(index, &vcpu.identity)?;
        }
        Ok(())
    }

    fn check_cpu(&self, vcpu: u16, guest: &Identity) -> Result<(), Error> {
        let value = |identity: &Identity, offset: usize| {
            let bytes = &identity.as_bytes()[offset + VALUE_OFFSET..];
            bytes.first_chunk().map_or(0, |b| u64::from_le_bytes(*b))
        };
        for register in Identity::REGISTERS {
            let (guest, host) =
                (value(guest, register.offset), value(&self.identity, register.offset));
            if guest != host && register.name != "mpidr_el1" {
                return Err(Error::HostCpu {
                    vcpu,
                    register: register.name.to_string().to_uppercase(),
                    guest,
                    host,
                });
            }
        }
        Ok(())
    }
}
