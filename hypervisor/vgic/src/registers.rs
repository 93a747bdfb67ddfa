//! The registers of GICH, the virtual interface control (IHI 0048B.b chapter 5.3), and a list
//! register as a value.

use tock_registers::register_bitfields;

register_bitfields! { u32,
    /// Hypervisor Control Register, 5.3.2.
    pub(crate) GICH_HCR [
        En OFFSET(0) NUMBITS(1) [],
        /// Underflow: at most one list register is valid.
        UIE OFFSET(1) NUMBITS(1) [],
        /// An EOI for an interrupt that is in no list register.
        LRENPIE OFFSET(2) NUMBITS(1) [],
        /// No list register is pending.
        NPIE OFFSET(3) NUMBITS(1) [],
        EOICount OFFSET(27) NUMBITS(5) []
    ],
    /// Virtual Machine Control Register, 5.3.4: what the guest sees in its CPU interface.
    pub(crate) GICH_VMCR [
        /// GICV_CTLR, in its own layout.
        VMCtlr OFFSET(0) NUMBITS(10) [],
        VMABP OFFSET(18) NUMBITS(3) [],
        VMBP OFFSET(21) NUMBITS(3) [],
        VMPriMask OFFSET(27) NUMBITS(5) []
    ],
    /// List Registers, 5.3.10.
    pub(crate) GICH_LR [
        VirtualID OFFSET(0) NUMBITS(10) [],
        /// With HW = 1.
        PhysicalID OFFSET(10) NUMBITS(10) [],
        /// With HW = 0: the source of an SGI.
        CPUID OFFSET(10) NUMBITS(3) [],
        /// With HW = 0: a maintenance interrupt when it is deactivated.
        EOI OFFSET(19) NUMBITS(1) [],
        Priority OFFSET(23) NUMBITS(5) [],
        State OFFSET(28) NUMBITS(2) [
            Invalid = 0,
            Pending = 1,
            Active = 2,
            PendingAndActive = 3
        ],
        Grp1 OFFSET(30) NUMBITS(1) [],
        HW OFFSET(31) NUMBITS(1) []
    ]
}

/// GICV_CTLR, 5.5.2: the bits that are implemented without the security extensions.
pub(crate) const GICV_CTLR_MASK: u32 = 0x21f;

/// The least GICV_BPR, 5.5.4, with the five bits of priority that GICH has.
pub(crate) const LEAST_BPR: u8 = 2;
/// The least GICV_ABPR, 5.5.9, with the five bits of priority that GICH has.
pub(crate) const LEAST_ABPR: u8 = 3;

/// The state of a list register that is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LrState {
    /// Offered to the guest.
    Pending,
    /// Acknowledged by the guest.
    Active,
    /// Acknowledged, and to be offered again as soon as it is deactivated.
    PendingAndActive,
}

impl LrState {
    /// Whether the guest can still acknowledge it.
    pub fn is_pending(self) -> bool {
        self != Self::Active
    }

    /// Whether the guest has acknowledged it and not yet deactivated it.
    pub fn is_active(self) -> bool {
        self != Self::Pending
    }
}

/// A list register: GICH_LR<n>, IHI 0048B.b 5.3.10.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListRegister {
    /// State 0: it holds no interrupt.
    Empty,
    /// An interrupt that only the hypervisor knows of.
    Software {
        /// The INTID that the guest sees.
        intid: u16,
        /// The vCPU that sent an SGI; else 0.
        source: u8,
        /// As in GICD_IPRIORITYR; the list register holds its upper five bits.
        priority: u8,
        /// Pending, active, or both.
        state: LrState,
        /// Group 1, else group 0.
        group1: bool,
        /// Ask for a maintenance interrupt when it is deactivated.
        eoi: bool,
    },
    /// An interrupt whose deactivation by the guest deactivates a physical one.
    Hardware {
        /// The INTID that the guest sees.
        intid: u16,
        /// The physical INTID.
        physical: u16,
        /// As in GICD_IPRIORITYR; the list register holds its upper five bits.
        priority: u8,
        /// Pending or active; both is not allowed.
        state: LrState,
        /// Group 1, else group 0.
        group1: bool,
    },
}

