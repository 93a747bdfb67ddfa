//! A state from the section.

use alloc::vec::Vec;

use stasis_state::vgic::{CpuInterface, Distributor};

use super::Backend;
use super::section::{ALL_CPUS, ArmGic, INTIDS, IrqState};
use crate::error::Error;
use crate::limits::{KVM_IIDR, KVM_PRIO_BITS, TCG_IIDR, reduce_priorities};
use crate::loss::Loss;
use crate::unknown::{self, Unknown};
use crate::vgic::{Bits, Interrupt, SGIS, Vgic, apr_to_128};

/// What a stream does not say of its machine's GIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Machine {
    pub nr_irqs: u16,
    pub nr_cpus: u8,
    /// The priority bits that the guest shall have from now on. QEMU's own GIC has 8, KVM's 5.
    pub prio_bits: u8,
    pub dist_base: u64,
    pub cpu_base: u64,
}

impl Machine {
    /// Returns what QEMU's `virt` has, to be run where there are five priority bits.
    pub fn virt(nr_cpus: u8) -> Self {
        let (dist_base, cpu_base) = (0x0800_0000, 0x0801_0000);
        Self { nr_irqs: 288, nr_cpus, prio_bits: KVM_PRIO_BITS, dist_base, cpu_base }
    }

    /// Returns what the machine has that a state was in.
    pub fn of(distributor: &Distributor) -> Self {
        Self {
            nr_irqs: *distributor.nr_irqs,
            nr_cpus: *distributor.nr_cpus,
            prio_bits: *distributor.prio_bits,
            dist_base: *distributor.dist_base,
            cpu_base: *distributor.cpu_base,
        }
    }
}

/// What QEMU said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The state.
    pub vgic: Vgic,
    /// What the section has, but a GIC of so few priority bits has not.
    pub losses: Vec<Loss>,
    /// What the section does not say, and what was assumed instead.
    pub unknowns: Vec<Unknown>,
}

/// Reads a section. What absent CPUs have in it is not looked at.
pub fn decode(gic: &ArmGic, machine: Machine, backend: Backend) -> Result<Decoded, Error> {
    let mut vgic = Vgic::new(machine.nr_irqs, machine.nr_cpus.into());
    let dist = &mut vgic.distributor;
    (*dist.dist_base, *dist.cpu_base) = (machine.dist_base, machine.cpu_base);
    *dist.ctlr = gic.ctlr.get() & 3;
    (*dist.iidr, *dist.prio_bits) = match backend {
        Backend::Tcg => (TCG_IIDR, machine.prio_bits),
        Backend::Kvm => (KVM_IIDR, KVM_PRIO_BITS),
    };
    let prio_bits = *dist.prio_bits;
    absent(gic, vgic.nr_irqs())?;
    for interrupt in vgic.interrupts() {
        bits(&mut vgic, gic, interrupt);
    }
    let mut unknowns: Vec<_> = unknown::sources(&vgic).collect();
    if backend == Backend::Kvm {
        unknowns.extend(unknown::lines(&vgic));
    }
    for interrupt in vgic.shared() {
        let intid = interrupt.intid();
        // With one CPU, GICD_ITARGETSR is RAZ/WI, whatever QEMU has in it, and KVM lets a guest
        // write.
        let targets = gic.irq_target[intid] & vgic.all_cpus();
        let dead = vgic.cpus.len() == 1;
        vgic.distributor.spi_targets[intid - 32] = if dead { 0 } else { targets };
        unknowns.extend(holder(&mut vgic, gic, intid));
    }
    let all_cpus = vgic.all_cpus();
    for (vcpu, cpu) in vgic.cpus.iter_mut().enumerate() {
        for sgi in 0..SGIS {
            cpu.sgi_src[sgi] = gic.sgi_pending[sgi][vcpu] & all_cpus;
        }
        cpu_interface(cpu, gic, vcpu, backend)?;
    }
    let losses = reduce_priorities(&mut vgic, prio_bits);
    Ok(Decoded { vgic, losses, unknowns })
}

/// Nothing may be lost only because the machine was said to be smaller than it is.
fn absent(gic: &ArmGic, nr_irqs: usize) -> Result<(), Error> {
    let used = |&intid: &usize| {
        let IrqState { enabled, pending, active, level, group, .. } = gic.irq_state[intid];
        enabled | pending | active | level | group != 0
    };
    (nr_irqs..INTIDS)
        .find(used)
        .map_or(Ok(()), |intid| Err(Error::NoSuchInterrupt { intid, nr_irqs }))
}

fn bits(vgic: &mut Vgic, gic: &ArmGic, interrupt: Interrupt) {
    let intid = interrupt.intid();
    let (mask, priority) = match interrupt {
        Interrupt::Private { vcpu, .. } => (1 << vcpu, gic.priority1[intid][vcpu]),
        Interrupt::Shared { .. } => (ALL_CPUS, gic.priority2[intid - 32]),
    };
    let state = gic.irq_state[intid];
    let sgi = interrupt.is_sgi();
    vgic.set_bit(Bits::Group, interrupt, state.group & mask != 0);
    vgic.set_bit(Bits::Enable, interrupt, sgi || state.enabled & mask != 0);
    vgic.set_bit(Bits::Latch, interrupt, !sgi && state.pending & mask != 0);
    vgic.set_bit(Bits::Level, interrupt, !sgi && state.level & mask != 0);
    vgic.set_bit(Bits::Active, interrupt, state.active & mask != 0);
    vgic.set_bit(Bits::Edge, interrupt, sgi || state.edge_trigger != 0);
    vgic.set_priority(interrupt, priority);
}

/// The only CPU that has the interrupt active. All have it where a guest wrote GICD_ISACTIVER, or
/// with KVM.
fn holder(vgic: &mut Vgic, gic: &ArmGic, intid: usize) -> Option<Unknown> {
    let active = gic.irq_state[intid].active;
    if active == 0 {
        return None;
    }
    let holder = active.trailing_zeros() as usize;
    if active.is_power_of_two() && holder < vgic.cpus.len() {
        vgic.set_holder(intid, Some(holder));
        return None;
    }
    let assumed = vgic.likely_holder(intid);
    vgic.set_holder(intid, Some(assumed));
    Some(Unknown::Holder { intid, assumed })
}

fn cpu_interface(
    cpu: &mut CpuInterface,
    gic: &ArmGic,
    vcpu: usize,
    backend: Backend,
) -> Result<(), Error> {
    let field = |what, found: u32, limit| {
        if found > limit { Err(Error::Field { what, cpu: vcpu, found }) } else { Ok(found) }
    };
    *cpu.cc_ctlr = gic.cpu_ctlr[vcpu].get() & 0x21f;
    *cpu.cc_bpr = field("bpr", gic.bpr[vcpu].into(), 7)? as u8;
    *cpu.cc_abpr = field("abpr", gic.abpr[vcpu].into(), 7)? as u8;
    let mask = u32::from(gic.priority_mask[vcpu].get());
    match backend {
        Backend::Tcg => {
            *cpu.cc_pmr = field("priority_mask", mask, 0xff)? as u8;
            *cpu.cc_apr = gic.active_priorities(vcpu);
        }
        Backend::Kvm => {
            *cpu.cc_pmr = (field("priority_mask", mask, 0x1f)? << 3) as u8;
            *cpu.cc_apr = apr_to_128(gic.apr[0][vcpu].get());
        }
    }
    Ok(())
}
