//! The records of a virtual GIC together, and their interrupts one by one.

use alloc::vec::Vec;
use core::fmt;

use stasis_state::{
    GuestState,
    timer::{PHYSICAL_TIMER, VIRTUAL_TIMER, settle_lines},
    vgic::{CpuInterface, Distributor, NO_CPU, PRIVATE_INTIDS},
};

/// INTIDs below this are SGIs.
pub const SGIS: usize = 16;

/// A virtual GIC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vgic {
    /// What there is once.
    pub distributor: Distributor,
    /// What each vCPU has, by index.
    pub cpus: Vec<CpuInterface>,
}

impl From<&GuestState> for Vgic {
    /// Returns the vGIC as it is in the records.
    fn from(state: &GuestState) -> Self {
        let cpus = state.vcpus.iter().map(|vcpu| vcpu.cpu_interface.clone()).collect();
        Self { distributor: (*state.distributor).clone(), cpus }
    }
}

impl Vgic {
    /// Returns the vGIC of a guest at the instant of its state: the lines of its timers are those
    /// that follow from its clock.
    pub fn settled(state: &GuestState) -> Self {
        let mut vgic = Self::from(state);
        for (cpu, vcpu) in vgic.cpus.iter_mut().zip(&state.vcpus) {
            settle_lines(cpu, &vcpu.system, *state.clock.cntvct);
        }
        vgic
    }
}

/// An interrupt: there is a private one of each INTID for each vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Interrupt {
    /// An SGI or a PPI.
    Private { vcpu: usize, intid: usize },
    /// An SPI.
    Shared { intid: usize },
}

impl Interrupt {
    /// Returns the interrupt's number, which a guest sees.
    pub fn intid(self) -> usize {
        match self {
            Self::Private { intid, .. } | Self::Shared { intid } => intid,
        }
    }

    /// Returns whether the interrupt's line is that of a timer, which follows from the timer's
    /// registers and the counter.
    pub fn is_of_timer(self) -> bool {
        let timers = [VIRTUAL_TIMER, PHYSICAL_TIMER].map(usize::from);
        matches!(self, Self::Private { intid, .. } if timers.contains(&intid))
    }

    /// Returns whether the interrupt is an SGI.
    pub fn is_sgi(self) -> bool {
        self.intid() < SGIS
    }
}

impl fmt::Display for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Private { vcpu, intid } => write!(f, "interrupt {intid} of vCPU {vcpu}"),
            Self::Shared { intid } => write!(f, "interrupt {intid}"),
        }
    }
}

/// The registers that have a bit for each interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Bits {
    Group,
    Enable,
    Latch,
    Level,
    Active,
    Edge,
}

impl Vgic {
    /// Returns a vGIC at reset.
    pub fn new(nr_irqs: u16, nr_cpus: usize) -> Self {
        let mut vgic = Self::default();
        *vgic.distributor.nr_irqs = nr_irqs;
        *vgic.distributor.nr_cpus = nr_cpus as u8;
        vgic.cpus.resize_with(nr_cpus, CpuInterface::default);
        vgic
    }

    /// Returns the number of INTIDs, the private ones included.
    pub fn nr_irqs(&self) -> usize {
        usize::from(*self.distributor.nr_irqs)
    }

    /// Removes the SPIs from `nr_irqs` on, a multiple of 32.
    pub(crate) fn truncate(&mut self, nr_irqs: u16) {
        let dist = &mut self.distributor;
        *dist.nr_irqs = nr_irqs;
        let first = usize::from(nr_irqs) - PRIVATE_INTIDS;
        for words in [
            &mut *dist.spi_group,
            &mut *dist.spi_enable,
            &mut *dist.spi_latch,
            &mut *dist.spi_level,
            &mut *dist.spi_active,
            &mut *dist.spi_edge,
        ] {
            words[first / 32..].fill(0);
        }
        dist.spi_active_cpu[first..].fill(NO_CPU);
        dist.spi_prio[first..].fill(0);
        dist.spi_targets[first..].fill(0);
    }