impl ListRegister {
    /// The register's value.
    pub fn encode(self) -> u32 {
        let common = |intid: u16, priority: u8, state, group1| {
            let state = match state {
                LrState::Pending => GICH_LR::State::Pending,
                LrState::Active => GICH_LR::State::Active,
                LrState::PendingAndActive => GICH_LR::State::PendingAndActive,
            };
            GICH_LR::VirtualID.val(intid.into())
                + GICH_LR::Priority.val(u32::from(priority) >> 3)
                + state
                + GICH_LR::Grp1.val(u32::from(group1))
        };
        match self {
            Self::Empty => 0,
            Self::Software { intid, source, priority, state, group1, eoi } => {
                let fields = common(intid, priority, state, group1)
                    + GICH_LR::CPUID.val(source.into())
                    + GICH_LR::EOI.val(eoi.into());
                fields.value
            }
            Self::Hardware { intid, physical, priority, state, group1 } => {
                let fields = common(intid, priority, state, group1)
                    + GICH_LR::PhysicalID.val(physical.into())
                    + GICH_LR::HW::SET;
                fields.value
            }
        }
    }

    /// What a register's value means.
    pub fn decode(value: u32) -> Self {
        let state = match GICH_LR::State.read_as_enum(value) {
            None | Some(GICH_LR::State::Value::Invalid) => return Self::Empty,
            Some(GICH_LR::State::Value::Pending) => LrState::Pending,
            Some(GICH_LR::State::Value::Active) => LrState::Active,
            Some(GICH_LR::State::Value::PendingAndActive) => LrState::PendingAndActive,
        };
        let intid = GICH_LR::VirtualID.read(value) as u16;
        let priority = (GICH_LR::Priority.read(value) << 3) as u8;
        let group1 = GICH_LR::Grp1.is_set(value);
        if GICH_LR::HW.is_set(value) {
            Self::Hardware {
                intid,
                physical: GICH_LR::PhysicalID.read(value) as u16,
                priority,
                state,
                group1,
            }
        } else {
            Self::Software {
                intid,
                source: GICH_LR::CPUID.read(value) as u8,
                priority,
                state,
                group1,
                eoi: GICH_LR::EOI.is_set(value),
            }
        }
    }

    /// The state, unless it is empty.
    pub fn state(self) -> Option<LrState> {
        match self {
            Self::Empty => None,
            Self::Software { state, .. } | Self::Hardware { state, .. } => Some(state),
        }
    }

    /// Whether GICH_LR<n> of this value offers its interrupt.
    #[inline]
    pub(crate) fn is_pending(value: u32) -> bool {
        value & GICH_LR::State::Pending.value != 0
    }

    /// Whether the guest holds the interrupt of GICH_LR<n> of this value active.
    #[inline]
    pub(crate) fn is_active(value: u32) -> bool {
        value & GICH_LR::State::Active.value != 0
    }

    /// Which vCPU has sent the SGI in GICH_LR<n> of this value; of other interrupts it means nothing.
    #[inline]
    pub(crate) fn source(value: u32) -> u8 {
        if GICH_LR::HW.is_set(value) { 0 } else { GICH_LR::CPUID.read(value) as u8 }
    }

    /// Whether GICH_LR<n> of this value must be overwritten before it counts as empty.
    #[inline]
    pub(crate) fn matters(value: u32) -> bool {
        GICH_LR::State.is_set(value) || Self::asks_for_maintenance(value)
    }

    /// State 0 with the EOI bit set: it holds no interrupt, but still asks for a maintenance interrupt.
    #[inline]
    pub(crate) fn asks_for_maintenance(value: u32) -> bool {
        !GICH_LR::State.is_set(value) && !GICH_LR::HW.is_set(value) && GICH_LR::EOI.is_set(value)
    }
}
