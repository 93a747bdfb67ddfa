//! A register of the saved state, as it stands in memory and, byte for byte, in the file.
//!
//! A record's body is a sequence of registers, each a [`RegHeader`] followed by its value, padded to
//! eight bytes. [`record!`](crate::record) declares such a body as a `#[repr(C)]` struct whose headers
//! are part of it. So the struct that the hypervisor works on *is* the body of the record: a
//! checkpoint writes [`zerocopy::IntoBytes::as_bytes`] of it, and there is no second representation
//! that could forget a field. `docs/format.md` specifies the encoding.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What precedes every register's value in a record's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct RegHeader {
    /// Which register this is, within its kind of record. A shipped id never changes its meaning.
    pub id: u16,
    /// Bytes of one element: 1, 2, 4, 8 or 16.
    pub width: u8,
    /// [`RegHeader::OPTIONAL`] or 0; the other bits are reserved and 0.
    pub flags: u8,
    /// Index of the first element that follows; an array may be stored in part.
    pub first: u16,
    /// Number of elements that follow.
    pub count: u16,
}

impl RegHeader {
    /// Flag: a reader that does not know this id may skip it whatever its value is.
    pub const OPTIONAL: u8 = 1;

    /// The header of a register stored whole.
    pub const fn new(id: u16, shape: Shape) -> Self {
        Self { id, width: shape.width, flags: 0, first: 0, count: shape.count }
    }

    /// Bytes of the value that follows, without its padding.
    pub const fn value_len(&self) -> usize {
        self.width as usize * self.count as usize
    }
}

/// Element width in bytes, and number of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of one element.
    pub width: u8,
    /// Number of elements.
    pub count: u16,
}

/// A type that can be a register's value.
pub trait Value {
    /// The shape that stands in the register's header.
    const SHAPE: Shape;
}

macro_rules! scalar_values {
    ($($t:ty),*) => { $(
        impl Value for $t {
            const SHAPE: Shape = Shape { width: size_of::<$t>() as u8, count: 1 };
        }
        impl<const N: usize> Value for [$t; N] {
            const SHAPE: Shape = Shape { width: size_of::<$t>() as u8, count: N as u16 };
        }
    )* };
}
scalar_values!(u8, u16, u32, u64);

/// A 128-bit vector register, low half first.
pub type Vector = [u64; 2];

impl<const N: usize> Value for [Vector; N] {
    const SHAPE: Shape = Shape { width: 16, count: N as u16 };
}

/// What a record's table says of one of its registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The id in the register's header.
    pub id: u16,
    /// Its name in `docs/format.md`, in lower case.
    pub name: &'static str,
    /// Width and count of the whole register.
    pub shape: Shape,
    /// Where the register's header stands in the record's body, in bytes.
    pub offset: usize,
    /// Where the register is while its vCPU is loaded on a core.
    pub home: Home,
}

/// Where a register of a guest is while its vCPU is loaded on a core. At all other times it is in its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// In its record: EL2 emulates it, or works on the record.
    Record,
    /// In its record, although the CPU has a register of that name, for the reason given.
    Kept(&'static str),
    /// In the general registers and SPSR_EL2 and ELR_EL2 while the guest runs: each exit saves it, and each entry loads it.
    Entry,
    /// In the system register of its name. The world switch saves and loads it.
    Switch,
    /// In the system register of its name, which says how EL1's stage 1 translates. The world switch loads it when all others are loaded.
    Regime,
    /// In the generic timer, which stops when it is saved.
    Timer,
    /// In the FP and SIMD registers.
    Fp,
    /// In the debug registers, as long as these are lent to the guest; else in its record.
    Lent,
}

impl Descriptor {
    /// The register's header.
    pub const fn header(&self) -> RegHeader {
        RegHeader::new(self.id, self.shape)
    }
}

/// A kind of record whose body is a table of registers.
pub trait Record: FromBytes + IntoBytes + KnownLayout + Immutable + Clone {
    /// The type in the record's header.
    const TYPE: crate::RecordType;
    /// Every register of the body, in the order in which they are written.
    const REGISTERS: &'static [Descriptor];

    /// The body at reset; also what a register has that is absent from a file.
    fn reset() -> Self;
}

/// Writes the header of each of a record's registers, by its table: less code than each record's own.
pub(crate) fn write_headers(record: &mut (impl IntoBytes + FromBytes), registers: &[Descriptor]) {
    let bytes = record.as_mut_bytes();
    for register in registers {
        bytes[register.offset..][..VALUE_OFFSET].copy_from_slice(register.header().as_bytes());
    }
}