    /// Returns the mask of all vCPUs.
    pub fn all_cpus(&self) -> u8 {
        ((1u16 << self.cpus.len()) - 1) as u8
    }

    /// Returns every interrupt: the private ones vCPU by vCPU, then the shared ones.
    pub fn interrupts(&self) -> impl Iterator<Item = Interrupt> + use<> {
        let private = (0..self.cpus.len())
            .flat_map(|vcpu| (0..PRIVATE_INTIDS).map(move |intid| (vcpu, intid)))
            .map(|(vcpu, intid)| Interrupt::Private { vcpu, intid });
        private.chain(self.shared())
    }

    /// Returns every SPI.
    pub fn shared(&self) -> impl Iterator<Item = Interrupt> + use<> {
        (PRIVATE_INTIDS..self.nr_irqs()).map(|intid| Interrupt::Shared { intid })
    }

    /// Returns 32 bits of a register: word 0 is the vCPU's own, the others are everybody's.
    pub fn word(&self, bits: Bits, vcpu: usize, word: usize) -> u32 {
        let (cpu, dist) = (&self.cpus[vcpu], &self.distributor);
        let Some(shared) = word.checked_sub(1) else {
            return match bits {
                Bits::Group => *cpu.priv_group,
                Bits::Enable => *cpu.priv_enable,
                Bits::Latch => *cpu.priv_latch,
                Bits::Level => *cpu.priv_level,
                Bits::Active => *cpu.priv_active,
                Bits::Edge => *cpu.priv_edge,
            };
        };
        match bits {
            Bits::Group => dist.spi_group[shared],
            Bits::Enable => dist.spi_enable[shared],
            Bits::Latch => dist.spi_latch[shared],
            Bits::Level => dist.spi_level[shared],
            Bits::Active => dist.spi_active[shared],
            Bits::Edge => dist.spi_edge[shared],
        }
    }

    /// Returns 32 bits of a register as [`Self::word`] does, to be written.
    pub fn word_mut(&mut self, bits: Bits, vcpu: usize, word: usize) -> &mut u32 {
        let (cpu, dist) = (&mut self.cpus[vcpu], &mut self.distributor);
        let Some(shared) = word.checked_sub(1) else {
            return match bits {
                Bits::Group => &mut cpu.priv_group,
                Bits::Enable => &mut cpu.priv_enable,
                Bits::Latch => &mut cpu.priv_latch,
                Bits::Level => &mut cpu.priv_level,
                Bits::Active => &mut cpu.priv_active,
                Bits::Edge => &mut cpu.priv_edge,
            };
        };
        match bits {
            Bits::Group => &mut dist.spi_group[shared],
            Bits::Enable => &mut dist.spi_enable[shared],
            Bits::Latch => &mut dist.spi_latch[shared],
            Bits::Level => &mut dist.spi_level[shared],
            Bits::Active => &mut dist.spi_active[shared],
            Bits::Edge => &mut dist.spi_edge[shared],
        }
    }

    /// Returns an interrupt's bit.
    pub fn bit(&self, bits: Bits, interrupt: Interrupt) -> bool {
        let (vcpu, intid) = place(interrupt);
        self.word(bits, vcpu, intid / 32) >> (intid % 32) & 1 != 0
    }

    /// Writes an interrupt's bit.
    pub fn set_bit(&mut self, bits: Bits, interrupt: Interrupt, value: bool) {
        let (vcpu, intid) = place(interrupt);
        let word = self.word_mut(bits, vcpu, intid / 32);
        *word = *word & !(1 << (intid % 32)) | u32::from(value) << (intid % 32);
    }

    /// Returns an interrupt's priority.
    pub fn priority(&self, interrupt: Interrupt) -> u8 {
        match interrupt {
            Interrupt::Private { vcpu, intid } => self.cpus[vcpu].priv_prio[intid],
            Interrupt::Shared { intid } => self.distributor.spi_prio[intid - PRIVATE_INTIDS],
        }
    }

