//! A state from KVM's attributes, as KVM gives them.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use stasis_state::vgic::{CpuInterface, MAX_VCPUS};

use super::{
    Attribute, GRP_ADDR, GRP_CPU_REGS, GRP_DIST_REGS, GRP_NR_IRQS, PMR_SHIFT, attr, gicc, gicd,
    word_of, words,
};
use crate::error::Error;
use crate::limits::{KVM_NR_IRQS, KVM_PRIO_BITS};
use crate::unknown::{self, Unknown};
use crate::vgic::{Bits, Interrupt, SGIS, Vgic, apr_to_128, implemented};

/// What KVM said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The state.
    pub vgic: Vgic,
    /// What KVM did not say, and what was assumed instead.
    pub unknowns: Vec<Unknown>,
}

/// Reads the attributes that [`super::readable`] lists, in any order. Others are not looked at.
/// `high` has the interrupts whose lines are high, which KVM does not say: those of the devices,
/// and of the timers.
pub fn read(attributes: &[Attribute], high: &[Interrupt]) -> Result<Read, Error> {
    let list = List::new(attributes)?;
    let mut vgic = list.machine()?;
    list.bits(&mut vgic)?;
    list.bytes(&mut vgic)?;
    for (vcpu, cpu) in vgic.cpus.iter_mut().enumerate() {
        list.cpu_interface(vcpu, cpu)?;
    }
    for &interrupt in high {
        vgic.set_bit(Bits::Level, interrupt, true);
        // KVM shows line and latch of a level-triggered interrupt as one.
        let latch = vgic.bit(Bits::Latch, interrupt) && vgic.bit(Bits::Edge, interrupt);
        vgic.set_bit(Bits::Latch, interrupt, latch);
    }
    let mut unknowns: Vec<_> = unknown::sources(&vgic).collect();
    for interrupt in vgic.shared() {
        if vgic.bit(Bits::Active, interrupt) {
            let intid = interrupt.intid();
            let assumed = vgic.likely_holder(intid);
            vgic.set_holder(intid, Some(assumed));
            unknowns.push(Unknown::Holder { intid, assumed });
        }
    }
    Ok(Read { vgic, unknowns })
}

struct List {
    values: BTreeMap<(u32, u64), u64>,
    nr_cpus: usize,
}

impl List {
    fn new(attributes: &[Attribute]) -> Result<Self, Error> {
        let mut values = BTreeMap::new();
        let mut nr_cpus = 1;
        for &Attribute { group, attr, value } in attributes {
            if values.insert((group, attr), value).is_some() {
                return Err(Error::AttributeTwice { group, attr });
            }
            if !matches!(group, GRP_DIST_REGS | GRP_CPU_REGS) {
                continue;
            }
            let vcpu = attr >> 32;
            if vcpu >= MAX_VCPUS as u64 {
                return Err(Error::AttributeVcpu { vcpu });
            }
            nr_cpus = nr_cpus.max(vcpu as usize + 1);
            if value > u32::MAX.into() {
                let why = "a register has 32 bits";
                return Err(Error::AttributeValue { group, attr, value, why });
            }
        }
        Ok(Self { values, nr_cpus })
    }

    fn machine(&self) -> Result<Vgic, Error> {
        let value = self.get(GRP_NR_IRQS, 0)?;
        if !(64..=KVM_NR_IRQS.into()).contains(&value) || !value.is_multiple_of(32) {
            let why = "it is 64 to 992 and a multiple of 32";
            return Err(Error::AttributeValue { group: GRP_NR_IRQS, attr: 0, value, why });
        }
        let mut vgic = Vgic::new(value as u16, self.nr_cpus);
        let dist = &mut vgic.distributor;
        *dist.prio_bits = KVM_PRIO_BITS;
        *dist.dist_base = self.get(GRP_ADDR, 0)?;
        *dist.cpu_base = self.get(GRP_ADDR, 1)?;
        *dist.iidr = self.gicd(0, gicd::IIDR)?;
        *dist.ctlr = self.gicd(0, gicd::CTLR)? & 1;
        Ok(vgic)
    }

