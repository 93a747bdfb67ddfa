//! What KVM does with the attributes, as Linux 6.1 and 6.12 were seen to do it
//! (virt/kvm/arm64/vgic).
//!
//! What a register says when it is read is one thing, and what the guest will get is another: KVM
//! puts an interrupt into the queue of a vCPU when a register is written that may make it pending,
//! enabled or active, and what is in no queue never reaches a list register. [`Kernel::queued`]
//! tells the queue.

use crate::kvm::{Attribute, Line};
use crate::vgic::Interrupt;

/// An interrupt of KVM's (`struct vgic_irq`). SGIs and PPIs are there for each vCPU.
#[derive(Clone, Debug, Default)]
struct Irq {
    group: bool,
    enabled: bool,
    latch: bool,
    line: bool,
    active: bool,
    edge: bool,
    priority: u8,
    targets: u8,
    source: u8,
    /// The vCPU to which a new interrupt goes: `target_vcpu`.
    target: usize,
    /// The vCPU in whose queue the interrupt is: `vcpu`.
    queue: Option<usize>,
}

impl Irq {
    fn is_pending(&self) -> bool {
        self.latch || self.source != 0 || !self.edge && self.line
    }

    /// Puts the interrupt into the queue of a vCPU if it belongs there: `vgic_queue_irq_unlock`. It
    /// stays where it is once it is in one.
    fn enqueue(&mut self, distributor_is_on: bool) {
        let delivered = self.enabled && self.is_pending() && distributor_is_on;
        if self.queue.is_none() && (self.active || delivered) {
            self.queue = Some(self.target);
        }
    }
}

#[derive(Clone, Debug, Default)]
struct CpuInterface {
    ctlr: u32,
    vm_pri_mask: u32,
    bpr: u32,
    abpr: u32,
    apr: u32,
}

/// KVM's device.
pub struct Kernel {
    nr_cpus: usize,
    nr_irqs: usize,
    bases: [u64; 2],
    initialised: bool,
    iidr_revision: u32,
    groups_writable: bool,
    enabled: bool,
    private: Vec<Vec<Irq>>,
    shared: Vec<Irq>,
    cpus: Vec<CpuInterface>,
}

impl Kernel {
    /// Returns a new device of a machine with `nr_cpus` vCPUs.
    pub fn new(nr_cpus: usize) -> Self {
        let sgi = Irq { enabled: true, edge: true, ..Irq::default() };
        let mut bank = vec![sgi; 16];
        bank.resize(32, Irq::default());
        Self {
            nr_cpus,
            nr_irqs: 0,
            bases: [0; 2],
            initialised: false,
            iidr_revision: 3,
            groups_writable: false,
            enabled: false,
            private: (0..nr_cpus).map(|target| banked(&bank, target)).collect(),
            shared: Vec::new(),
            cpus: vec![CpuInterface::default(); nr_cpus],
        }
    }

    fn irq(&mut self, vcpu: usize, intid: usize) -> &mut Irq {
        match intid.checked_sub(32) {
            None => &mut self.private[vcpu][intid],
            Some(spi) => &mut self.shared[spi],
        }
    }

    /// Returns the vCPU that will get the interrupt, or has it active.
    pub fn queued(&mut self, interrupt: Interrupt) -> Option<usize> {
        let (vcpu, intid) = match interrupt {
            Interrupt::Private { vcpu, intid } => (vcpu, intid),
            Interrupt::Shared { intid } => (0, intid),
        };
        self.irq(vcpu, intid).queue
    }

    fn iidr(&self) -> u32 {
        0x4b00_043b | self.iidr_revision << 12
    }

    /// Sets an attribute, as KVM_SET_DEVICE_ATTR does. Panics where KVM refuses: that is a bug of
    /// the caller.
    pub fn set(&mut self, attribute: Attribute) {
        let Attribute { group, attr, value } = attribute;
        let (vcpu, offset) = ((attr >> 32) as usize, (attr & 0xffff_ffff) as usize);
        match (group, offset) {
            (3, 0) => {
                let possible = (64..=992).contains(&value) && value.is_multiple_of(32);
                assert!(!self.initialised && possible, "EINVAL: {value}");
                self.nr_irqs = value as usize;
                self.shared = vec![Irq::default(); self.nr_irqs - 32];
            }
            (0, n @ (0 | 1)) => self.bases[n] = value,
            (4, 0) => self.initialised = true,
            (1, _) => self.set_gicd(vcpu, offset, value.try_into().expect("32 bits")),
            (2, _) => self.set_gicc(vcpu, offset, value.try_into().expect("32 bits")),
            _ => panic!("ENXIO: {attribute:?}"),
        }
    }

