//! A register of the saved state. Its form in memory is byte for byte its form in the file.
//!
//! A record's body is a sequence of registers. Each is a [`RegHeader`] and its value, padded to
//! eight bytes. [`record!`](crate::record) declares such a body as a `#[repr(C)]` struct that
//! contains the headers. So the struct that the hypervisor works on *is* the body of the record: a
//! checkpoint writes [`zerocopy::IntoBytes::as_bytes`] of it, and there is no second representation
//! that could lack a field. `docs/format.md` specifies the encoding.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The header before each register's value in a record's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct RegHeader {
    /// The register's id, unique among the records of one kind. An id that was released never
    /// changes its meaning.
    pub id: u16,
    /// Bytes of one element: 1, 2, 4, 8 or 16.
    pub width: u8,
    /// [`RegHeader::OPTIONAL`] or 0; the other bits are reserved and 0.
    pub flags: u8,
    /// Index of the first element that follows. An array may be stored in part.
    pub first: u16,
    /// Number of elements that follow.
    pub count: u16,
}

impl RegHeader {
    /// Flag in [`RegHeader::flags`]: a reader that does not know the id may skip the register,
    /// whatever its value is.
    pub const OPTIONAL: u8 = 1;

    /// Returns the header of a register that is stored whole.
    pub const fn new(id: u16, shape: Shape) -> Self {
        Self { id, width: shape.width, flags: 0, first: 0, count: shape.count }
    }

    /// Returns the bytes of the value that follows, without its padding.
    pub const fn value_len(&self) -> usize {
        self.width as usize * self.count as usize
    }
}

/// The size of a register's value: the width of an element and the number of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of one element.
    pub width: u8,
    /// Number of elements.
    pub count: u16,
}

/// A type that can be a register's value.
pub trait Value {
    /// The width and the number of elements that the register's header states.
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

/// One line of a record's table: what is known of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The id in the register's header.
    pub id: u16,
    /// The register's name in `docs/format.md`, in lower case.
    pub name: &'static str,
    /// Width and number of elements of the whole register.
    pub shape: Shape,
    /// Offset of the register's header in the record's body, in bytes.
    pub offset: usize,
    /// The place of the register while its vCPU is loaded on a core.
    pub home: Home,
}

