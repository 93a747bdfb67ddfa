//! The rules for the records of a GIC, which may come from a file.

use stasis_state::vgic::{CpuInterface, Distributor, MAX_VCPUS, NO_CPU, PRIVATE_INTIDS, SPIS};

/// A rule that the records of a GIC break, or that a request to it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no GICv2 with so many CPU interfaces.
    #[error("a GICv2 has 1 to {max} CPU interfaces, not {found}")]
    CpuCount {
        /// In the record.
        found: u8,
        /// The most that there can be.
        max: usize,
    },
    /// There are not as many records of CPU interfaces as the distributor says.
    #[error("{found} records of CPU interfaces for {expected} vCPUs")]
    CpuRecords {
        /// The number of records.
        found: usize,
        /// The number in the distributor's record.
        expected: u8,
    },
    /// There is no GICv2 with so many INTIDs.
    #[error("{found} INTIDs: must be a multiple of 32 from 64 on, or 1020")]
    IntidCount {
        /// In the record.
        found: u16,
    },
    /// Priorities have not as many bits as GICH has.
    #[error("{found} bits of priority; GICH has 5")]
    PriorityBits {
        /// In the record.
        found: u8,
    },
    /// A register has something set for an INTID that there is not.
    #[error("{register} has state for INTID {intid}, of {count} INTIDs")]
    BeyondIntids {
        /// The register.
        register: &'static str,
        /// The INTID.
        intid: usize,
        /// The number of INTIDs.
        count: u16,
    },
    /// A priority with bits that are not implemented.
    #[error("INTID {intid} has priority {priority:#04x}, with unimplemented bits")]
    Priority {
        /// The INTID.
        intid: usize,
        /// In the record.
        priority: u8,
    },
    /// A register names a vCPU that there is not, as a target, source or holder.
    #[error("{register} of INTID {intid} names vCPU mask or number {found:#x}, of {count} vCPUs")]
    NoSuchCpu {
        /// The register.
        register: &'static str,
        /// The INTID.
        intid: usize,
        /// In the record: a mask or a number.
        found: u8,
        /// The number of vCPUs.
        count: usize,
    },
    /// An active SPI has no holder, or the reverse; or an SGI that is not active has a source.
    #[error("INTID {intid}: active is {active}, but held by or sent from {by:#x}")]
    Active {
        /// The INTID.
        intid: usize,
        /// Whether the record has it active.
        active: bool,
        /// The holder or the source.
        by: u8,
    },
    /// An SGI is not enabled or not edge-triggered, or has a latch or a line, where it can only
    /// have sources.
    #[error("vCPU {vcpu}: the SGIs' bits of {register} are {found:#06x}")]
    SgiBits {
        /// The vCPU.
        vcpu: usize,
        /// The register.
        register: &'static str,
        /// In the record: bits 15 to 0.
        found: u32,
    },
    /// A register has reserved bits set.
    #[error("{register} is {found:#x}, with reserved bits")]
    Reserved {
        /// The register.
        register: &'static str,
        /// In the record.
        found: u32,
    },
    /// Such interrupts cannot be linked.
    #[error("INTID {intid} cannot be linked to the physical INTID {physical}")]
    NotLinkable {
        /// The virtual INTID.
        intid: u16,
        /// The physical INTID.
        physical: u16,
    },
    /// There is no room for another link.
    #[error("more than {max} linked interrupts")]
    TooManyLinks {
        /// The number of links that there is room for.
        max: usize,
    },
    /// The distributor answers the access with an external abort.
    #[error("an access of {width} bytes at {offset:#x} of GICD")]
    NoSuchAccess {
        /// Bytes from GICD's base.
        offset: u64,
        /// Bytes of the access.
        width: u8,
    },
}

/// Checks whether a [`crate::Vgic`] can work on these records.
pub(crate) fn check(dist: &Distributor, cpus: &[CpuInterface]) -> Result<(), Error> {
    let (nr_irqs, nr_cpus) = (*dist.nr_irqs, *dist.nr_cpus);
    if !(1..=MAX_VCPUS).contains(&nr_cpus.into()) {
        return Err(Error::CpuCount { found: nr_cpus, max: MAX_VCPUS });
    }
    if cpus.len() != usize::from(nr_cpus) {
        return Err(Error::CpuRecords { found: cpus.len(), expected: nr_cpus });
    }
    if !(64..=1020).contains(&nr_irqs) || (nr_irqs % 32 != 0 && nr_irqs != 1020) {
        return Err(Error::IntidCount { found: nr_irqs });
    }
    if *dist.prio_bits != 5 {
        return Err(Error::PriorityBits { found: *dist.prio_bits });
    }
    reserved("GICD_CTLR", *dist.ctlr, 3)?;
    check_beyond(dist)?;
    check_spis(dist)?;
    cpus.iter().enumerate().try_for_each(|(vcpu, cpu)| check_cpu(vcpu, cpu, nr_cpus.into()))
}

