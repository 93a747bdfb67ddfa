//! A state as KVM's attributes, in the order in which they are to be written.

use alloc::vec::Vec;

use super::{
    Attribute, GRP_ADDR, GRP_CPU_REGS, GRP_CTRL, GRP_DIST_REGS, GRP_NR_IRQS, PMR_SHIFT, attr, gicc,
    gicd, word_of, words,
};
use crate::limits::{Side, reduce};
use crate::loss::Loss;
use crate::vgic::{Bits, Interrupt, SGIS, Vgic, apr_to_32};

/// What is to be done with a new device of KVM's, once there are all vCPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// To be written with KVM_SET_DEVICE_ATTR, in this order.
    pub attributes: Vec<Attribute>,
    /// To be raised with KVM_IRQ_LINE after that: no attribute holds them.
    pub lines: Vec<Line>,
    /// What KVM will not give back.
    pub losses: Vec<Loss>,
}

/// The line of a level-triggered interrupt, which is high.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line(pub Interrupt);

impl Line {
    /// Returns the field `irq` of `struct kvm_irq_level`: type [27:24], vCPU [23:16], INTID [15:0].
    pub fn encoded(self) -> u32 {
        /// KVM_ARM_IRQ_TYPE_SPI and KVM_ARM_IRQ_TYPE_PPI.
        const SPI: u32 = 1;
        const PPI: u32 = 2;
        match self.0 {
            Interrupt::Shared { intid } => SPI << 24 | intid as u32,
            Interrupt::Private { vcpu, intid } => PPI << 24 | (vcpu as u32) << 16 | intid as u32,
        }
    }
}

/// Returns the attributes that KVM must be given to have this state.
pub fn write(state: &Vgic) -> Written {
    let mut vgic = state.clone();
    let losses = reduce(&mut vgic, Side::Kvm);
    let mut list = List { vgic: &vgic, latches: state, attributes: Vec::new() };
    list.create();
    list.clear();
    list.configure();
    list.set();
    list.cpu_interfaces();
    let ctlr = *vgic.distributor.ctlr;
    list.gicd(0, gicd::CTLR, ctlr);
    let lines = state.interrupts().filter(|&interrupt| {
        state.bit(Bits::Level, interrupt) && !state.bit(Bits::Edge, interrupt)
    });
    Written { attributes: list.attributes, lines: lines.map(Line).collect(), losses }
}

struct List<'a> {
    /// As KVM will have it.
    vgic: &'a Vgic,
    /// Where the lines have not yet become part of the latches: they are raised by themselves.
    latches: &'a Vgic,
    attributes: Vec<Attribute>,
}

impl List<'_> {
    fn create(&mut self) {
        let dist = &self.vgic.distributor;
        // KVM counts the four special INTIDs too.
        let nr_irqs = u64::from(*dist.nr_irqs).next_multiple_of(32);
        let (dist_base, cpu_base) = (*dist.dist_base, *dist.cpu_base);
        self.push(GRP_NR_IRQS, 0, nr_irqs);
        self.push(GRP_ADDR, 0, dist_base);
        self.push(GRP_ADDR, 1, cpu_base);
        self.push(GRP_CTRL, 0, 0);
        // This comes before IGROUPR: KVM lets itself be given groups by those only who know IIDR.
        let iidr = *dist.iidr;
        self.gicd(0, gicd::IIDR, iidr);
        self.gicd(0, gicd::CTLR, 0);
    }

    /// The other registers only set bits. A new device has none, but one that is used again does.
    fn clear(&mut self) {
        for base in [gicd::ICENABLER, gicd::ICPENDR, gicd::ICACTIVER] {
            self.array(base, 1, |_, _, _| u32::MAX);
        }
        for vcpu in 0..self.vgic.cpus.len() {
            for first in (0..SGIS).step_by(4) {
                self.gicd(vcpu, word_of(gicd::CPENDSGIR, 8, first), u32::MAX);
            }
        }
    }

    /// What decides on where and how an interrupt becomes pending.
    fn configure(&mut self) {
        self.array(gicd::IGROUPR, 1, |vgic, vcpu, first| vgic.word(Bits::Group, vcpu, first / 32));
        self.array(gicd::ICFGR, 2, |vgic, vcpu, first| {
            let edges = vgic.word(Bits::Edge, vcpu, first / 32) >> (first % 32);
            (0..16).fold(0, |word, i| word | (edges >> i & 1) << (2 * i + 1))
        });
        self.array(gicd::IPRIORITYR, 8, |vgic, vcpu, first| {
            bytes(|i| match first + i < vgic.nr_irqs() {
                true => vgic.priority(interrupt(vcpu, first + i)),
                false => 0,
            })
        });
        self.array(gicd::ITARGETSR, 8, |vgic, vcpu, first| {
            bytes(|i| match first + i < vgic.nr_irqs() {
                true if first >= 32 => vgic.targets(first + i),
                true => 1 << vcpu,
                false => 0,
            })
        });
    }

    fn set(&mut self) {
        self.array(gicd::ISENABLER, 1, |vgic, vcpu, first| {
            vgic.word(Bits::Enable, vcpu, first / 32)
        });
        let latches = self.latches;
        // SGIs have no latch; a bit set here would be an SGI from the vCPU itself.
        self.array(gicd::ISPENDR, 1, |_, vcpu, first| latches.word(Bits::Latch, vcpu, first / 32));
        let vgic = self.vgic;
        for (vcpu, cpu) in vgic.cpus.iter().enumerate() {
            for first in (0..SGIS).step_by(4) {
                let sources = bytes(|i| cpu.sgi_src[first + i]);
                self.gicd(vcpu, word_of(gicd::SPENDSGIR, 8, first), sources);
            }
        }
        self.array(gicd::ISACTIVER, 1, |vgic, vcpu, first| {
            vgic.word(Bits::Active, vcpu, first / 32)
        });
    }

    fn cpu_interfaces(&mut self) {
        let vgic = self.vgic;
        for (vcpu, cpu) in vgic.cpus.iter().enumerate() {
            let registers = [
                (gicc::PMR, u32::from(*cpu.cc_pmr) >> PMR_SHIFT),
                (gicc::BPR, (*cpu.cc_bpr).into()),
                (gicc::ABPR, (*cpu.cc_abpr).into()),
                (gicc::APR, apr_to_32(*cpu.cc_apr)),
                (gicc::CTLR, *cpu.cc_ctlr),
            ];
            for (offset, value) in registers {
                self.push(GRP_CPU_REGS, attr(vcpu, offset), value.into());
            }
        }
    }

    /// All words of a register array; `value` is told the vCPU and the first INTID.
    fn array(&mut self, base: u64, bits: usize, value: impl Fn(&Vgic, usize, usize) -> u32) {
        let vgic = self.vgic;
        for (vcpu, first) in words(vgic.nr_irqs(), vgic.cpus.len(), bits) {
            self.gicd(vcpu, word_of(base, bits, first), value(vgic, vcpu, first));
        }
    }

    fn gicd(&mut self, vcpu: usize, offset: u64, value: u32) {
        self.push(GRP_DIST_REGS, attr(vcpu, offset), value.into());
    }

    fn push(&mut self, group: u32, attr: u64, value: u64) {
        self.attributes.push(Attribute { group, attr, value });
    }
}

fn interrupt(vcpu: usize, intid: usize) -> Interrupt {
    if intid < 32 { Interrupt::Private { vcpu, intid } } else { Interrupt::Shared { intid } }
}

fn bytes(byte: impl Fn(usize) -> u8) -> u32 {
    u32::from_le_bytes([byte(0), byte(1), byte(2), byte(3)])
}