    fn bits(&self, vgic: &mut Vgic) -> Result<(), Error> {
        let registers = [
            (Bits::Group, gicd::IGROUPR),
            (Bits::Enable, gicd::ISENABLER),
            (Bits::Latch, gicd::ISPENDR),
            (Bits::Active, gicd::ISACTIVER),
        ];
        for (bits, base) in registers {
            for (vcpu, first) in words(vgic.nr_irqs(), self.nr_cpus, 1) {
                let word = self.gicd(vcpu, word_of(base, 1, first))?;
                let fixed = match bits {
                    Bits::Enable if first == 0 => word | 0xffff,
                    // An SGI's sources tell all.
                    Bits::Latch if first == 0 => word & !0xffff,
                    _ => word,
                };
                *vgic.word_mut(bits, vcpu, first / 32) = fixed & existing(vgic, first);
            }
        }
        for (vcpu, first) in words(vgic.nr_irqs(), self.nr_cpus, 2) {
            let word = self.gicd(vcpu, word_of(gicd::ICFGR, 2, first))?;
            let edges = (0..16).fold(0, |edges, i| edges | (word >> (2 * i + 1) & 1) << i);
            let edges = if first == 0 { 0xffff } else { edges };
            let (shift, mask) = (first % 32, existing(vgic, first / 32 * 32));
            let bits = vgic.word_mut(Bits::Edge, vcpu, first / 32);
            *bits = (*bits & !(0xffff << shift) | edges << shift) & mask;
        }
        Ok(())
    }

    fn bytes(&self, vgic: &mut Vgic) -> Result<(), Error> {
        for (vcpu, first) in words(vgic.nr_irqs(), self.nr_cpus, 8) {
            let word = self.gicd(vcpu, word_of(gicd::IPRIORITYR, 8, first))?;
            for (intid, byte) in (first..vgic.nr_irqs()).zip(word.to_le_bytes()) {
                let interrupt = match intid {
                    0..32 => Interrupt::Private { vcpu, intid },
                    _ => Interrupt::Shared { intid },
                };
                vgic.set_priority(interrupt, byte & implemented(KVM_PRIO_BITS));
            }
        }
        let all_cpus = vgic.all_cpus();
        for first in (32..vgic.nr_irqs()).step_by(4) {
            let word = self.gicd(0, word_of(gicd::ITARGETSR, 8, first))?;
            for (intid, byte) in (first..vgic.nr_irqs()).zip(word.to_le_bytes()) {
                // With one vCPU, each SPI is for it, whatever the guest has written.
                let targets = if all_cpus == 1 { 1 } else { byte & all_cpus };
                vgic.distributor.spi_targets[intid - 32] = targets;
            }
        }
        for (vcpu, cpu) in vgic.cpus.iter_mut().enumerate() {
            for first in (0..SGIS).step_by(4) {
                let word = self.gicd(vcpu, word_of(gicd::SPENDSGIR, 8, first))?;
                for (sgi, byte) in (first..).zip(word.to_le_bytes()) {
                    cpu.sgi_src[sgi] = byte & all_cpus;
                }
            }
        }
        Ok(())
    }

    fn cpu_interface(&self, vcpu: usize, cpu: &mut CpuInterface) -> Result<(), Error> {
        let register = |offset, limit: u32, why| {
            let (group, attr) = (GRP_CPU_REGS, attr(vcpu, offset));
            let value = self.get(group, attr)?;
            if value > limit.into() {
                return Err(Error::AttributeValue { group, attr, value, why });
            }
            Ok(value as u32)
        };
        *cpu.cc_ctlr = register(gicc::CTLR, u32::MAX, "")? & 0x21f;
        let why = "KVM gives the upper five bits of the priority";
        *cpu.cc_pmr = (register(gicc::PMR, 0x1f, why)? << PMR_SHIFT) as u8;
        let why = "it has three bits";
        // GICH_VMCR raises what is less (as it is until a guest has run).
        *cpu.cc_bpr = register(gicc::BPR, 7, why)?.max(2) as u8;
        *cpu.cc_abpr = register(gicc::ABPR, 7, why)?.max(3) as u8;
        *cpu.cc_apr = apr_to_128(register(gicc::APR, u32::MAX, "")?);
        Ok(())
    }

    fn gicd(&self, vcpu: usize, offset: u64) -> Result<u32, Error> {
        Ok(self.get(GRP_DIST_REGS, attr(vcpu, offset))? as u32)
    }

    fn get(&self, group: u32, attr: u64) -> Result<u64, Error> {
        self.values.get(&(group, attr)).copied().ok_or(Error::AttributeMissing { group, attr })
    }
}

/// The bits of a word that stand for INTIDs that there are.
fn existing(vgic: &Vgic, first: usize) -> u32 {
    match vgic.nr_irqs().saturating_sub(first) {
        count @ 0..32 => (1 << count) - 1,
        _ => u32::MAX,
    }
}
