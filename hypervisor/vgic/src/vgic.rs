//! The virtual GIC of one guest, and what it keeps per vCPU.

use alloc::{boxed::Box, vec, vec::Vec};

use arrayvec::ArrayVec;
use stasis_state::vgic::{CpuInterface, Distributor, MAX_VCPUS, PRIVATE_INTIDS};

use crate::check::{Error, check};
use crate::interface::Control;
use crate::irq::bits;
use crate::link::Links;
use crate::list_register::{ListRegister, Packed, State};
use crate::place::Place;
use crate::waiting::Waiting;

/// Of a core's list registers, as many as are used. GIC-400 has 4.
pub const MAX_LIST_REGISTERS: usize = 16;

/// A set of vCPUs of one guest: bit n is vCPU n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VcpuMask(pub u8);

impl VcpuMask {
    /// No vCPU.
    pub const NONE: Self = Self(0);

    /// One vCPU.
    pub fn only(vcpu: usize) -> Self {
        Self(1 << vcpu)
    }

    /// The first `count` vCPUs.
    pub fn first(count: usize) -> Self {
        Self(((1u16 << count.min(MAX_VCPUS)) - 1) as u8)
    }

    /// Whether `vcpu` is one of them.
    pub fn contains(self, vcpu: usize) -> bool {
        self.0 & (1 << vcpu) != 0
    }

    /// The same without `vcpu`.
    pub fn without(self, vcpu: usize) -> Self {
        Self(self.0 & !(1 << vcpu))
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Their numbers, ascending.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        bits(self.0.into())
    }
}

/// What an operation asks of its caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "a vCPU that is not kicked may never see its interrupt"]
pub struct Effects {
    /// These vCPUs have something new for their list registers: interrupt the core that runs one
    /// (so that it passes through [`Vgic::enter`]), wake one that waits in WFI. A vCPU on whose own
    /// core the operation was made passes through `enter` anyway.
    pub kick: VcpuMask,
}

impl core::ops::BitOrAssign for Effects {
    fn bitor_assign(&mut self, other: Self) {
        self.kick.0 |= other.kick.0;
    }
}

/// Why an interrupt in a list register was pending. It moves there from the records when the list
/// register is filled, and back if the guest has not acknowledged it. So nothing is lost when the
/// same interrupt is sent again meanwhile, whichever of the two came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It was not pending, or only by its line, which stays in the records.
    None,
    /// The pending latch.
    Latch,
    /// An SGI from this vCPU.
    Source(u8),
}

/// What a list register was filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resident {
    pub(crate) intid: u16,
    pub(crate) cause: Cause,
    /// Its physical interrupt has come again: the guest had deactivated the one before.
    pub(crate) refired: bool,
}

/// One vCPU's part of the virtual GIC.
#[derive(Debug)]
pub struct VirtualCpu {
    /// The record. Complete unless the vCPU is loaded and not synced.
    pub state: CpuInterface,
    /// What is pending or active and in no list register. Derived, as everything below.
    pub(crate) waiting: Waiting,
    /// Where each of its SGIs and PPIs is.
    pub(crate) places: [Place; PRIVATE_INTIDS],
    /// It is on a core.
    pub(crate) loaded: bool,
    /// The records are complete: what its list registers hold counts for nothing.
    pub(crate) synced: bool,
    /// The list registers must be filled anew before the guest is entered.
    pub(crate) dirty: bool,
    /// What list register n was filled with, while not synced.
    pub(crate) residents: ArrayVec<Resident, MAX_LIST_REGISTERS>,
    /// What each list register is known to have last held.
    pub(crate) values: [Packed; MAX_LIST_REGISTERS],
    /// What each list register was last filled with, also after it was folded.
    pub(crate) offered: [Packed; MAX_LIST_REGISTERS],
    /// The state of each list register in use, as it was found when they were folded last.
    pub(crate) found: [State; MAX_LIST_REGISTERS],
    /// So many of them, from the first, were used at the last entry.
    pub(crate) used: usize,
    /// So many there were on the core of the last entry.
    pub(crate) count: usize,
    /// What the virtual interface is switched to.
    pub(crate) control: Control,
    /// What the virtual interface was switched to at the last entry.
    pub(crate) filled_control: Control,
    /// Interrupts that it has acknowledged, for people: as many as were seen to be when they were folded.
    pub(crate) taken: u64,
}

/// What a vCPU was entered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filled<'a> {
    /// What its core's virtual interface was switched to.
    pub control: Control,
    offered: &'a [Packed],
}