    fn set_gicd(&mut self, vcpu: usize, offset: usize, value: u32) {
        assert!(self.initialised && vcpu < self.nr_cpus && offset.is_multiple_of(4));
        let bits =
            |base: usize| (0..32).map(move |i| ((offset - base) * 8 + i, value >> i & 1 != 0));
        let bytes = |base: usize| (offset - base..).zip(value.to_le_bytes());
        match offset {
            0x000 => self.enabled = value & 1 != 0,
            0x008 => {
                assert_eq!((self.iidr() ^ value) & !0xf000, 0, "EINVAL");
                let revision = value >> 12 & 0xf;
                if matches!(revision, 2 | 3) {
                    self.iidr_revision = revision;
                    self.groups_writable = true;
                }
            }
            0x080..0x100 if !self.groups_writable => {}
            0x080..0x100 => bits(0x80).for_each(|(i, set)| self.irq(vcpu, i).group = set),
            0x100..0x400 => {
                let is_on = self.enabled;
                for (intid, _) in bits(offset & !0x7f).filter(|&(_, set)| set) {
                    let irq = self.irq(vcpu, intid);
                    match offset & !0x7f {
                        0x100 => irq.enabled = true,
                        0x180 => irq.enabled = false,
                        0x200 if intid < 16 => irq.source |= 1 << vcpu,
                        0x200 => irq.latch = true,
                        0x280 if intid < 16 => irq.source = 0,
                        0x280 => irq.latch = false,
                        0x300 => irq.active = true,
                        _ => irq.active = false,
                    }
                    if matches!(offset & !0x7f, 0x100 | 0x200 | 0x300) {
                        irq.enqueue(is_on);
                    }
                }
            }
            0x400..0x800 => bytes(0x400).for_each(|(i, b)| self.irq(vcpu, i).priority = b & 0xf8),
            // Of private interrupts it is read-only.
            0x800..0x820 => {}
            0x820..0xc00 => {
                let all_cpus = ((1u16 << self.nr_cpus) - 1) as u8;
                bytes(0x800).for_each(|(i, b)| {
                    let irq = self.irq(vcpu, i);
                    irq.targets = b & all_cpus;
                    irq.target =
                        if irq.targets == 0 { 0 } else { irq.targets.trailing_zeros() as usize };
                });
            }
            0xc00..0xc08 => {}
            0xc08..0xd00 => {
                for i in 0..16 {
                    self.irq(vcpu, (offset - 0xc00) * 4 + i).edge = value >> (2 * i + 1) & 1 != 0;
                }
            }
            0xf10..0xf20 => bytes(0xf10).for_each(|(i, b)| self.irq(vcpu, i).source &= !b),
            0xf20..0xf30 => {
                let is_on = self.enabled;
                bytes(0xf20).for_each(|(i, b)| {
                    let irq = self.irq(vcpu, i);
                    irq.source |= b;
                    irq.enqueue(is_on);
                });
            }
            _ => panic!("ENXIO: {offset:#x}"),
        }
    }

    fn set_gicc(&mut self, vcpu: usize, offset: usize, value: u32) {
        assert!(self.initialised);
        let cpu = &mut self.cpus[vcpu];
        match offset {
            0x00 => cpu.ctlr = value & 0x21f,
            0x04 => cpu.vm_pri_mask = value & 0x1f,
            0x08 => cpu.bpr = value,
            0x1c => cpu.abpr = value,
            0xd0 => cpu.apr = value,
            _ => panic!("ENXIO: {offset:#x}"),
        }
    }

    /// Raises a line, as KVM_IRQ_LINE does.
    pub fn raise(&mut self, Line(interrupt): Line) {
        let vcpu = if let Interrupt::Private { vcpu, .. } = interrupt { vcpu } else { 0 };
        assert!(vcpu < self.nr_cpus);
        let is_on = self.enabled;
        let irq = self.irq(vcpu, interrupt.intid());
        irq.line = true;
        irq.latch |= irq.edge;
        irq.enqueue(is_on);
    }

    /// Returns an attribute, as KVM_GET_DEVICE_ATTR does.
    pub fn get(&mut self, (group, attr): (u32, u64)) -> Attribute {
        let (vcpu, offset) = ((attr >> 32) as usize, (attr & 0xffff_ffff) as usize);
        let value = match (group, offset) {
            (3, 0) => self.nr_irqs as u64,
            (0, n @ (0 | 1)) => self.bases[n],
            (1, _) => self.gicd(vcpu, offset).into(),
            (2, 0x00) => self.cpus[vcpu].ctlr.into(),
            (2, 0x04) => self.cpus[vcpu].vm_pri_mask.into(),
            (2, 0x08) => self.cpus[vcpu].bpr.into(),
            (2, 0x1c) => self.cpus[vcpu].abpr.into(),
            (2, 0xd0) => self.cpus[vcpu].apr.into(),
            _ => panic!("ENXIO: {group} {attr:#x}"),
        };
        Attribute { group, attr, value }
    }

    fn gicd(&mut self, vcpu: usize, offset: usize) -> u32 {
        let mut bits = |base: usize, bit: fn(&Irq) -> bool| {
            (0..32).fold(0, |word, i| {
                word | u32::from(bit(self.irq(vcpu, (offset - base) * 8 + i))) << i
            })
        };
        match offset {
            0x000 => self.enabled.into(),
            0x008 => self.iidr(),
            0x080..0x100 => bits(0x080, |irq| irq.group),
            0x100..0x180 => bits(0x100, |irq| irq.enabled),
            0x200..0x280 => bits(0x200, Irq::is_pending),
            0x300..0x380 => bits(0x300, |irq| irq.active),
            0x400..0x800 => self.bytes(vcpu, offset - 0x400, |irq| irq.priority),
            0x820..0xc00 => self.bytes(vcpu, offset - 0x800, |irq| irq.targets),
            0xc00..0xd00 => (0..16).fold(0, |word, i| {
                word | u32::from(self.irq(vcpu, (offset - 0xc00) * 4 + i).edge) << (2 * i + 1)
            }),
            0xf20..0xf30 => self.bytes(vcpu, offset - 0xf20, |irq| irq.source),
            _ => panic!("ENXIO: {offset:#x}"),
        }
    }

    fn bytes(&mut self, vcpu: usize, first: usize, byte: fn(&Irq) -> u8) -> u32 {
        u32::from_le_bytes([0, 1, 2, 3].map(|i| byte(self.irq(vcpu, first + i))))
    }
}

/// Returns the SGIs and PPIs of a vCPU.
fn banked(bank: &[Irq], target: usize) -> Vec<Irq> {
    bank.iter().map(|irq| Irq { target, ..irq.clone() }).collect()
}
