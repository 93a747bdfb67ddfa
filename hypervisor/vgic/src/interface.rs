//! A virtual interface but for its list registers, as values: its control, what the guest has set
//! in its CPU interface, and the priorities that are active there.

use stasis_state::vgic::CpuInterface;
use tock_registers::register_bitfields;

/// The control of a virtual interface: whether it is on, and when it asks for a maintenance
/// interrupt. By default it is off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control(u8);

impl Control {
    const ON: u8 = 1 << 0;
    const UNLISTED_ENDS: u8 = 1 << 2;
    const NONE_PENDING: u8 = 1 << 3;

    /// The guest is signalled nothing, and there is no maintenance interrupt.
    pub const OFF: Self = Self(0);

    /// Returns the control of an interface that is on, and asks for a maintenance interrupt while
    /// no list register is pending (if `none_pending`), and when the guest ends an interrupt that
    /// is in no list register (if `unlisted_ends`).
    #[inline]
    pub const fn on(none_pending: bool, unlisted_ends: bool) -> Self {
        let none_pending = if none_pending { Self::NONE_PENDING } else { 0 };
        Self(Self::ON | none_pending | if unlisted_ends { Self::UNLISTED_ENDS } else { 0 })
    }

    /// Returns whether interrupts are signalled to the guest.
    #[inline]
    pub const fn is_on(self) -> bool {
        self.0 & Self::ON != 0
    }

    /// Returns whether there is a maintenance interrupt while no list register is pending.
    #[inline]
    pub const fn tells_none_pending(self) -> bool {
        self.0 & Self::NONE_PENDING != 0
    }

    /// Returns whether there is a maintenance interrupt when the guest ends an interrupt that is in
    /// no list register.
    #[inline]
    pub const fn tells_unlisted_ends(self) -> bool {
        self.0 & Self::UNLISTED_ENDS != 0
    }
}

/// The registers that a guest has set in its CPU interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachineControl {
    /// GICC_CTLR, IHI 0048B.b 4.4.1; other bits than [`CTLR_MASK`]'s are 0.
    pub ctlr: u32,
    /// GICC_PMR, 4.4.2: only better priorities are signalled. The low three bits are 0.
    pub priority_mask: u8,
    /// GICC_BPR, 4.4.3: the bit below which priorities do not preempt, 0 to 7.
    pub binary_point: u8,
    /// GICC_ABPR, 4.4.8: the binary point of group 1, 0 to 7, unless GICC_CTLR.CBPR makes that of
    /// group 0 count for both.
    pub group1_binary_point: u8,
}

/// The bits of GICC_CTLR that a guest can set, without the security extensions.
pub const CTLR_MASK: u32 = 0x21f;
/// GICC_CTLR.EOImode: GICC_EOIR only drops the priority, and GICC_DIR deactivates.
const EOI_MODE: u32 = 1 << 9;

/// The least GICC_BPR with five bits of priority.
const LEAST_BINARY_POINT: u8 = 2;
/// The least GICC_ABPR with five bits of priority.
const LEAST_GROUP1_BINARY_POINT: u8 = 3;

impl MachineControl {
    /// Returns what the record says.
    #[inline]
    pub(crate) fn of(record: &CpuInterface) -> Self {
        Self {
            ctlr: *record.cc_ctlr & CTLR_MASK,
            priority_mask: *record.cc_pmr,
            binary_point: *record.cc_bpr,
            group1_binary_point: *record.cc_abpr,
        }
    }

    /// Writes this to the record. An interface may let its guest set less than the least binary
    /// point, as QEMU's does, and would hold the least after the next load: so the record gets the
    /// least.
    #[inline]
    pub(crate) fn store(self, record: &mut CpuInterface) {
        *record.cc_ctlr = self.ctlr;
        *record.cc_pmr = self.priority_mask;
        *record.cc_bpr = self.binary_point.max(LEAST_BINARY_POINT);
        *record.cc_abpr = self.group1_binary_point.max(LEAST_GROUP1_BINARY_POINT);
    }

