//! A state as the section.

use alloc::vec::Vec;

use zerocopy::FromZeros;

use super::Backend;
use super::section::{ALL_CPUS, ArmGic, CPUS, IDLE, INTIDS, IrqState, NO_INTERRUPT};
use crate::limits::{Side, reduce};
use crate::loss::Loss;
use crate::vgic::{Bits, Interrupt, SGIS, Vgic, apr_to_32, levels};

/// GICC_CTLR.CBPR: the binary point of group 0 serves both groups.
const CBPR: u32 = 1 << 4;

/// A state for QEMU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The section.
    pub section: ArmGic,
    /// What QEMU will not give back.
    pub losses: Vec<Loss>,
}

/// Returns what QEMU must be given to have this state in a GIC of this back end.
pub fn encode(state: &Vgic, backend: Backend) -> Encoded {
    let mut vgic = state.clone();
    let side = match backend {
        Backend::Tcg => Side::QemuTcg,
        Backend::Kvm => Side::QemuKvm,
    };
    let losses = reduce(&mut vgic, side);
    let mut gic = ArmGic::new_zeroed();
    gic.ctlr = (*vgic.distributor.ctlr).into();
    interrupts(&mut gic, &vgic, backend);
    cpu_interfaces(&mut gic, &vgic, backend);
    // QEMU derives these from the rest, but not before something happens.
    gic.running_priority = [IDLE.into(); CPUS];
    gic.current_pending = [NO_INTERRUPT.into(); CPUS];
    if backend == Backend::Tcg {
        for cpu in 0..vgic.cpus.len() {
            gic.running_priority[cpu] = running_priority(&gic, cpu).into();
            gic.current_pending[cpu] = current_pending(&gic, cpu, vgic.nr_irqs()).into();
        }
    }
    Encoded { section: gic, losses }
}

fn interrupts(gic: &mut ArmGic, vgic: &Vgic, backend: Backend) {
    for interrupt in vgic.interrupts() {
        let intid = interrupt.intid();
        let (mask, latch) = match interrupt {
            Interrupt::Private { vcpu, .. } => (1 << vcpu, 1 << vcpu),
            Interrupt::Shared { .. } => (ALL_CPUS, latch_mask(vgic, intid)),
        };
        let bit = |bits, mask| if vgic.bit(bits, interrupt) { mask } else { 0u8 };
        let active = match (interrupt, backend) {
            // Here QEMU has the holder, who may be none of the targets.
            (Interrupt::Shared { .. }, Backend::Tcg) => {
                vgic.holder(interrupt).map_or(0, |vcpu| 1 << vcpu)
            }
            _ => bit(Bits::Active, mask),
        };
        let state = &mut gic.irq_state[intid];
        let IrqState { enabled, pending, active: holders, level, edge_trigger, group, .. } = state;
        *enabled |= if interrupt.is_sgi() { ALL_CPUS } else { bit(Bits::Enable, mask) };
        *pending |= bit(Bits::Latch, latch);
        *holders |= active;
        *level |= bit(Bits::Level, mask);
        *group |= bit(Bits::Group, mask);
        *edge_trigger |= bit(Bits::Edge, 1);
        match interrupt {
            Interrupt::Private { vcpu, .. } => {
                gic.priority1[intid][vcpu] = vgic.priority(interrupt);
            }
            Interrupt::Shared { .. } => {
                gic.priority2[intid - 32] = vgic.priority(interrupt);
                gic.irq_target[intid] = vgic.shown_targets(intid);
            }
        }
    }
    if vgic.cpus.len() == 1 && backend == Backend::Tcg {
        gic.irq_target = [1; INTIDS];
    }
    for (vcpu, cpu) in vgic.cpus.iter().enumerate() {
        for sgi in 0..SGIS {
            let sources = cpu.sgi_src[sgi];
            gic.sgi_pending[sgi][vcpu] = sources;
            if sources != 0 {
                gic.irq_state[sgi].pending |= 1 << vcpu;
            }
        }
    }
}

/// QEMU latches an SPI for its targets. One without is pending all the same, until it gets some.
fn latch_mask(vgic: &Vgic, intid: usize) -> u8 {
    match vgic.targets(intid) {
        _ if vgic.cpus.len() == 1 => 1,
        0 => ALL_CPUS,
        targets => targets,
    }
}