    /// Writes an interrupt's priority.
    pub fn set_priority(&mut self, interrupt: Interrupt, value: u8) {
        match interrupt {
            Interrupt::Private { vcpu, intid } => self.cpus[vcpu].priv_prio[intid] = value,
            Interrupt::Shared { intid } => {
                self.distributor.spi_prio[intid - PRIVATE_INTIDS] = value;
            }
        }
    }

    /// Returns the vCPUs to which an SPI may be sent.
    pub fn targets(&self, intid: usize) -> u8 {
        self.distributor.spi_targets[intid - PRIVATE_INTIDS]
    }

    /// Returns GICD_ITARGETSR of an SPI as the guest reads it, IHI 0048B.b 4.3.12: with one vCPU it
    /// is 0, which KVM would let the guest write.
    pub fn shown_targets(&self, intid: usize) -> u8 {
        if self.cpus.len() == 1 { 0 } else { self.targets(intid) }
    }

    /// Returns the vCPU that holds an interrupt active.
    pub fn holder(&self, interrupt: Interrupt) -> Option<usize> {
        let active = self.bit(Bits::Active, interrupt);
        active.then(|| match interrupt {
            Interrupt::Private { vcpu, .. } => vcpu,
            Interrupt::Shared { intid } => {
                usize::from(self.distributor.spi_active_cpu[intid - PRIVATE_INTIDS])
            }
        })
    }

    /// Makes a vCPU, or nobody, hold an SPI.
    pub fn set_holder(&mut self, intid: usize, holder: Option<usize>) {
        self.set_bit(Bits::Active, Interrupt::Shared { intid }, holder.is_some());
        let holder = holder.map_or(NO_CPU, |vcpu| vcpu as u8);
        self.distributor.spi_active_cpu[intid - PRIVATE_INTIDS] = holder;
    }

    /// Returns who holds an active SPI, as far as its targets tell: the first of them.
    pub fn likely_holder(&self, intid: usize) -> usize {
        let targets = self.targets(intid) & self.all_cpus();
        if targets == 0 { 0 } else { targets.trailing_zeros() as usize }
    }
}

/// The vCPU whose bank it is in (any, for an SPI), and its INTID.
fn place(interrupt: Interrupt) -> (usize, usize) {
    match interrupt {
        Interrupt::Private { vcpu, intid } => (vcpu, intid),
        Interrupt::Shared { intid } => (0, intid),
    }
}

/// Bits of a priority of which `bits` are implemented.
pub(crate) fn implemented(bits: u8) -> u8 {
    !((1u16 << (8 - bits.clamp(1, 8))) - 1) as u8
}

/// Returns active priorities in the 128-level form as they are with `bits` bits of priority.
pub(crate) fn coarser(apr: [u32; 4], bits: u8) -> [u32; 4] {
    let step = levels_per_group(bits);
    from_levels(levels(apr).map(|level| level / step * step))
}

/// Returns the 128-level form of the 32-level form, which GICH_APR has.
pub(crate) fn apr_to_128(apr: u32) -> [u32; 4] {
    from_levels((0..32).filter(|bit| apr >> bit & 1 != 0).map(|bit| bit * levels_per_group(5)))
}

/// Returns the 32-level form of the 128-level form.
pub(crate) fn apr_to_32(apr: [u32; 4]) -> u32 {
    levels(apr).fold(0, |word, level| word | 1 << (level / levels_per_group(5)))
}

/// Returns the bits that are set in a 128-level GICC_APR; bit `level` stands for priority `level <<
/// 1`.
pub(crate) fn levels(apr: [u32; 4]) -> impl Iterator<Item = usize> {
    (0..128).filter(move |level| apr[level / 32] >> (level % 32) & 1 != 0)
}

fn from_levels(levels: impl Iterator<Item = usize>) -> [u32; 4] {
    levels.fold([0; 4], |mut apr, level| {
        apr[level / 32] |= 1 << (level % 32);
        apr
    })
}

/// Levels of the 128 that are one with `bits` bits of priority.
fn levels_per_group(bits: u8) -> usize {
    1 << (7 - bits.clamp(1, 7))
}