impl Filled<'_> {
    /// Returns what each of the core's list registers was filled with; none before the first entry.
    #[inline]
    pub fn list_registers(&self) -> impl ExactSizeIterator<Item = ListRegister> {
        self.offered.iter().map(|packed| packed.unpack())
    }
}

impl VirtualCpu {
    fn new(state: CpuInterface, nr_irqs: usize) -> Self {
        Self {
            state,
            waiting: Waiting::new(nr_irqs),
            places: [Place::NOWHERE; PRIVATE_INTIDS],
            loaded: false,
            synced: true,
            dirty: true,
            residents: ArrayVec::new(),
            values: [Packed::EMPTY; MAX_LIST_REGISTERS],
            offered: [Packed::EMPTY; MAX_LIST_REGISTERS],
            found: [State::Inactive; MAX_LIST_REGISTERS],
            used: 0,
            count: 0,
            control: Control::OFF,
            filled_control: Control::OFF,
            taken: 0,
        }
    }

    /// Whether it is on a core: loaded and not yet saved.
    pub fn is_loaded(&self) -> bool {
        self.loaded
    }

    /// Whether [`Vgic::enter`] has something to do before it is entered again.
    #[inline]
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Whether it could be offered an interrupt, as far as the distributor is concerned. Its list registers are folded.
    pub fn is_called(&self) -> bool {
        self.waiting.has_pending()
    }

    /// How many interrupts it was seen to acknowledge since this guest's GIC was made.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Returns what the virtual interface of its core was last filled with, also when it has been folded since: for people, and for
    /// comparison with the real one.
    pub fn last_filled(&self) -> Filled<'_> {
        Filled { control: self.filled_control, offered: &self.offered[..self.count] }
    }
}

/// A guest's GICv2: the records, and what is derived from them.
#[derive(Debug)]
pub struct Vgic {
    pub(crate) dist: Distributor,
    pub(crate) cpus: Vec<VirtualCpu>,
    /// Where each SPI is. Derived.
    pub(crate) spi_places: Vec<Place>,
    pub(crate) links: Links,
}

impl Vgic {
    /// A GIC at reset, with `nr_irqs` INTIDs (QEMU's `virt` has 288) and `nr_cpus` CPU interfaces.
    pub fn new(nr_irqs: u16, nr_cpus: u8) -> Result<Self, Error> {
        let dist = Self::distributor_at_reset(nr_irqs, nr_cpus);
        Self::from_state(dist, (0..nr_cpus).map(|_| CpuInterface::default()))
    }

    /// The record of the distributor of [such a GIC](Self::new).
    pub fn distributor_at_reset(nr_irqs: u16, nr_cpus: u8) -> Box<Distributor> {
        let mut dist = Box::<Distributor>::default();
        *dist.nr_irqs = nr_irqs;
        *dist.nr_cpus = nr_cpus;
        if nr_cpus == 1 {
            // Nothing else can be targeted; the registers are RAZ/WI.
            let spis = usize::from(nr_irqs).saturating_sub(PRIVATE_INTIDS);
            dist.spi_targets.iter_mut().take(spis).for_each(|t| *t = 1);
        }
        dist
    }

    /// The GIC of a restored guest. What its physical interrupts are linked to is not part of the
    /// state: [`Vgic::link`] them again, before the first load.
    pub fn from_state(
        dist: Box<Distributor>,
        cpus: impl Iterator<Item = CpuInterface>,
    ) -> Result<Self, Error> {
        let cpus: Vec<_> = cpus.collect();
        check(&dist, &cpus)?;
        let nr_irqs = usize::from(*dist.nr_irqs);
        let mut vgic = Self {
            cpus: cpus.into_iter().map(|state| VirtualCpu::new(state, nr_irqs)).collect(),
            spi_places: vec![Place::NOWHERE; nr_irqs - PRIVATE_INTIDS],
            links: Links::default(),
            dist: *dist,
        };
        let _ = vgic.place_all();
        let _ = vgic.forward();
        Ok(vgic)
    }

    /// The record of the distributor.
    pub fn distributor(&self) -> &Distributor {
        &self.dist
    }

    /// The vCPUs with their records, complete for those that are not loaded, or synced.
    pub fn cpus(&self) -> &[VirtualCpu] {
        &self.cpus
    }

    /// Number of INTIDs.
    pub(crate) fn nr_irqs(&self) -> u16 {
        *self.dist.nr_irqs
    }

    /// All vCPUs.
    pub(crate) fn all_cpus(&self) -> VcpuMask {
        VcpuMask(u8::MAX >> (MAX_VCPUS - self.cpus.len()))
    }
}
