//! A state as KVM's attributes, in the order in which they must be written.

use alloc::vec::Vec;

use super::{
    Attribute, GRP_ADDR, GRP_CPU_REGS, GRP_CTRL, GRP_DIST_REGS, GRP_NR_IRQS, PMR_SHIFT, attr, gicc,
    gicd, word_of, words,
};
use crate::limits::{Side, reduce};
use crate::loss::Loss;
use crate::vgic::{Bits, Interrupt, SGIS, Vgic, apr_to_32};

/// What must be done with a new device of KVM's, once there are all vCPUs and before any of them
/// runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Written with KVM_SET_DEVICE_ATTR, in this order.
    pub attributes: Vec<Attribute>,
    /// Raised with KVM_IRQ_LINE after that: no attribute holds them.
    pub lines: Vec<Line>,
    /// What KVM will not give back, or not carry out.
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
///
/// KVM looks whom an interrupt is for when it becomes pending, enabled or active, and if the
/// distributor is off by then, nobody ever hears of it. So the order is: what decides, GICD_CTLR,
/// what is active, what is pending.
pub fn write(state: &Vgic) -> Written {
    let mut vgic = state.clone();
    let losses = reduce(&mut vgic, Side::Kvm);
    let mut list = List { vgic: &vgic, attributes: Vec::new() };
    list.create();
    list.configure();
    list.cpu_interfaces();
    list.gicd(0, gicd::CTLR, *vgic.distributor.ctlr);
    list.array(gicd::ISENABLER, 1, |vgic, vcpu, first| vgic.word(Bits::Enable, vcpu, first / 32));
    list.activate();
    list.pend();
    // KVM drives the lines of timers itself: that of the virtual one it would take from nobody
    // else, and that of the physical one Linux 6.1 would leave high for ever.
    let raised = |interrupt: &Interrupt| {
        vgic.bit(Bits::Level, *interrupt)
            && !vgic.bit(Bits::Edge, *interrupt)
            && !interrupt.is_of_timer()
    };
    let lines = vgic.interrupts().filter(raised).map(Line).collect();
    Written { attributes: list.attributes, lines, losses }
}

struct List<'a> {
    /// The state as KVM will have it.
    vgic: &'a Vgic,
    attributes: Vec<Attribute>,
}

impl List<'_> {
    fn create(&mut self) {
        let dist = &self.vgic.distributor;
        let (nr_irqs, dist_base, cpu_base) = (*dist.nr_irqs, *dist.dist_base, *dist.cpu_base);
        // The number comes before everything else: KVM fixes it at the first access to a register.
        self.push(GRP_NR_IRQS, 0, nr_irqs.into());
        self.push(GRP_ADDR, 0, dist_base);
        self.push(GRP_ADDR, 1, cpu_base);
        self.push(GRP_CTRL, 0, 0);
        // This comes before IGROUPR: KVM lets itself be given groups by those only who know IIDR.
        let iidr = *dist.iidr;
        self.gicd(0, gicd::IIDR, iidr);
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
                true if first >= 32 => vgic.shown_targets(first + i),
                true => 1 << vcpu,
                false => 0,
            })
        });
    }

    /// Makes active what is active. KVM gives an SPI to the first target that it has at this
    /// moment, so each has its holder for a target until then.
    fn activate(&mut self) {
        let vgic = self.vgic;
        let held = |intid| vgic.holder(interrupt(0, intid)).map(|holder| 1 << holder);
        let words: Vec<_> = words(vgic.nr_irqs(), 1, 8)
            .map(|(_, first)| first)
            .filter(|&first| first >= 32 && (first..first + 4).any(|i| held(i).is_some()))
            .collect();
        let targets = |intid| vgic.shown_targets(intid);
        for &first in &words {
            let holders = bytes(|i| held(first + i).unwrap_or(targets(first + i)));
            self.gicd(0, word_of(gicd::ITARGETSR, 8, first), holders);
        }
        self.array(gicd::ISACTIVER, 1, |vgic, vcpu, first| {
            vgic.word(Bits::Active, vcpu, first / 32)
        });
        for &first in &words {
            self.gicd(0, word_of(gicd::ITARGETSR, 8, first), bytes(|i| targets(first + i)));
        }
    }

    /// Makes pending what is latched, and SGIs.
    fn pend(&mut self) {
        // SGIs have no latch; a bit set here would be an SGI from the vCPU itself.
        self.array(gicd::ISPENDR, 1, |vgic, vcpu, first| vgic.word(Bits::Latch, vcpu, first / 32));
        let vgic = self.vgic;
        for (vcpu, cpu) in vgic.cpus.iter().enumerate() {
            for first in (0..SGIS).step_by(4) {
                let sources = bytes(|i| cpu.sgi_src[first + i]);
                self.gicd(vcpu, word_of(gicd::SPENDSGIR, 8, first), sources);
            }
        }
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