fn cpu_interfaces(gic: &mut ArmGic, vgic: &Vgic, backend: Backend) {
    for (vcpu, cpu) in vgic.cpus.iter().enumerate() {
        gic.cpu_ctlr[vcpu] = (*cpu.cc_ctlr).into();
        gic.bpr[vcpu] = *cpu.cc_bpr;
        gic.abpr[vcpu] = *cpu.cc_abpr;
        match backend {
            Backend::Tcg => {
                gic.priority_mask[vcpu] = u16::from(*cpu.cc_pmr).into();
                for (n, group1) in group1_priorities(vgic, vcpu).into_iter().enumerate() {
                    gic.nsapr[n][vcpu] = (cpu.cc_apr[n] & group1).into();
                    gic.apr[n][vcpu] = (cpu.cc_apr[n] & !group1).into();
                }
            }
            Backend::Kvm => {
                gic.priority_mask[vcpu] = u16::from(*cpu.cc_pmr >> 3).into();
                gic.apr[0][vcpu] = apr_to_32(*cpu.cc_apr).into();
            }
        }
    }
}

/// The priorities of GICC_APR that are those of active interrupts of group 1, and of none of
/// group 0.
///
/// QEMU has them apart from those of group 0, and the end of an interrupt drops the highest of its
/// own group. One in the wrong group would stay for ever, and the CPU would hear of nothing below
/// it again.
fn group1_priorities(vgic: &Vgic, vcpu: usize) -> [u32; 4] {
    let mut groups = [[0u32; 4]; 2];
    for interrupt in vgic.interrupts().filter(|&i| vgic.holder(i) == Some(vcpu)) {
        let group1 = vgic.bit(Bits::Group, interrupt);
        let level = usize::from(group_priority(vgic, vcpu, interrupt, group1) >> 1);
        groups[usize::from(group1)][level / 32] |= 1 << (level % 32);
    }
    let [group0, group1] = groups;
    [0, 1, 2, 3].map(|n| group1[n] & !group0[n])
}

/// The part of a priority that decides on preemption, IHI 0048B.b 3.3.3.
fn group_priority(vgic: &Vgic, vcpu: usize, interrupt: Interrupt, group1: bool) -> u8 {
    let cpu = &vgic.cpus[vcpu];
    let subpriority_bits = match group1 && *cpu.cc_ctlr & CBPR == 0 {
        // GICC_ABPR counts from one more.
        true => u32::from(*cpu.cc_abpr),
        false => u32::from(*cpu.cc_bpr) + 1,
    };
    (u32::from(vgic.priority(interrupt)) >> subpriority_bits << subpriority_bits) as u8
}

fn running_priority(gic: &ArmGic, cpu: usize) -> u16 {
    levels(gic.active_priorities(cpu)).next().map_or(IDLE, |level| (level << 1) as u16)
}

/// What the GIC signals to a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Irq,
    Fiq,
}

/// GICC_CTLR.FIQEn: interrupts of group 0 are FIQs.
const FIQ_EN: u32 = 1 << 3;

/// Returns what QEMU's GIC signals to a CPU. It does not tell the CPU of it after a load: the CPU
/// has its lines in a section of its own.
pub(super) fn signal(gic: &ArmGic, cpu: usize) -> Option<Signal> {
    let pending = gic.current_pending[cpu].get();
    if pending == NO_INTERRUPT {
        return None;
    }
    let intid = usize::from(pending);
    if u16::from(gic.priority(intid, cpu)) >= gic.running_priority[cpu].get() {
        return None;
    }
    let group0 = gic.irq_state[intid].group & 1 << cpu == 0;
    let fiq = group0 && gic.cpu_ctlr[cpu].get() & FIQ_EN != 0;
    Some(if fiq { Signal::Fiq } else { Signal::Irq })
}

/// The interrupt of the highest priority that is enabled, pending and not active, if GICC_PMR lets
/// it pass.
fn current_pending(gic: &ArmGic, cpu: usize, nr_irqs: usize) -> u16 {
    let groups_enabled = gic.ctlr.get() & 3 != 0 && gic.cpu_ctlr[cpu].get() & 3 != 0;
    let mask = 1 << cpu;
    let eligible = |intid: &usize| {
        let IrqState { enabled, pending, active, level, edge_trigger, .. } = gic.irq_state[*intid];
        let lines = if edge_trigger == 0 { level } else { 0 };
        enabled & (pending | lines) & !active & mask != 0
            && (*intid < 32 || gic.irq_target[*intid] & mask != 0)
    };
    let best = (0..nr_irqs)
        .filter(|_| groups_enabled)
        .filter(eligible)
        .min_by_key(|&intid| gic.priority(intid, cpu))
        .filter(|&intid| u16::from(gic.priority(intid, cpu)) < gic.priority_mask[cpu].get());
    best.map_or(NO_INTERRUPT, |intid| intid as u16)
}
