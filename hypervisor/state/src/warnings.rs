//! Warnings: what is odd about a state and worth a line, although a guest may bring it about.
//!
//! With GICC_CTLR.EOImode 0, an interrupt is active exactly while its priority is (IHI 0048B.b
//! 3.2.1). That is no longer true after the guest has written GICD_ISACTIVER or ICACTIVER, has
//! changed the priority, the group, the binary point or EOImode while an interrupt was active, or
//! has ended interrupts out of order. A guest may do all of these, so such a state is saved and
//! resumed as it is.

use alloc::vec::Vec;

use thiserror::Error;

use crate::{
    records::Records,
    vgic::{CpuInterface, Distributor, PRIVATE_INTIDS},
};

/// One oddity of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Warning {
    /// A priority is active without an interrupt. The CPU interface takes nothing of this priority
    /// or below until an EOI that may never come.
    #[error("vCPU {vcpu}: priority {priority:#04x} is active, but no interrupt of it is")]
    PriorityWithoutInterrupt {
        /// Index of the vCPU.
        vcpu: u16,
        /// The priority of the bit in GICC_APR.
        priority: u8,
    },
    /// An interrupt is active without its priority. The interrupt does not hold back others, and no
    /// EOI is due for it.
    #[error("vCPU {vcpu}: interrupt {intid} is active, but its priority {priority:#04x} is not")]
    InterruptWithoutPriority {
        /// Index of the vCPU.
        vcpu: u16,
        /// INTID of the interrupt.
        intid: u16,
        /// Group priority of the interrupt.
        priority: u8,
    },
}

/// Returns every oddity of a state that has passed [`crate::invariants::check`].
pub fn warnings(records: &Records<'_>) -> Vec<Warning> {
    let mut found = Vec::new();
    for (index, vcpu) in (0..).zip(&records.vcpus) {
        active_priorities(&mut found, index, vcpu.cpu_interface, records.distributor);
    }
    found
}

/// GICC_CTLR.EOImode as a guest without the security extensions sees it, IHI 0048B.b 4.4.1.
const EOI_MODE: u32 = 1 << 9;
/// GICC_CTLR.CBPR: the binary point of group 0 serves both groups.
const CBPR: u32 = 1 << 4;

fn active_priorities(found: &mut Vec<Warning>, vcpu: u16, cpu: &CpuInterface, dist: &Distributor) {
    let mut with_interrupt = [0u32; 4];
    let mut without_priority = Vec::new();
    for (intid, priority, group1) in active(vcpu, cpu, dist) {
        let priority = group_priority(cpu, priority, group1);
        let level = usize::from(priority >> 1);
        with_interrupt[level / 32] |= 1 << (level % 32);
        if cpu.cc_apr[level / 32] >> (level % 32) & 1 == 0 {
            without_priority.push(Warning::InterruptWithoutPriority { vcpu, intid, priority });
        }
    }
    for level in 0..128u8 {
        let (word, bit) = (usize::from(level / 32), level % 32);
        if cpu.cc_apr[word] >> bit & !(with_interrupt[word] >> bit) & 1 != 0 {
            let priority = level << 1;
            found.push(Warning::PriorityWithoutInterrupt { vcpu, priority });
        }
    }
    // With EOImode 1, the priority of an interrupt drops before the interrupt becomes inactive.
    if *cpu.cc_ctlr & EOI_MODE == 0 {
        found.append(&mut without_priority);
    }
}

/// Returns the interrupts that this vCPU holds active: the INTID, the priority, and whether the
/// interrupt is in group 1.
fn active(
    vcpu: u16,
    cpu: &CpuInterface,
    dist: &Distributor,
) -> impl Iterator<Item = (u16, u8, bool)> {
    let private = (0..PRIVATE_INTIDS)
        .filter(|i| *cpu.priv_active >> i & 1 != 0)
        .map(|i| (i as u16, cpu.priv_prio[i], *cpu.priv_group >> i & 1 != 0));
    let shared = (0..dist.spi_active_cpu.len())
        .filter(move |&i| u16::from(dist.spi_active_cpu[i]) == vcpu)
        .map(|i| {
            let group1 = dist.spi_group[i / 32] >> (i % 32) & 1 != 0;
            ((i + PRIVATE_INTIDS) as u16, dist.spi_prio[i], group1)
        });
    private.chain(shared)
}

/// Returns the part of a priority that decides on preemption, IHI 0048B.b 3.3.3.
fn group_priority(cpu: &CpuInterface, priority: u8, group1: bool) -> u8 {
    let common = *cpu.cc_ctlr & CBPR != 0;
    let subpriority_bits = match group1 {
        true if common => u32::from(*cpu.cc_bpr) + 1,
        // GICC_ABPR counts from 1, where GICC_BPR counts from 0.
        true => u32::from(*cpu.cc_abpr),
        false => u32::from(*cpu.cc_bpr) + 1,
    };
    (u32::from(priority) >> subpriority_bits << subpriority_bits) as u8
}
