//! A list register as a value, and its short form, in which the model keeps and compares it.

use tock_registers::register_bitfields;

/// The state of the interrupt in a list register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// The list register holds no interrupt: it was never filled, or the guest has deactivated what
    /// was in it.
    #[default]
    Inactive,
    /// The interrupt is offered to the guest.
    Pending,
    /// The guest has acknowledged the interrupt.
    Active,
    /// The guest has acknowledged the interrupt, which is offered again as soon as it is
    /// deactivated.
    PendingAndActive,
}

impl State {
    /// Returns whether the guest can still acknowledge the interrupt, at once or after a
    /// deactivation.
    #[inline]
    pub const fn is_pending(self) -> bool {
        matches!(self, Self::Pending | Self::PendingAndActive)
    }

    /// Returns whether the guest has acknowledged the interrupt and not yet deactivated it.
    #[inline]
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Active | Self::PendingAndActive)
    }

    /// Returns the state of two bits: bit 0 is "pending", bit 1 "active", as both GICv2 and GICv3
    /// have it. Other bits are ignored.
    #[inline(always)]
    pub const fn from_bits(bits: u32) -> Self {
        match bits & 3 {
            0 => Self::Inactive,
            1 => Self::Pending,
            2 => Self::Active,
            _ => Self::PendingAndActive,
        }
    }

    /// Returns the two bits of [`Self::from_bits`].
    #[inline(always)]
    pub const fn bits(self) -> u32 {
        self as u32
    }
}

/// Where an interrupt in a list register comes from, and so what else happens when the guest
/// deactivates it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The hypervisor made the interrupt pending.
    Software {
        /// The vCPU that sent an SGI, 0 to 7; 0 for any other interrupt.
        source: u8,
        /// The deactivation asks for a maintenance interrupt.
        maintenance: bool,
    },
    /// A physical interrupt is active on behalf of this one. The deactivation deactivates it, too.
    Hardware {
        /// The physical INTID.
        physical: u16,
    },
}

/// The content of a list register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListRegister {
    /// The INTID that the guest sees, below 1020.
    pub intid: u16,
    /// The priority as in GICD_IPRIORITYR: 0 is the best, and the low three bits are 0.
    pub priority: u8,
    /// Whether the interrupt is of group 1; else it is of group 0.
    pub group1: bool,
    /// The state: with [`Origin::Hardware`], never both pending and active.
    pub state: State,
    /// Where the interrupt comes from.
    pub origin: Origin,
}

impl Default for ListRegister {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl ListRegister {
    /// A list register that holds nothing and asks for nothing.
    pub const EMPTY: Self = Self {
        intid: 0,
        priority: 0,
        group1: false,
        state: State::Inactive,
        origin: Origin::Software { source: 0, maintenance: false },
    };

    /// Returns whether the list register asks for a maintenance interrupt now: the guest has
    /// deactivated an interrupt that was to tell.
    #[cfg(test)]
    pub const fn asks_for_maintenance(self) -> bool {
        matches!(self.state, State::Inactive)
            && matches!(self.origin, Origin::Software { maintenance: true, .. })
    }
}

register_bitfields! { u32,
    /// The fields of [`Packed`]. No other file knows where they are. They stand where GICH_LR has
    /// them, so that a back end of GICv2 writes [`Packed::bits`].
    FIELDS [
        INTID OFFSET(0) NUMBITS(10) [],
        /// With HARDWARE = 1 the physical INTID, else the source and [`MAINTENANCE`].
        ORIGIN OFFSET(10) NUMBITS(10) [],
        /// The priority without its low three bits.
        LEVEL OFFSET(23) NUMBITS(5) [],
        STATE OFFSET(28) NUMBITS(2) [],
        GROUP1 OFFSET(30) NUMBITS(1) [],
        HARDWARE OFFSET(31) NUMBITS(1) []
    ]
}

/// In ORIGIN with HARDWARE = 0: the vCPU that sent an SGI.
const SOURCE: u32 = 7;
/// In ORIGIN with HARDWARE = 0: the deactivation asks for a maintenance interrupt.
const MAINTENANCE: u32 = 1 << 9;

/// A [`ListRegister`] in one word: equal words are equal list registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packed(u32);

impl Packed {
    /// [`ListRegister::EMPTY`].
    pub(crate) const EMPTY: Self = Self(0);