    /// Returns what is left of this in a record.
    pub(crate) fn stored(self, record: &mut CpuInterface) -> Self {
        self.store(record);
        Self::of(record)
    }

    /// Returns whether the guest deactivates interrupts by GICC_DIR, and not by GICC_EOIR.
    pub(crate) const fn splits_ends(self) -> bool {
        self.ctlr & EOI_MODE != 0
    }
}

register_bitfields! { u32,
    /// The fields of [`PackedControl`]. No other file knows where they are. They stand where
    /// GICH_VMCR has them, so that a back end of GICv2 moves [`PackedControl::bits`].
    FIELDS [
        /// Bits of GICC_CTLR: [`CTLR_MASK`].
        CTLR OFFSET(0) NUMBITS(10) [],
        GROUP1_BINARY_POINT OFFSET(18) NUMBITS(3) [],
        BINARY_POINT OFFSET(21) NUMBITS(3) [],
        /// The priority mask without its low three bits.
        LEVEL OFFSET(27) NUMBITS(5) []
    ]
}

/// A [`MachineControl`] in one word: equal words are equal controls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedControl(u32);

impl PackedControl {
    /// Returns the short form of `control`.
    #[inline]
    pub fn new(control: MachineControl) -> Self {
        let fields = FIELDS::CTLR.val(control.ctlr & CTLR_MASK)
            + FIELDS::LEVEL.val(u32::from(control.priority_mask) >> 3)
            + FIELDS::BINARY_POINT.val(control.binary_point.into())
            + FIELDS::GROUP1_BINARY_POINT.val(control.group1_binary_point.into());
        Self(fields.value)
    }

    /// Returns what this is the short form of.
    #[inline]
    pub fn unpack(self) -> MachineControl {
        MachineControl {
            ctlr: FIELDS::CTLR.read(self.0),
            priority_mask: (FIELDS::LEVEL.read(self.0) << 3) as u8,
            binary_point: FIELDS::BINARY_POINT.read(self.0) as u8,
            group1_binary_point: FIELDS::GROUP1_BINARY_POINT.read(self.0) as u8,
        }
    }

    /// Returns the word, in which each field stands where GICH_VMCR has it, IHI 0048B.b 5.3.8. All
    /// other bits are 0.
    #[inline(always)]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Returns the control that a value of GICH_VMCR has. Bits that no field has are left out.
    #[inline(always)]
    pub const fn from_bits(vmcr: u32) -> Self {
        const ALL: u32 = CTLR_MASK
            | FIELDS::GROUP1_BINARY_POINT::SET.value
            | FIELDS::BINARY_POINT::SET.value
            | FIELDS::LEVEL::SET.value;
        Self(vmcr & ALL)
    }
}

/// The priorities of the interrupts whose handlers the guest is in, of both groups: bit n is group
/// priority 8 * n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ActivePriorities(pub u32);

impl ActivePriorities {
    /// The guest is in no handler.
    pub const NONE: Self = Self(0);

    /// Returns what the record says, which has 128 levels, of which every fourth can be active.
    #[inline]
    pub(crate) fn of(record: &CpuInterface) -> Self {
        let levels = &*record.cc_apr;
        // Almost always: a vCPU seldom changes in the midst of a handler.
        if *levels == [0; 4] {
            return Self::NONE;
        }
        let set = (0..128).filter(|index| levels[index / 32] & (1 << (index % 32)) != 0);
        Self(set.fold(0, |active, index| active | 1 << (index / 4)))
    }

    /// Returns the record's form, with 128 levels.
    pub(crate) fn levels(self) -> [u32; 4] {
        let mut levels = [0; 4];
        for index in (0..32).filter(|bit| self.0 & (1 << bit) != 0).map(|bit| bit * 4) {
            levels[index / 32] |= 1 << (index % 32);
        }
        levels
    }
}
