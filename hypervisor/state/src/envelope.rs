//! The header before every record's body, and the kinds of records.

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

macro_rules! record_types {
    (
        [ $( $(#[$doc:meta])* $Name:ident = $number:literal, $name:literal, $Scope:ident, since $minor:literal; )* ]
        $(
            $(#[$device_doc:meta])*
            $field:ident: $Record:ident = $Device:ident $device_number:literal, $device_name:literal, $device_Scope:ident,
            since $device_minor:literal;
        )*
    ) => {
        /// The kinds of records. The value of a variant is the number in the record's header.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        pub enum RecordType {
            $( $(#[$doc])* $Name = $number, )*
            $( $(#[$device_doc])* $Device = $device_number, )*
        }

        impl RecordType {
            /// Every kind of record.
            pub const ALL: &[Self] = &[ $( Self::$Name, )* $( Self::$Device, )* ];

            /// Returns the kind that has this number.
            pub const fn from_number(number: u16) -> Option<Self> {
                match number {
                    $( $number => Some(Self::$Name), )*
                    $( $device_number => Some(Self::$Device), )*
                    _ => None,
                }
            }

            /// Returns the kind's name in `docs/format.md`.
            pub const fn name(self) -> &'static str {
                match self {
                    $( Self::$Name => $name, )*
                    $( Self::$Device => $device_name, )*
                }
            }

            /// Returns what has one record of this kind.
            pub const fn scope(self) -> Scope {
                match self {
                    $( Self::$Name => Scope::$Scope, )*
                    $( Self::$Device => Scope::$device_Scope, )*
                }
            }

            /// Returns whether this is the record of an emulated device.
            pub const fn is_device(self) -> bool {
                match self {
                    $( Self::$Name => false, )*
                    $( Self::$Device => true, )*
                }
            }

            /// Returns the first minor version of the format that has this kind.
            pub const fn since(self) -> u16 {
                match self {
                    $( Self::$Name => $minor, )*
                    $( Self::$Device => $device_minor, )*
                }
            }
        }
    };
}

crate::devices::devices!(record_types! { [
    /// [`crate::guest::Guest`].
    Guest = 0x01, "GUEST", Guest, since 0;
    /// [`crate::guest::Clock`].
    Clock = 0x02, "CLOCK", Guest, since 0;
    /// [`crate::guest::GuestPower`].
    GuestPower = 0x03, "GUEST_POWER", AtMostOne, since 3;
    /// [`crate::guest::Lineage`].
    Checkpoint = 0x04, "CHECKPOINT", AtMostOne, since 5;
    /// [`crate::machine::Machine`].
    Machine = 0x05, "MACHINE", AtMostOne, since 6;
    /// [`crate::vgic::Distributor`].
    VgicDistributor = 0x10, "VGIC_DISTRIBUTOR", Guest, since 0;
    /// [`crate::vgic::CpuInterface`].
    VgicCpu = 0x11, "VGIC_CPU", Vcpu, since 0;
    /// [`crate::vcpu::Core`].
    VcpuCore = 0x20, "VCPU_CORE", Vcpu, since 0;
    /// [`crate::vcpu::SystemRegisters`].
    VcpuSystem = 0x21, "VCPU_SYSTEM", Vcpu, since 0;
    /// [`crate::vcpu::FpSimd`].
    VcpuFp = 0x22, "VCPU_FP", Vcpu, since 0;
    /// [`crate::vcpu::Debug`].
    VcpuDebug = 0x23, "VCPU_DEBUG", Vcpu, since 0;
    /// [`crate::vcpu::Power`].
    VcpuPower = 0x24, "VCPU_POWER", Vcpu, since 0;
    /// [`crate::vcpu::Identity`].
    VcpuIdentity = 0x25, "VCPU_IDENTITY", Vcpu, since 0;
    /// [`crate::memory::Extent`] and its pages.
    Memory = 0x40, "MEMORY", Any, since 0;
    /// [`crate::block::Block`]: the metadata of a block of memory.
    RamBlock = 0x41, "RAM_BLOCK", Any, since 5;
    /// The raw pages of the RAM_BLOCK before it. Its CRC covers its header alone.
    RamPages = 0x42, "RAM_PAGES", Any, since 5;
    /// [`crate::directory::DirectoryHead`]: where the blocks are.
    RamDirectory = 0x43, "RAM_DIRECTORY", AtMostOne, since 5;
    /// Zeros, so that what follows begins at a multiple of 4096. It is written with
    /// [`RecordHeader::OPTIONAL`].
    Pad = 0x44, "PAD", Any, since 5;
    /// The last record of the file, without a body.
    End = 0x7fff, "END", Guest, since 0;
] });

impl RecordType {
    /// Returns the newest minor version of the format: that of a kind, or of what the values of one
    /// may be.
    pub(crate) const fn newest_minor() -> u16 {
        let (mut newest, mut n) = (crate::virtio::TERMINALS_SINCE, 0);
        while n < Self::ALL.len() {
            if Self::ALL[n].since() > newest {
                newest = Self::ALL[n].since();
            }
            n += 1;
        }
        newest
    }

    /// Returns whether the body of a record of this kind is a sequence of registers.
    pub const fn has_registers(self) -> bool {
        !matches!(
            self,
            Self::Memory
                | Self::RamBlock
                | Self::RamPages
                | Self::RamDirectory
                | Self::Pad
                | Self::End
        )
    }

    /// Returns whether a record of this kind that a file lacks is at reset: the guest has it, and
    /// older files do not. A file has such a record only if its state is another one, so that the
    /// file is of the lowest minor that can express it.
    pub const fn is_absent_at_reset(self) -> bool {
        matches!(self.scope(), Scope::Guest) && self.since() > 0
    }
}

/// The thing that has one record of a kind. It says what the record's instance means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The guest, which has the record. The instance is 0. A file must have the record, unless [it
    /// is absent at reset](RecordType::is_absent_at_reset).
    Guest,
    /// The guest, which may have the record. The instance is 0.
    AtMostOne,
    /// Each vCPU. The instance is the index of the vCPU.
    Vcpu,
    /// No particular thing: there may be any number of records. The instance is 0.
    Any,
}

/// The header before a record's body. All numbers are little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct RecordHeader {
    /// The number of a [`RecordType`], with the bit [`RecordHeader::OPTIONAL`] if a reader may skip
    /// the record.
    pub kind: u16,
    /// The index of the vCPU to which the record belongs, or 0, as the [`Scope`] of its type says.
    pub instance: u16,
    /// Bytes of the body, without the padding to eight.
    pub length: u32,
    /// Reserved, 0.
    pub reserved: u32,
    /// CRC-32C of this header up to this field, of the body and of its padding.
    pub crc: u32,
}

const _: () = assert!(size_of::<RecordHeader>() == RecordHeader::LEN);

impl RecordHeader {
    /// Bytes of the header.
    pub const LEN: usize = 16;
    /// Bytes of the header that its own CRC covers.
    pub const COVERED: usize = 12;
    /// Bit of `kind`: a reader that does not know this type may skip the record.
    pub const OPTIONAL: u16 = 0x8000;

    /// Returns a header whose CRC is still 0.
    pub const fn new(kind: RecordType, instance: u16, length: u32) -> Self {
        Self { kind: kind as u16, instance, length, reserved: 0, crc: 0 }
    }

    /// Returns the bytes of the body with its padding.
    pub const fn padded_len(&self) -> u64 {
        (self.length as u64).next_multiple_of(8)
    }
}

/// The record of a file that an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordPlace {
    /// Number of the record in the file, from 0.
    pub index: u32,
    /// The field `kind` of the record's header.
    pub kind: u16,
    /// The field `instance` of the record's header.
    pub instance: u16,
}

impl RecordPlace {
    /// Returns whether a reader that does not know the type may skip the record.
    pub const fn is_optional(&self) -> bool {
        self.kind & RecordHeader::OPTIONAL != 0
    }

    /// Returns the type, or `None` if this version does not know it.
    pub const fn record_type(&self) -> Option<RecordType> {
        RecordType::from_number(self.kind & !RecordHeader::OPTIONAL)
    }
}

impl fmt::Display for RecordPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {} (", self.index)?;
        match self.record_type() {
            Some(known) => Name(known, self.instance).fmt(f)?,
            None => write!(f, "type {:#06x}", self.kind)?,
        }
        f.write_str(")")
    }
}

/// The type and the instance of a record, written as people read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name(pub RecordType, pub u16);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())?;
        match self.0.scope() {
            Scope::Vcpu => write!(f, ", vCPU {}", self.1),
            Scope::Guest | Scope::AtMostOne | Scope::Any => Ok(()),
        }
    }
}
