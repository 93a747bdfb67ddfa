//! What the other sides can't hold: finds it in a state, and takes it away.
//!
//! The conversions themselves then convert everything that is left. So there is one place that says
//! what is lost, and it can't say less than what is.

use alloc::vec::Vec;

use stasis_state::vgic::{CpuInterface, PRIVATE_INTIDS};

use crate::loss::Loss;
use crate::vgic::{Bits, Interrupt, SGIS, Vgic, coarser, implemented};

/// Priority bits behind GICH, and so with KVM.
pub const KVM_PRIO_BITS: u8 = 5;
/// The most INTIDs that KVM's GICv2 has.
pub const KVM_NR_IRQS: u16 = 992;
/// GICD_IIDR of KVM: product 'K', implementer Arm, and revision 2, the first that has groups.
pub const KVM_IIDR: u32 = 0x4b00_243b;
/// The revision, bits [15:12] of GICD_IIDR: KVM takes those that it knows.
const IIDR_REVISION: u32 = 0xf000;
/// GICD_IIDR of a GIC that QEMU emulates.
pub const TCG_IIDR: u32 = 0x43b;

/// Where a state goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The attributes of KVM's device, written by somebody who raises the lines.
    Kvm,
    /// QEMU with a GIC of its own.
    QemuTcg,
    /// QEMU with KVM's, which it writes its own way.
    QemuKvm,
}

/// Takes from the state what that side can't hold, and tells what it was.
pub fn reduce(vgic: &mut Vgic, side: Side) -> Vec<Loss> {
    let mut losses = Vec::new();
    losses.extend(model(vgic, side));
    losses.extend(active_sources(vgic));
    match side {
        Side::Kvm => {
            losses.extend(kvm(vgic));
            losses.extend(hidden_latches(vgic));
            losses.extend(never_delivered(vgic));
            // This one is the last: what is lost of an interrupt that is lost makes no difference.
            losses.extend(interrupts(vgic));
        }
        Side::QemuKvm => {
            losses.extend(kvm(vgic));
            losses.extend(lines(vgic));
            losses.extend(holders(vgic));
            losses.extend(groups(vgic));
            losses.extend(unused_targets(vgic));
        }
        Side::QemuTcg => {
            losses.extend(shared_triggers(vgic));
            losses.extend(unused_targets(vgic));
        }
    }
    apply(&losses, vgic);
    losses
}

/// Takes from the state what a GIC with so many priority bits does not have.
pub fn reduce_priorities(vgic: &mut Vgic, bits: u8) -> Vec<Loss> {
    let losses = priorities(vgic, bits);
    apply(&losses, vgic);
    losses
}

fn apply(losses: &[Loss], vgic: &mut Vgic) {
    for loss in losses {
        loss.apply(vgic);
    }
}

fn model(vgic: &Vgic, side: Side) -> Option<Loss> {
    let found = *vgic.distributor.iidr;
    let becomes = match side {
        Side::Kvm if (found ^ KVM_IIDR) & !IIDR_REVISION == 0 => found,
        Side::Kvm | Side::QemuKvm => KVM_IIDR,
        Side::QemuTcg => TCG_IIDR,
    };
    (found != becomes).then_some(Loss::Model { found, becomes })
}

fn active_sources(vgic: &Vgic) -> impl Iterator<Item = Loss> {
    let all = (0..vgic.cpus.len()).flat_map(|vcpu| (0..SGIS).map(move |sgi| (vcpu, sgi)));
    all.filter_map(|(vcpu, sgi)| {
        let from = vgic.cpus[vcpu].sgi_active_src[sgi];
        (from != 0).then_some(Loss::ActiveSource { vcpu, sgi, from })
    })
}

/// What KVM has no place for.
fn kvm(vgic: &Vgic) -> Vec<Loss> {
    let mut losses = Vec::new();
    let found = *vgic.distributor.prio_bits;
    if found != KVM_PRIO_BITS {
        losses.push(Loss::ImplementedBits { found, becomes: KVM_PRIO_BITS });
    }
    if *vgic.distributor.ctlr & 2 != 0 {
        losses.push(Loss::EnableGrp1);
    }
    losses.extend(priorities(vgic, KVM_PRIO_BITS));
    losses.extend(edge_ppis(vgic));
    losses
}

/// KVM shows the latch and the line of a level-triggered interrupt as one, and forgets the latch
/// when the interrupt ends.
fn hidden_latches(vgic: &Vgic) -> impl Iterator<Item = Loss> {
    // PPIs are level-triggered there.
    let level_triggered = |interrupt: Interrupt| {
        interrupt.intid() < PRIVATE_INTIDS || !vgic.bit(Bits::Edge, interrupt)
    };
    let hidden = vgic.interrupts().filter(move |&interrupt| {
        level_triggered(interrupt)
            && vgic.bit(Bits::Latch, interrupt)
            && vgic.bit(Bits::Level, interrupt)
    });
    hidden.map(|interrupt| Loss::Latch { interrupt })
}

