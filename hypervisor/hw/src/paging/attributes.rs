//! Memory types and access permissions of a mapping, as descriptors encode them (DDI 0487, D8.3).

use tock_registers::fields::FieldValue;
use tock_registers::{RegisterLongName, register_bitfields};

/// Index in MAIR_EL2 of normal memory, which `Attributes::normal` uses.
pub const MAIR_NORMAL: u64 = 0;
/// Index in MAIR_EL2 of device memory, which [`Attributes::device`] uses.
pub const MAIR_DEVICE: u64 = 1;

register_bitfields! { u64,
    /// Lower and upper attributes in stage 1 of EL2, D8.3.
    pub(super) STAGE1 [
        AttrIndx OFFSET(2) NUMBITS(3) [],
        /// AP[1] is RES1 where only EL2 uses the regime; AP[2] makes it read-only.
        AP OFFSET(6) NUMBITS(2) [
            ReadWrite = 0b01,
            ReadOnly = 0b11
        ],
        SH OFFSET(8) NUMBITS(2) [
            InnerShareable = 0b11
        ],
        AF OFFSET(10) NUMBITS(1) [],
        XN OFFSET(54) NUMBITS(1) []
    ],
    /// Lower and upper attributes in stage 2, D8.3.
    pub(super) STAGE2 [
        MemAttr OFFSET(2) NUMBITS(4) [
            DeviceNGnRE = 0b0001,
            NormalWriteBack = 0b1111
        ],
        S2AP OFFSET(6) NUMBITS(2) [
            ReadOnly = 0b01,
            ReadWrite = 0b11
        ],
        SH OFFSET(8) NUMBITS(2) [
            InnerShareable = 0b11
        ],
        AF OFFSET(10) NUMBITS(1) [],
        XN OFFSET(54) NUMBITS(1) []
    ]
}

/// Memory type and access permissions of a mapping: the attribute bits of its descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes(u64);

impl Attributes {
    /// Returns the bits as a descriptor has them.
    pub(super) const fn bits(self) -> u64 {
        self.0
    }

    const fn of<R: RegisterLongName>(fields: FieldValue<u64, R>) -> Self {
        Self(fields.value)
    }

    /// Returns the attributes of EL2's code: stage 1, read-only, executable.
    pub fn code() -> Self {
        Self::normal(STAGE1::AP::ReadOnly + STAGE1::XN::CLEAR)
    }

    /// Returns the attributes of EL2's constants: stage 1, read-only, not executable.
    pub fn read_only() -> Self {
        Self::normal(STAGE1::AP::ReadOnly + STAGE1::XN::SET)
    }

    /// Returns the attributes of EL2's data: stage 1, writable, not executable.
    pub fn data() -> Self {
        Self::normal(STAGE1::AP::ReadWrite + STAGE1::XN::SET)
    }

    fn normal(access: FieldValue<u64, STAGE1::Register>) -> Self {
        Self::of(
            STAGE1::AttrIndx.val(MAIR_NORMAL)
                + STAGE1::SH::InnerShareable
                + STAGE1::AF::SET
                + access,
        )
    }

    /// Returns the attributes of a device that EL2 drives: stage 1, writable, not executable.
    pub fn device() -> Self {
        Self::of(
            STAGE1::AttrIndx.val(MAIR_DEVICE)
                + STAGE1::AP::ReadWrite
                + STAGE1::AF::SET
                + STAGE1::XN::SET,
        )
    }

    /// Returns the attributes of a guest's RAM: stage 2, writable, executable.
    pub fn guest_ram() -> Self {
        Self::ram(STAGE2::S2AP::ReadWrite)
    }

    /// Returns the attributes of a guest's RAM to which writes are not
    /// [allowed](super::Translation::allow_writes) yet: stage 2, read-only, executable.
    pub fn guest_ram_unwritten() -> Self {
        Self::ram(STAGE2::S2AP::ReadOnly)
    }

    fn ram(access: FieldValue<u64, STAGE2::Register>) -> Self {
        Self::of(
            STAGE2::MemAttr::NormalWriteBack
                + STAGE2::SH::InnerShareable
                + STAGE2::AF::SET
                + access,
        )
    }

    /// Returns the attributes of memory that a guest shares with others: stage 2, writable, not
    /// executable.
    pub fn guest_shared() -> Self {
        Self(Self::guest_ram().0 | STAGE2::XN::SET.value)
    }

    /// Returns the attributes of a device that a guest accesses itself: stage 2, writable, not
    /// executable.
    pub fn guest_device() -> Self {
        Self::of(
            STAGE2::MemAttr::DeviceNGnRE
                + STAGE2::S2AP::ReadWrite
                + STAGE2::AF::SET
                + STAGE2::XN::SET,
        )
    }
}