    /// Returns the short form of `value`.
    #[inline]
    pub fn new(value: ListRegister) -> Self {
        let origin = match value.origin {
            Origin::Software { source, maintenance } => {
                let maintenance = if maintenance { MAINTENANCE } else { 0 };
                FIELDS::ORIGIN.val(u32::from(source) | maintenance)
            }
            Origin::Hardware { physical } => {
                FIELDS::ORIGIN.val(physical.into()) + FIELDS::HARDWARE::SET
            }
        };
        let fields = FIELDS::INTID.val(value.intid.into())
            + FIELDS::LEVEL.val(u32::from(value.priority) >> 3)
            + FIELDS::STATE.val(value.state.bits())
            + FIELDS::GROUP1.val(value.group1.into());
        Self(fields.value | origin.value)
    }

    /// Returns what this is the short form of. Always inlined: before a back end's encoder, it has
    /// no branch.
    #[inline(always)]
    pub fn unpack(self) -> ListRegister {
        let origin = FIELDS::ORIGIN.read(self.0);
        let origin = match self.is_hardware() {
            true => Origin::Hardware { physical: origin as u16 },
            false => Origin::Software {
                source: (origin & SOURCE) as u8,
                maintenance: origin & MAINTENANCE != 0,
            },
        };
        ListRegister {
            intid: FIELDS::INTID.read(self.0) as u16,
            priority: (FIELDS::LEVEL.read(self.0) << 3) as u8,
            group1: FIELDS::GROUP1.is_set(self.0),
            state: State::from_bits(FIELDS::STATE.read(self.0)),
            origin,
        }
    }

    /// Returns the word, in which each field stands where GICH_LR has it, IHI 0048B.b 5.3.10. The
    /// fields that GICH_LR does not have, such as the source of what is no SGI, are 0.
    #[inline(always)]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Returns the same list register in another state.
    #[inline]
    pub(crate) fn with_state(self, state: State) -> Self {
        Self(FIELDS::STATE.val(state.bits()).modify(self.0))
    }

    /// Returns the same list register, which has no hardware for its origin, pending, and asking
    /// for a maintenance interrupt when the guest has deactivated the interrupt.
    #[inline]
    pub(crate) fn pending_with_maintenance(self) -> Self {
        Self(self.with_state(State::Pending).0 | FIELDS::ORIGIN.val(MAINTENANCE).value)
    }

    /// Returns whether the guest can still acknowledge the interrupt.
    #[inline]
    pub(crate) fn is_pending(self) -> bool {
        FIELDS::STATE.read(self.0) & State::Pending.bits() != 0
    }

    /// Returns whether the guest holds the interrupt active.
    #[inline]
    pub(crate) fn is_active(self) -> bool {
        FIELDS::STATE.read(self.0) & State::Active.bits() != 0
    }

    /// Returns the priority without its low three bits.
    #[inline]
    pub(crate) fn level(self) -> u8 {
        FIELDS::LEVEL.read(self.0) as u8
    }

    /// Returns whether the interrupt is of group 1.
    #[inline]
    pub(crate) fn is_group1(self) -> bool {
        FIELDS::GROUP1.is_set(self.0)
    }

    /// Returns whether a physical interrupt ends with this one.
    #[inline(always)]
    pub(crate) fn is_hardware(self) -> bool {
        FIELDS::HARDWARE.is_set(self.0)
    }

    /// Returns the vCPU that has sent an SGI; of other interrupts it means nothing.
    #[inline(always)]
    pub(crate) fn source(self) -> u8 {
        if self.is_hardware() { 0 } else { (FIELDS::ORIGIN.read(self.0) & SOURCE) as u8 }
    }

    /// Returns whether the list register must be overwritten before it counts as empty: it holds an
    /// interrupt, or still asks for a maintenance interrupt.
    #[inline]
    pub(crate) fn matters(self) -> bool {
        let asks = !self.is_hardware() && FIELDS::ORIGIN.read(self.0) & MAINTENANCE != 0;
        FIELDS::STATE.is_set(self.0) || asks
    }
}