/// The place of a guest's register while its vCPU is loaded on a core. While the vCPU is not
/// loaded, the register is in its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// The register is in its record, for this reason: no CPU has it.
    Record(&'static str),
    /// The register is in its record for this reason, although the CPU has a register of that name.
    Kept(&'static str),
    /// The register is in a general register, SPSR_EL2 or ELR_EL2 while the guest runs. Each exit
    /// saves it, and each entry loads it.
    Entry,
    /// The register is in the system register of its name. The world switch saves and loads it.
    Switch,
    /// The register is in the system register of its name, which says how EL1's stage 1 translates.
    /// The world switch loads it after all others.
    Regime,
    /// The register is in the generic timer, which stops when the register is saved.
    Timer,
    /// The register is in the FP and SIMD registers.
    Fp,
    /// The register is in the debug registers while these are lent to the guest, otherwise in its
    /// record.
    Lent,
    /// The register is in this register of EL2's own, or in a bit of one, which acts on the loaded
    /// guest. Loading the vCPU writes it.
    El2(&'static str),
    /// The register is in its record, on which the virtual GIC works. What list registers,
    /// GICH_VMCR and GICH_APR have of it is there, until the vGIC folds it into the record.
    Gic,
}

impl Descriptor {
    /// Returns the register's header, as it stands in every record of this kind in memory.
    pub const fn header(&self) -> RegHeader {
        RegHeader::new(self.id, self.shape)
    }
}

/// A kind of record whose body is a table of registers.
pub trait Record: FromBytes + IntoBytes + KnownLayout + Immutable + Clone {
    /// The kind of the record, as its header in the file states it.
    const TYPE: crate::RecordType;
    /// Every register of the body, in the order of the body.
    const REGISTERS: &'static [Descriptor];

    /// Returns the body at reset. A register that is absent from a file has this value.
    fn reset() -> Self;

    /// Returns whether a file lacks the record, because it is [absent at
    /// reset](crate::RecordType::is_absent_at_reset), and at reset.
    fn is_absent(&self) -> bool {
        Self::TYPE.is_absent_at_reset() && self.as_bytes() == Self::reset().as_bytes()
    }
}

/// Writes the header of each register of a record, from its table. That is less code than a
/// function for each kind of record.
pub(crate) fn write_headers(record: &mut (impl IntoBytes + FromBytes), registers: &[Descriptor]) {
    let bytes = record.as_mut_bytes();
    for register in registers {
        bytes[register.offset..][..VALUE_OFFSET].copy_from_slice(register.header().as_bytes());
    }
}

/// Returns the number of bytes that pad a value of `len` bytes to a multiple of eight.
pub const fn padding(len: usize) -> usize {
    len.next_multiple_of(8) - len
}

/// Declares a record: a `#[repr(C)]` struct of its registers, and the table of them.
///
/// Each line is `name: type = id` with an optional `, reset value` and a `, home where`, a
/// [`Home`](crate::register::Home) in lower case. Where all registers of a record are in one place,
/// the record's first line says so instead: `, home (where)`. Code reads and writes the registers
/// of a `Foo` as `*foo.name` (or `foo.name[i]`). Assembly finds the value
/// [`VALUE_OFFSET`](crate::register::VALUE_OFFSET) bytes behind the field's own offset.
#[macro_export]
macro_rules! record {
    (
        $(#[$meta:meta])*
        pub struct $Record:ident in $module:ident: $TYPE:ident {
            $( $(#[$doc:meta])* $name:ident: $ty:ty = $id:expr
                $(, reset $reset:expr)?, home $home:ident $(($why:literal))?; )*
        }
    ) => {
        $crate::record! { @
            $(#[$meta])*
            pub struct $Record in $module: $TYPE {
                $( $(#[$doc])* $name: $ty = $id
                    $(, reset $reset)?, [$crate::home!($home $($why)?)]; )*
            }
        }
    };
    (
        $(#[$meta:meta])*
        pub struct $Record:ident in $module:ident: $TYPE:ident, home $home:tt {
            $( $(#[$doc:meta])* $name:ident: $ty:ty = $id:expr $(, reset $reset:expr)?; )*
        }
    ) => {
        $crate::record! { @
            $(#[$meta])*
            pub struct $Record in $module: $TYPE {
                $( $(#[$doc])* $name: $ty = $id $(, reset $reset)?, [$crate::home! $home]; )*
            }
        }
    };
    (@
        $(#[$meta:meta])*
        pub struct $Record:ident in $module:ident: $TYPE:ident {
            $( $(#[$doc:meta])* $name:ident: $ty:ty = $id:expr
                $(, reset $reset:expr)?, [$home:expr]; )*
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

                    /// The register with its header, as in the record.
                    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
                    #[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
                    #[repr(C)]
                    pub struct Reg {
                        header: $crate::RegHeader,
                        /// The register's value.
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
                    home: $home,
                },
            )* ];

            fn reset() -> Self {
                // The reader keeps one bit of a u64 for each register that it has seen.
                const { assert!($Record::REGISTERS.len() <= u64::BITS as usize) };
                let mut record: Self = zerocopy::FromZeros::new_zeroed();
                $crate::register::write_headers(&mut record, Self::REGISTERS);
                $( $( *record.$name = $reset; )? )*
                record
            }
        }

        // Copies the bytes as a whole: to copy register by register would be much code.
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
    (record $why:literal) => {
        $crate::register::Home::Record($why)
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
    (el2 $register:literal) => {
        $crate::register::Home::El2($register)
    };
    (gic) => {
        $crate::register::Home::Gic
    };
}

/// Offset of a register's value from the register's own offset in its record, in bytes.
pub const VALUE_OFFSET: usize = size_of::<RegHeader>();
