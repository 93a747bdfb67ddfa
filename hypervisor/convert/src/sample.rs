//! States made of any bytes, for tests: each keeps the invariants of the format.

use stasis_state::vgic::PRIVATE_INTIDS;

use crate::limits::{KVM_IIDR, TCG_IIDR};
use crate::vgic::{Bits, Interrupt, SGIS, Vgic, coarser, implemented};

/// What a state is to be made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Shape {
    pub nr_irqs: u16,
    pub nr_cpus: usize,
    pub prio_bits: u8,
}

/// Returns a state whose every register comes from these bytes; where they end, there follow zeros.
pub fn state(shape: Shape, bytes: &[u8]) -> Vgic {
    let mut source = Bytes(bytes.iter());
    let mut vgic = Vgic::new(shape.nr_irqs, shape.nr_cpus);
    let (bits, all_cpus) = (shape.prio_bits, vgic.all_cpus());
    let dist = &mut vgic.distributor;
    *dist.prio_bits = bits;
    *dist.iidr = if source.bit() { KVM_IIDR } else { TCG_IIDR };
    (*dist.dist_base, *dist.cpu_base) = (0x0800_0000, 0x0801_0000);
    *dist.ctlr = u32::from(source.byte() & 3);
    for vcpu in 0..shape.nr_cpus {
        let apr = [(); 4].map(|()| source.word());
        let cpu = &mut vgic.cpus[vcpu];
        *cpu.cc_ctlr = source.word() & 0x21f;
        *cpu.cc_pmr = source.byte() & implemented(bits);
        let least = 7 - bits.min(7);
        *cpu.cc_bpr = (source.byte() & 7).max(least);
        *cpu.cc_abpr = (source.byte() & 7).max(least + 1);
        *cpu.cc_apr = coarser(apr, bits);
    }
    for interrupt in vgic.interrupts() {
        fill(&mut vgic, interrupt, &mut source, all_cpus);
    }
    vgic
}

fn fill(vgic: &mut Vgic, interrupt: Interrupt, source: &mut Bytes<'_>, all_cpus: u8) {
    let (bits, prio_bits) = (source.byte(), *vgic.distributor.prio_bits);
    let sgi = interrupt.is_sgi();
    let bit = |n: u8| bits >> n & 1 != 0;
    vgic.set_bit(Bits::Group, interrupt, bit(0));
    vgic.set_bit(Bits::Enable, interrupt, sgi || bit(1));
    vgic.set_bit(Bits::Latch, interrupt, !sgi && bit(2));
    vgic.set_bit(Bits::Level, interrupt, !sgi && bit(3));
    vgic.set_bit(Bits::Edge, interrupt, sgi || bit(4));
    vgic.set_priority(interrupt, source.byte() & implemented(prio_bits));
    let active = bit(5);
    let nr_cpus = vgic.cpus.len();
    match interrupt {
        Interrupt::Private { vcpu, intid } => {
            vgic.set_bit(Bits::Active, interrupt, active);
            let cpu = &mut vgic.cpus[vcpu];
            if intid < SGIS {
                cpu.sgi_src[intid] = source.byte() & all_cpus;
                let from = source.byte() % nr_cpus as u8;
                cpu.sgi_active_src[intid] = if active { from } else { 0 };
            }
        }
        Interrupt::Shared { intid } => {
            let targets = source.byte() & all_cpus;
            vgic.distributor.spi_targets[intid - PRIVATE_INTIDS] = targets;
            let holder = usize::from(source.byte()) % nr_cpus;
            vgic.set_holder(intid, active.then_some(holder));
        }
    }
}

struct Bytes<'a>(core::slice::Iter<'a, u8>);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        self.0.next().copied().unwrap_or(0)
    }

    fn bit(&mut self) -> bool {
        self.byte() & 1 != 0
    }

    fn word(&mut self) -> u32 {
        u32::from_le_bytes([(); 4].map(|()| self.byte()))
    }
}
