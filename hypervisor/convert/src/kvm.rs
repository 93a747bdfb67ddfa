//! What KVM keeps of a guest: the attributes of its GICv2 device (Linux,
//! Documentation/virt/kvm/devices/arm-vgic.rst), and the registers of its vCPUs.
//!
//! - [`Attribute`] is what KVM_SET_DEVICE_ATTR and KVM_GET_DEVICE_ATTR take: group, attr, value.
//! - [`write()`]: a state as what is to be written, in the order that KVM wants.
//! - [`registers`]: what KVM_SET_ONE_REG and KVM_GET_ONE_REG take, of each vCPU.
//! - [`readable`] lists what is to be read, [`read()`] takes it as KVM gives it.

mod read;
pub mod registers;
mod write;

use alloc::vec::Vec;
use core::fmt;

pub use read::{Read, read};
pub use write::{Line, Written, write};

/// KVM_DEV_ARM_VGIC_GRP_ADDR: attr 0 is the distributor's address, attr 1 that of the CPU
/// interface.
pub const GRP_ADDR: u32 = 0;
/// KVM_DEV_ARM_VGIC_GRP_DIST_REGS: `vcpu << 32 | offset`.
pub const GRP_DIST_REGS: u32 = 1;
/// KVM_DEV_ARM_VGIC_GRP_CPU_REGS: `vcpu << 32 | offset`.
pub const GRP_CPU_REGS: u32 = 2;
/// KVM_DEV_ARM_VGIC_GRP_NR_IRQS.
pub const GRP_NR_IRQS: u32 = 3;
/// KVM_DEV_ARM_VGIC_GRP_CTRL: attr 0 initialises the device.
pub const GRP_CTRL: u32 = 4;

/// An attribute and its value, which has 64 bits in groups 0 and 4, and 32 in the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Attribute {
    pub group: u32,
    pub attr: u64,
    pub value: u64,
}

/// As the command prints it.
impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, attr, value } = self;
        write!(f, "{group} {attr:#012x} {value:#010x}")
    }
}

/// The distributor's registers, IHI 0048B.b table 4-1.
mod gicd {
    pub const CTLR: u64 = 0x000;
    pub const IIDR: u64 = 0x008;
    pub const IGROUPR: u64 = 0x080;
    pub const ISENABLER: u64 = 0x100;
    pub const ISPENDR: u64 = 0x200;
    pub const ISACTIVER: u64 = 0x300;
    pub const IPRIORITYR: u64 = 0x400;
    pub const ITARGETSR: u64 = 0x800;
    pub const ICFGR: u64 = 0xc00;
    pub const SPENDSGIR: u64 = 0xf20;
}

/// The CPU interface's registers, IHI 0048B.b table 4-2.
mod gicc {
    pub const CTLR: u64 = 0x00;
    pub const PMR: u64 = 0x04;
    pub const BPR: u64 = 0x08;
    pub const ABPR: u64 = 0x1c;
    /// Four of them; all 32 priorities are in the first.
    pub const APR: u64 = 0xd0;
}

/// KVM has GICH_VMCR.VMPriMask in GICC_PMR: the priority without its lower three bits.
const PMR_SHIFT: u32 = 3;

/// The attr of a register of a vCPU's.
const fn attr(vcpu: usize, offset: u64) -> u64 {
    (vcpu as u64) << 32 | offset
}

/// A register array with `bits` bits for each interrupt: offset of the word of an INTID.
const fn word_of(base: u64, bits: usize, intid: usize) -> u64 {
    base + (intid * bits / 32 * 4) as u64
}

/// The words of a register array as `(vCPU, first INTID)`: those of private interrupts for each
/// vCPU.
fn words(nr_irqs: usize, nr_cpus: usize, bits: usize) -> impl Iterator<Item = (usize, usize)> {
    let step = 32 / bits;
    (0..nr_irqs).step_by(step).flat_map(move |first| {
        let vcpus = if first < 32 { nr_cpus } else { 1 };
        (0..vcpus).map(move |vcpu| (vcpu, first))
    })
}

/// Returns what must be read from KVM, as `(group, attr)`; the order does not matter.
pub fn readable(nr_irqs: u16, nr_cpus: usize) -> Vec<(u32, u64)> {
    let mut list = alloc::vec![(GRP_NR_IRQS, 0), (GRP_ADDR, 0), (GRP_ADDR, 1)];
    list.extend([gicd::IIDR, gicd::CTLR].map(|offset| (GRP_DIST_REGS, attr(0, offset))));
    let nr_irqs = usize::from(nr_irqs);
    let arrays = [
        (gicd::IGROUPR, 1),
        (gicd::ISENABLER, 1),
        (gicd::ISPENDR, 1),
        (gicd::ISACTIVER, 1),
        (gicd::ICFGR, 2),
        (gicd::IPRIORITYR, 8),
        (gicd::ITARGETSR, 8),
    ];
    for (base, bits) in arrays {
        let words = words(nr_irqs, nr_cpus, bits);
        // ITARGETSR of private interrupts says what is known.
        let words = words.filter(|&(_, first)| base != gicd::ITARGETSR || first >= 32);
        list.extend(
            words.map(|(vcpu, first)| (GRP_DIST_REGS, attr(vcpu, word_of(base, bits, first)))),
        );
    }
    for vcpu in 0..nr_cpus {
        for first in (0..16).step_by(4) {
            list.push((GRP_DIST_REGS, attr(vcpu, word_of(gicd::SPENDSGIR, 8, first))));
        }
        for offset in [gicc::CTLR, gicc::PMR, gicc::BPR, gicc::ABPR, gicc::APR] {
            list.push((GRP_CPU_REGS, attr(vcpu, offset)));
        }
    }
    list
}
