//! The invariants of the virtual GIC.

use crate::vgic::{CpuInterface, Distributor, MAX_VCPUS, NO_CPU, PRIVATE_INTIDS};

use super::{Violation, each, rule};

type Result = core::result::Result<(), Violation>;

/// The bits that GICC_CTLR of a guest has, IHI 0048B.b 4.4.1.
const CTLR_BITS: u32 = 0x21f;

pub(super) fn distributor(dist: &Distributor, nr_vcpus: u8) -> Result {
    let nr_irqs = *dist.nr_irqs;
    let counts = (64..=992).contains(&nr_irqs) && nr_irqs.is_multiple_of(32) || nr_irqs == 1020;
    let why = "it is 64 to 992 and a multiple of 32, or 1020";
    rule(counts, "nr_irqs", nr_irqs, why)?;
    let nr_cpus = *dist.nr_cpus;
    let why = "there is one CPU interface for each vCPU";
    let counts = nr_cpus == nr_vcpus && (1..=MAX_VCPUS).contains(&usize::from(nr_cpus));
    rule(counts, "nr_cpus", nr_cpus, why)?;
    let prio_bits = *dist.prio_bits;
    let why = "a GICv2 has 4 to 8";
    rule((4..=8).contains(&prio_bits), "prio_bits", prio_bits, why)?;
    rule(*dist.ctlr <= 3, "ctlr", *dist.ctlr, "it has bits 0 and 1")?;

    let spis = usize::from(nr_irqs) - PRIVATE_INTIDS;
    let words = [
        ("spi_group", &dist.spi_group[..]),
        ("spi_enable", &dist.spi_enable[..]),
        ("spi_latch", &dist.spi_latch[..]),
        ("spi_level", &dist.spi_level[..]),
        ("spi_active", &dist.spi_active[..]),
        ("spi_edge", &dist.spi_edge[..]),
    ];
    for (name, words) in words {
        each(name, words, "INTIDs from nr_irqs on do not exist", |i, word| {
            let existing = spis.saturating_sub(i * 32).min(32);
            u64::from(word) >> existing == 0
        })?;
    }
    priorities("spi_prio", &dist.spi_prio[..spis], prio_bits)?;
    let absent = |i: usize, value: u8| i < spis || value == 0;
    let why = "INTIDs from nr_irqs on do not exist";
    each("spi_prio", &dist.spi_prio[..], why, absent)?;
    each("spi_targets", &dist.spi_targets[..], why, absent)?;
    masks("spi_targets", &dist.spi_targets[..], nr_cpus)?;
    let why = "an active SPI has a vCPU that holds it, another has none";
    each("spi_active_cpu", &dist.spi_active_cpu[..], why, |i, cpu| {
        let active = dist.spi_active[i / 32] >> (i % 32) & 1 != 0;
        if active { cpu < nr_cpus } else { cpu == NO_CPU }
    })
}

pub(super) fn cpu_interface(cpu: &CpuInterface, dist: &Distributor) -> Result {
    let (nr_cpus, prio_bits) = (*dist.nr_cpus, *dist.prio_bits);
    let ppis_only = |value: u32| value & 0xffff == 0;
    let why = "SGIs have neither latch nor line";
    rule(ppis_only(*cpu.priv_latch), "priv_latch", *cpu.priv_latch, why)?;
    rule(ppis_only(*cpu.priv_level), "priv_level", *cpu.priv_level, why)?;
    let enabled = *cpu.priv_enable & 0xffff == 0xffff;
    rule(enabled, "priv_enable", *cpu.priv_enable, "SGIs are always enabled")?;
    let edges = *cpu.priv_edge & 0xffff == 0xffff;
    rule(edges, "priv_edge", *cpu.priv_edge, "SGIs are edge-triggered")?;
    priorities("priv_prio", &cpu.priv_prio[..], prio_bits)?;
    masks("sgi_src", &cpu.sgi_src[..], nr_cpus)?;
    let why = "an active SGI has a vCPU that sent it, another has 0";
    each("sgi_active_src", &cpu.sgi_active_src[..], why, |sgi, source| {
        let active = *cpu.priv_active >> sgi & 1 != 0;
        source == 0 || active && source < nr_cpus
    })?;

    let ctlr = *cpu.cc_ctlr;
    rule(ctlr & !CTLR_BITS == 0, "cc_ctlr", ctlr, "it has bits 0x21f")?;
    let why = "bits below prio_bits are 0";
    let mask = !unimplemented(prio_bits);
    rule(*cpu.cc_pmr & !mask == 0, "cc_pmr", *cpu.cc_pmr, why)?;
    let least = 7 - prio_bits.min(7);
    let why = "it is at most 7, and not less than prio_bits allows";
    rule((least..=7).contains(&*cpu.cc_bpr), "cc_bpr", *cpu.cc_bpr, why)?;
    rule((least + 1..=7).contains(&*cpu.cc_abpr), "cc_abpr", *cpu.cc_abpr, why)?;
    let why = "a bit stands for a priority that exists";
    each("cc_apr", &cpu.cc_apr[..], why, |_, word| word & !levels(prio_bits) == 0)
}

/// Returns the bits of a priority that are not implemented.
const fn unimplemented(prio_bits: u8) -> u8 {
    ((1u16 << (8 - prio_bits)) - 1) as u8
}

/// Returns the bits of a word of the 128-level GICC_APR that priorities of `prio_bits` bits can
/// set.
fn levels(prio_bits: u8) -> u32 {
    let step = 1 << (7 - prio_bits.min(7));
    (0..32).step_by(step).fold(0, |bits, level| bits | 1 << level)
}

fn priorities(register: &'static str, priorities: &[u8], prio_bits: u8) -> Result {
    let why = "bits below prio_bits are 0";
    each(register, priorities, why, |_, prio| prio & unimplemented(prio_bits) == 0)
}

fn masks(register: &'static str, masks: &[u8], nr_cpus: u8) -> Result {
    let why = "vCPUs from nr_cpus on do not exist";
    each(register, masks, why, |_, mask| u16::from(mask) >> nr_cpus == 0)
}