fn reserved(register: &'static str, found: u32, implemented: u32) -> Result<(), Error> {
    if found & !implemented != 0 {
        return Err(Error::Reserved { register, found });
    }
    Ok(())
}

fn check_beyond(dist: &Distributor) -> Result<(), Error> {
    let count = *dist.nr_irqs;
    let spis = usize::from(count) - PRIVATE_INTIDS;
    let beyond =
        |register, spi: usize| Error::BeyondIntids { register, intid: spi + PRIVATE_INTIDS, count };
    for (register, words) in [
        ("GICD_IGROUPR", &*dist.spi_group),
        ("GICD_ISENABLER", &*dist.spi_enable),
        ("the pending latch", &*dist.spi_latch),
        ("the line", &*dist.spi_level),
        ("GICD_ISACTIVER", &*dist.spi_active),
        ("GICD_ICFGR", &*dist.spi_edge),
    ] {
        let set = (spis..SPIS).find(|spi| words[spi / 32] & (1 << (spi % 32)) != 0);
        if let Some(spi) = set {
            return Err(beyond(register, spi));
        }
    }
    for (register, bytes, neutral) in [
        ("GICD_IPRIORITYR", &*dist.spi_prio, 0),
        ("GICD_ITARGETSR", &*dist.spi_targets, 0),
        ("the holder", &*dist.spi_active_cpu, NO_CPU),
    ] {
        if let Some(spi) = (spis..SPIS).find(|&spi| bytes[spi] != neutral) {
            return Err(beyond(register, spi));
        }
    }
    Ok(())
}

fn check_spis(dist: &Distributor) -> Result<(), Error> {
    let count = usize::from(*dist.nr_cpus);
    for spi in 0..usize::from(*dist.nr_irqs) - PRIVATE_INTIDS {
        let intid = spi + PRIVATE_INTIDS;
        let targets = dist.spi_targets[spi];
        if u32::from(targets) >> count != 0 {
            return Err(Error::NoSuchCpu {
                register: "GICD_ITARGETSR",
                intid,
                found: targets,
                count,
            });
        }
        let active = dist.spi_active[spi / 32] & (1 << (spi % 32)) != 0;
        let by = dist.spi_active_cpu[spi];
        if active != (by != NO_CPU) {
            return Err(Error::Active { intid, active, by });
        }
        if active && usize::from(by) >= count {
            return Err(Error::NoSuchCpu { register: "the holder", intid, found: by, count });
        }
        check_priority(intid, dist.spi_prio[spi])?;
    }
    Ok(())
}

fn check_priority(intid: usize, priority: u8) -> Result<(), Error> {
    if priority & 7 != 0 {
        return Err(Error::Priority { intid, priority });
    }
    Ok(())
}

fn check_cpu(vcpu: usize, cpu: &CpuInterface, count: usize) -> Result<(), Error> {
    for (register, found, expected) in [
        ("GICD_ISENABLER0", *cpu.priv_enable, 0xffff),
        ("GICD_ICFGR0", *cpu.priv_edge, 0xffff),
        ("the pending latch", *cpu.priv_latch, 0),
        ("the line", *cpu.priv_level, 0),
    ] {
        let found = found & 0xffff;
        if found != expected {
            return Err(Error::SgiBits { vcpu, register, found });
        }
    }
    for sgi in 0..cpu.sgi_src.len() {
        let (sources, by) = (cpu.sgi_src[sgi], cpu.sgi_active_src[sgi]);
        if u32::from(sources) >> count != 0 || usize::from(by) >= count {
            let beyond = u32::from(sources) >> count != 0;
            return Err(Error::NoSuchCpu {
                register: "the source",
                intid: sgi,
                found: if beyond { sources } else { by },
                count,
            });
        }
        let active = *cpu.priv_active & (1 << sgi) != 0;
        if !active && by != 0 {
            return Err(Error::Active { intid: sgi, active, by });
        }
    }
    for (intid, &priority) in cpu.priv_prio.iter().enumerate() {
        check_priority(intid, priority)?;
    }
    reserved("GICC_CTLR", *cpu.cc_ctlr, 0x21f)?;
    reserved("GICC_PMR", (*cpu.cc_pmr).into(), 0xf8)?;
    reserved("GICC_BPR", (*cpu.cc_bpr).into(), 7)?;
    reserved("GICC_ABPR", (*cpu.cc_abpr).into(), 7)
}
