//! The virtual GIC of one guest, and what it keeps for each vCPU.

use alloc::vec::Vec;

use arrayvec::ArrayVec;
use stasis_state::vgic::{CpuInterface, Distributor, MAX_VCPUS, PRIVATE_INTIDS};

use crate::changed::Changed;
use crate::interface::{Control, MachineControl, PackedControl};
use crate::irq::Cause;
use crate::links::Links;
use crate::list_register::{ListRegister, Packed, State};
use crate::place::Place;
use crate::vcpus::VcpuMask;
use crate::waiting::Waiting;

/// The most list registers of a core that are used. GIC-400 has 4, no GIC more than 64.
pub const MAX_LIST_REGISTERS: usize = 16;

/// An interrupt in a list register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resident {
    pub(crate) intid: u16,
    pub(crate) cause: Cause,
    /// The physical interrupt has come again, so the guest has deactivated the one before.
    pub(crate) refired: bool,
}

/// The part of the virtual GIC that is one vCPU's.
#[derive(Clone, Debug)]
pub struct VirtualCpu {
    /// The record, which is complete unless the vCPU is loaded and not synced.
    pub state: CpuInterface,
    /// The interrupts that are pending or active and in no list register. Derived, as everything
    /// below.
    pub(crate) waiting: Waiting,
    /// Where each of the vCPU's SGIs and PPIs is.
    pub(crate) places: [Place; PRIVATE_INTIDS],
    /// Whether the vCPU is on a core.
    pub(crate) loaded: bool,
    /// Whether the records are complete: then what the list registers hold counts for nothing.
    pub(crate) synced: bool,
    /// What has changed since the list registers were filled: it decides what is done before the
    /// guest is entered.
    pub(crate) changed: Changed,
    /// The interrupt in each list register in use, while not synced.
    pub(crate) residents: ArrayVec<Resident, MAX_LIST_REGISTERS>,
    /// The content of each list register as it was last written or found.
    pub(crate) values: [Packed; MAX_LIST_REGISTERS],
    /// The content that each list register was last filled with, kept also when it is folded.
    pub(crate) offered: [Packed; MAX_LIST_REGISTERS],
    /// The state of each list register in use, as it was found when they were folded last.
    pub(crate) found: [State; MAX_LIST_REGISTERS],
    /// The list registers, bit n for number n, whose state in `found` was read for the fold that
    /// follows at once.
    pub(crate) read: u32,
    /// What is known of the order of those in list registers.
    pub(crate) order: Order,
    /// The number of list registers in use at the last entry: the first ones.
    pub(crate) used: usize,
    /// The number of list registers of the core of the last entry, at most [`MAX_LIST_REGISTERS`].
    pub(crate) count: usize,
    /// What the record says that the guest has set in its CPU interface. While the vCPU is loaded:
    /// what it was loaded with.
    pub(crate) machine: PackedControl,
    /// The control that the virtual interface has.
    pub(crate) control: Control,
    /// The control that the virtual interface had at the last entry.
    pub(crate) filled_control: Control,
    /// The number of interrupts that were seen to be acknowledged when they were folded, for
    /// people.
    pub(crate) taken: u64,
}

/// What is known of the order of a vCPU's list registers, since one of them was filled with
/// something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// The [`Links::generation`] at which the vCPU was [orderly](Vgic::is_orderly), or 0.
    pub(crate) orderly_at: u64,
    /// The generation at which a list register was looked at alone, or 0.
    pub(crate) one_at: u64,
    /// The generation at which all of them were looked at, or 0.
    pub(crate) all_at: u64,
}

impl Order {
    /// Nothing is known.
    pub(crate) const UNKNOWN: Self = Self { orderly_at: 0, one_at: 0, all_at: 0 };
}

/// What the virtual interface of a vCPU's core was filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filled<'a> {
    /// The control of the virtual interface.
    pub control: Control,
    offered: &'a [Packed],
}

impl Filled<'_> {
    /// Returns the content of each of the core's list registers; none before the first entry.
    #[inline]
    pub fn list_registers(&self) -> impl ExactSizeIterator<Item = ListRegister> {
        self.offered.iter().map(|packed| packed.unpack())
    }
}

impl VirtualCpu {
    /// Returns the part of a vCPU that is on no core, and of which no interrupt has a place as yet.
    pub(crate) fn new(state: CpuInterface, nr_irqs: usize) -> Self {
        Self {
            machine: PackedControl::new(MachineControl::of(&state)),
            state,
            waiting: Waiting::new(nr_irqs),
            places: [Place::NOWHERE; PRIVATE_INTIDS],
            loaded: false,
            synced: true,
            changed: Changed::Anything,
            residents: ArrayVec::new(),
            values: [Packed::EMPTY; MAX_LIST_REGISTERS],
            offered: [Packed::EMPTY; MAX_LIST_REGISTERS],
            found: [State::Inactive; MAX_LIST_REGISTERS],
            read: 0,
            order: Order::UNKNOWN,
            used: 0,
            count: 0,
            control: Control::OFF,
            filled_control: Control::OFF,
            taken: 0,
        }
    }

    /// Returns whether the vCPU is on a core: loaded and not yet saved.
    pub fn is_loaded(&self) -> bool {
        self.loaded
    }

    /// Returns whether [`Vgic::enter`] has something to do before the vCPU is entered again.
    #[inline]
    pub fn is_dirty(&self) -> bool {
        self.changed != Changed::Nothing
    }

    /// Returns whether the vCPU, whose list registers are folded, could be offered an interrupt as
    /// far as the distributor is concerned.
    pub fn is_called(&self) -> bool {
        self.waiting.has_pending()
    }

    /// Returns how many interrupts the vCPU was seen to acknowledge since this guest's GIC was
    /// made.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Returns what the virtual interface of the vCPU's core was last filled with, also when it has
    /// been folded since: for people, and for comparison with the real one.
    pub fn last_filled(&self) -> Filled<'_> {
        Filled { control: self.filled_control, offered: &self.offered[..self.count] }
    }
}

/// The GICv2 of a guest: the records, and what is derived from them.
#[derive(Clone, Debug)]
pub struct Vgic {
    pub(crate) dist: Distributor,
    pub(crate) cpus: Vec<VirtualCpu>,
    /// Where each SPI is. Derived.
    pub(crate) spi_places: Vec<Place>,
    pub(crate) links: Links,
}

impl Vgic {
    /// Returns the record of the distributor.
    pub fn distributor(&self) -> &Distributor {
        &self.dist
    }

    /// Returns the vCPUs. The records are complete of those that are not loaded, or synced.
    pub fn cpus(&self) -> &[VirtualCpu] {
        &self.cpus
    }

    /// Returns the number of INTIDs.
    pub(crate) fn nr_irqs(&self) -> u16 {
        *self.dist.nr_irqs
    }

    /// Returns the set of all vCPUs.
    pub(crate) fn all_cpus(&self) -> VcpuMask {
        VcpuMask(u8::MAX >> (MAX_VCPUS - self.cpus.len()))
    }
}