/// Bytes that fill a value of `len` bytes up to a multiple of eight.
pub const fn padding(len: usize) -> usize {
    len.next_multiple_of(8) - len
}

/// Declares a record: its registers as a `#[repr(C)]` struct and as a table.
///
/// Each line is `name: type = id` with an optional `, reset value` and an optional `, home where`, a [`Home`](crate::register::Home) in
/// lower case. The registers of `Foo` read as `*foo.name` (or `foo.name[i]`) and are written the same way. The value stands
/// [`VALUE_OFFSET`](crate::register::VALUE_OFFSET) bytes behind the field's own offset, for assembly.
#[macro_export]
macro_rules! record {
    (
        $(#[$meta:meta])*
        pub struct $Record:ident in $module:ident: $TYPE:ident {
            $( $(#[$doc:meta])* $name:ident: $ty:ty = $id:expr
                $(, reset $reset:expr)? $(, home $home:ident $(($why:literal))?)?; )*
        }
    ) => {
        #[doc = concat!("The registers of [`", stringify!($Record), "`], one type each.")]
        pub mod $module {
            $(
                $(#[$doc])*
                pub mod $name {
                    #[allow(unused_imports)]
                    use super::super::*;
                    use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

                    /// The register with its header, as it stands in the record.
                    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
                    #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
                    #[repr(C)]
                    pub struct Reg {
                        header: $crate::RegHeader,
                        /// The value alone.
                        pub value: $ty,
                        padding: [u8; $crate::register::padding(size_of::<$ty>())],
                    }

                    impl core::ops::Deref for Reg {
                        type Target = $ty;
                        #[inline(always)]
                        fn deref(&self) -> &$ty {
                            &self.value
                        }
                    }

                    impl core::ops::DerefMut for Reg {
                        #[inline(always)]
                        fn deref_mut(&mut self) -> &mut $ty {
                            &mut self.value
                        }
                    }

                    const _: () = assert!(
                        core::mem::offset_of!(Reg, value) == $crate::register::VALUE_OFFSET
                    );
                }
            )*
        }

        $(#[$meta])*
        #[derive(Debug, PartialEq, Eq)]
        #[derive(
            zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable,
        )]
        #[repr(C)]
        pub struct $Record {
            $( $(#[$doc])* pub $name: $module::$name::Reg, )*
        }

        impl $crate::register::Record for $Record {
            const TYPE: $crate::RecordType = $crate::RecordType::$TYPE;
            const REGISTERS: &'static [$crate::register::Descriptor] = &[ $(
                $crate::register::Descriptor {
                    id: $id,
                    name: stringify!($name),
                    shape: <$ty as $crate::register::Value>::SHAPE,
                    offset: core::mem::offset_of!($Record, $name),
                    home: $crate::home!($($home $($why)?)?),
                },
            )* ];

            fn reset() -> Self {
                // The reader has a bit for each.
                const { assert!($Record::REGISTERS.len() <= u64::BITS as usize) };
                let mut record: Self = zerocopy::FromZeros::new_zeroed();
                $crate::register::write_headers(&mut record, Self::REGISTERS);
                $( $( *record.$name = $reset; )? )*
                record
            }
        }

        // As bytes: registers one by one would be much code.
        impl Clone for $Record {
            fn clone(&self) -> Self {
                let mut copy: Self = zerocopy::FromZeros::new_zeroed();
                zerocopy::IntoBytes::as_mut_bytes(&mut copy)
                    .copy_from_slice(zerocopy::IntoBytes::as_bytes(self));
                copy
            }
        }

        impl Default for $Record {
            fn default() -> Self {
                <Self as $crate::register::Record>::reset()
            }
        }
    };
}

/// Returns the [`Home`] that a line of [`record!`](crate::record) names.
#[doc(hidden)]
#[macro_export]
macro_rules! home {
    () => {
        $crate::register::Home::Record
    };
    (kept $why:literal) => {
        $crate::register::Home::Kept($why)
    };
    (entry) => {
        $crate::register::Home::Entry
    };
    (switch) => {
        $crate::register::Home::Switch
    };
    (regime) => {
        $crate::register::Home::Regime
    };
    (timer) => {
        $crate::register::Home::Timer
    };
    (fp) => {
        $crate::register::Home::Fp
    };
    (lent) => {
        $crate::register::Home::Lent
    };
}

/// Where a register's value stands, in bytes from the register's own offset in its record.
pub const VALUE_OFFSET: usize = size_of::<RegHeader>();