/// KVM queues an interrupt when it becomes pending, and does not if the distributor is off; it
/// never looks again.
fn never_delivered(vgic: &Vgic) -> Option<Loss> {
    if *vgic.distributor.ctlr & 1 != 0 {
        return None;
    }
    let latched = vgic.interrupts().find(|&interrupt| vgic.bit(Bits::Latch, interrupt));
    let sent = |cpu: &CpuInterface| cpu.sgi_src.iter().any(|&sources| sources != 0);
    (latched.is_some() || vgic.cpus.iter().any(sent)).then_some(Loss::NeverDelivered)
}

/// KVM has no interrupts from 992 on.
fn interrupts(vgic: &Vgic) -> Option<Loss> {
    let found = *vgic.distributor.nr_irqs;
    (found > KVM_NR_IRQS).then_some(Loss::Interrupts { found, becomes: KVM_NR_IRQS })
}

fn priorities(vgic: &Vgic, bits: u8) -> Vec<Loss> {
    let mut losses = Vec::new();
    let mask = implemented(bits);
    for interrupt in vgic.interrupts() {
        let found = vgic.priority(interrupt);
        if found & !mask != 0 {
            losses.push(Loss::Priority { interrupt, found, becomes: found & mask });
        }
    }
    let least = 7 - bits.min(7);
    for (vcpu, cpu) in vgic.cpus.iter().enumerate() {
        let found = *cpu.cc_pmr;
        if found & !mask != 0 {
            losses.push(Loss::PriorityMask { vcpu, found, becomes: found & mask });
        }
        let found = *cpu.cc_bpr;
        if found < least {
            losses.push(Loss::BinaryPoint { vcpu, found, becomes: least });
        }
        let found = *cpu.cc_abpr;
        if found < least + 1 {
            losses.push(Loss::AliasedBinaryPoint { vcpu, found, becomes: least + 1 });
        }
        let found = *cpu.cc_apr;
        let becomes = coarser(found, bits);
        if found != becomes {
            losses.push(Loss::ActivePriorities { vcpu, found, becomes });
        }
    }
    losses
}

fn lines(vgic: &Vgic) -> impl Iterator<Item = Loss> {
    let high = vgic.interrupts().filter(|&interrupt| vgic.bit(Bits::Level, interrupt));
    high.map(|interrupt| {
        // The line of an edge-triggered interrupt does not make it pending.
        let latched = !vgic.bit(Bits::Edge, interrupt);
        Loss::Level { interrupt, latched }
    })
}

/// QEMU makes KVM give an active SPI to its first target.
fn holders(vgic: &Vgic) -> impl Iterator<Item = Loss> {
    vgic.shared().filter_map(|interrupt| {
        let intid = interrupt.intid();
        let holder = vgic.holder(interrupt)?;
        let becomes = vgic.likely_holder(intid);
        (holder != becomes).then_some(Loss::Holder { intid, holder, becomes })
    })
}

/// KVM's PPIs are level-triggered.
fn edge_ppis(vgic: &Vgic) -> impl Iterator<Item = Loss> {
    let edge = vgic.interrupts().filter(|&interrupt| {
        matches!(interrupt, Interrupt::Private { intid, .. } if intid >= SGIS)
            && vgic.bit(Bits::Edge, interrupt)
    });
    edge.map(|interrupt| Loss::Trigger { interrupt, edge: true })
}

/// QEMU has one trigger for the PPIs of all CPUs; that of vCPU 0 it shall be.
fn shared_triggers(vgic: &Vgic) -> impl Iterator<Item = Loss> {
    vgic.interrupts().filter_map(|interrupt| {
        let Interrupt::Private { intid, .. } = interrupt else { return None };
        let edge = vgic.bit(Bits::Edge, interrupt);
        let common = vgic.bit(Bits::Edge, Interrupt::Private { vcpu: 0, intid });
        (edge != common).then_some(Loss::Trigger { interrupt, edge })
    })
}

/// QEMU does not write GICD_IIDR, without which KVM keeps all interrupts in group 0.
fn groups(vgic: &Vgic) -> impl Iterator<Item = Loss> {
    let group1 = vgic.interrupts().filter(|&interrupt| vgic.bit(Bits::Group, interrupt));
    group1.map(|interrupt| Loss::Group { interrupt })
}

/// With one CPU, QEMU's own GIC has its own value in GICD_ITARGETSR, which is RAZ/WI. KVM is given
/// what a guest reads, which is 0.
fn unused_targets(vgic: &Vgic) -> impl Iterator<Item = Loss> {
    let shared = vgic.shared().filter(|_| vgic.cpus.len() == 1);
    shared.filter_map(|interrupt| {
        let intid = interrupt.intid();
        let found = vgic.targets(intid);
        (found != 0).then_some(Loss::Targets { intid, found })
    })
}
