//! The state of a virtual GICv2 (IHI 0048B.b), as registers that only store. Numbers of sections in
//! this module are those of that manual.
//!
//! The records hold what the architecture defines for the guest: which interrupts are pending, why,
//! and which vCPU holds each active one. Nothing in this crate knows of list registers: the virtual
//! GIC folds them into these records. A register marked † has no counterpart in the manual. It
//! holds state that the hardware has but does not show.

use crate::record;

/// Number of vCPUs that a GICv2 can serve.
pub const MAX_VCPUS: usize = 8;
/// INTIDs below this are private to a vCPU: 16 SGIs and 16 PPIs.
pub const PRIVATE_INTIDS: usize = 32;
/// Number of INTIDs that the records have room for; the greatest INTID is one less.
pub const MAX_INTIDS: usize = 1024;
/// Number of elements of an array with one element for each SPI.
pub const SPIS: usize = MAX_INTIDS - PRIVATE_INTIDS;
/// Number of words of an array with one bit for each SPI.
pub const SPI_WORDS: usize = SPIS / 32;
/// Value of [`Distributor::spi_active_cpu`]: no vCPU holds the interrupt.
pub const NO_CPU: u8 = 0xff;

record! {
    /// The distributor's registers that the guest has once. Index 0 of an SPI array is INTID 32.
    pub struct Distributor in distributor: VgicDistributor, home (gic) {
        /// Number of INTIDs, 64 to 1020: a multiple of 32, or 1020.
        nr_irqs: u16 = 0x01;
        /// Number of CPU interfaces, 1 to 8.
        nr_cpus: u8 = 0x02, reset 1;
        /// Priority bits that are implemented; 5 behind GICH.
        prio_bits: u8 = 0x03, reset 5;
        /// GICD_IIDR, 4.3.3: the model and the revision of its behaviour.
        iidr: u32 = 0x04, reset 0x43b;
        /// Guest-physical address of GICD.
        dist_base: u64 = 0x05;
        /// Guest-physical address of GICC.
        cpu_base: u64 = 0x06;
        /// GICD_CTLR, 4.3.1: EnableGrp0 is bit 0, EnableGrp1 bit 1.
        ctlr: u32 = 0x10;
        /// GICD_IGROUPR, 4.3.4.
        spi_group: [u32; SPI_WORDS] = 0x11;
        /// GICD_ISENABLER, 4.3.5.
        spi_enable: [u32; SPI_WORDS] = 0x12;
        /// † The pending latch: set by an edge or by a write to GICD_ISPENDR. Does not include the
        /// level of the line.
        spi_latch: [u32; SPI_WORDS] = 0x13;
        /// † The last level of the input line.
        spi_level: [u32; SPI_WORDS] = 0x14;
        /// GICD_ISACTIVER, 4.3.9.
        spi_active: [u32; SPI_WORDS] = 0x15;
        /// † The vCPU that holds the active interrupt, or [`NO_CPU`].
        spi_active_cpu: [u8; SPIS] = 0x16, reset [NO_CPU; SPIS];
        /// GICD_ICFGR, 4.3.13, one bit each: 1 is edge-triggered.
        spi_edge: [u32; SPI_WORDS] = 0x17;
        /// GICD_IPRIORITYR, 4.3.11. Bits below `prio_bits` are 0.
        spi_prio: [u8; SPIS] = 0x18;
        /// GICD_ITARGETSR, 4.3.12.
        spi_targets: [u8; SPIS] = 0x19;
    }
}

record! {
    /// The registers that each vCPU has: the banked part of the distributor, and the CPU interface.
    pub struct CpuInterface in cpu_interface: VgicCpu, home (gic) {
        /// GICD_IGROUPR0, 4.3.4.
        priv_group: u32 = 0x01;
        /// GICD_ISENABLER0, 4.3.5. SGIs are always enabled.
        priv_enable: u32 = 0x02, reset 0xffff;
        /// GICD_ISACTIVER0, 4.3.9.
        priv_active: u32 = 0x03;
        /// † The pending latch of the PPIs, bits [31:16].
        priv_latch: u32 = 0x04;
        /// † The last level of the PPIs' lines, bits [31:16].
        priv_level: u32 = 0x05;
        /// GICD_ICFGR0 and 1, 4.3.13, one bit each. SGIs are edge-triggered.
        priv_edge: u32 = 0x06, reset 0xffff;
        /// GICD_IPRIORITYR0 to 7, 4.3.11.
        priv_prio: [u8; PRIVATE_INTIDS] = 0x07;
        /// GICD_SPENDSGIR, 4.3.17: for each SGI the mask of the vCPUs that sent it. The SGI is
        /// pending if the mask is not 0.
        sgi_src: [u8; 16] = 0x08;
        /// † For each active SGI the index of the vCPU that sent it; 0 while the SGI is inactive.
        sgi_active_src: [u8; 16] = 0x09;
        /// GICC_CTLR, 4.4.1, bits 0x21f.
        cc_ctlr: u32 = 0x10;
        /// GICC_PMR, 4.4.2: all implemented bits of the priority, in place.
        cc_pmr: u8 = 0x11;
        /// GICC_BPR, 4.4.3; at least 2 with 5 priority bits.
        cc_bpr: u8 = 0x12, reset 2;
        /// GICC_ABPR, 4.4.8; at least 3 with 5 priority bits.
        cc_abpr: u8 = 0x13, reset 3;
        /// GICC_APR, 4.4.13, in its 128-level form: bit `priority >> 1`.
        cc_apr: [u32; 4] = 0x14;
    }
}
