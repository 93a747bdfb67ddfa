//! The emulated devices of a guest that have a record, in one table: [`devices!`].
//!
//! From a line of the table come the record's type ([`crate::RecordType`]) with its number and name, the fields of [`Devices`] and
//! [`DeviceRecords`], what the reader fills, what the writer writes and in which order, and the file's version. What is in a record
//! is declared in [`crate::device`], and what must be true of it is its [`DeviceRecord`], in [`crate::invariants`].

use zerocopy::IntoBytes;

use crate::{
    device::{Pl011, Pl031, SharedMemory, Watchdog},
    envelope::RecordType,
    guest::Guest,
    invariants::Violation,
    register::{Descriptor, Record},
};

/// Hands the table to `$macro`, behind `$before`. A line is `field: Record = TYPE number, "name", scope, since minor`.
///
/// The order is that of the records in a file. A released line never changes; a new one takes the next number, and the next minor.
macro_rules! devices {
    ($macro:ident! { $($before:tt)* }) => {
        $macro! { $($before)*
            /// [`crate::device::Pl011`].
            pl011: Pl011 = DevicePl011 0x30, "DEVICE_PL011", Guest, since 0;
            /// [`crate::device::Pl031`].
            pl031: Pl031 = DevicePl031 0x31, "DEVICE_PL031", Guest, since 0;
            /// [`crate::device::Watchdog`].
            watchdog: Watchdog = DeviceWatchdog 0x32, "DEVICE_WATCHDOG", AtMostOne, since 1;
            /// [`crate::device::SharedMemory`].
            shared: SharedMemory = DeviceSharedMemory 0x33, "DEVICE_SHARED_MEMORY", AtMostOne, since 2;
        }
    };
}
pub(crate) use devices;

/// A device's record: its registers, and what is true of them in every state that a guest can bring about.
pub trait DeviceRecord: Record {
    /// Checks the record of the device of `guest`, but for names, whose rule is younger than the format. A value that it cannot have
    /// is an error.
    fn check(&self, guest: &Guest) -> Result<(), Violation>;

    /// Checks the names in the record, by the rule of [`crate::name`].
    fn check_names(&self) -> Result<(), Violation> {
        Ok(())
    }
}

/// Is shown the records of a guest's devices, one after the other.
pub trait Visitor<'a> {
    /// Why it wants to see no more of them.
    type Error;

    /// Sees a record.
    fn record<R: DeviceRecord>(&mut self, record: &'a R) -> Result<(), Self::Error>;
}

/// A field of [`Devices`]: a record that every guest has, or one that a guest may have.
trait Field {
    type Record: DeviceRecord;

    /// Returns the record, to be changed. A guest that has none gets one, at reset.
    fn get_or_reset(&mut self) -> &mut Self::Record;
}

impl<R: DeviceRecord> Field for R {
    type Record = R;

    fn get_or_reset(&mut self) -> &mut R {
        self
    }
}

impl<R: DeviceRecord + Default> Field for Option<R> {
    type Record = R;

    fn get_or_reset(&mut self) -> &mut R {
        self.get_or_insert_default()
    }
}

macro_rules! structs {
    ($(
        $(#[$doc:meta])*
        $field:ident: $Record:ident = $Type:ident $number:literal, $name:literal, $Scope:ident, since $minor:literal;
    )*) => {
        /// The records of a guest's devices, as they were read.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Devices {
            $( $(#[$doc])* pub $field: owned!($Scope $Record), )*
        }

        /// The records of a guest's devices, to be written: the working state itself.
        #[derive(Clone, Copy, Debug)]
        pub struct DeviceRecords<'a> {
            $( $(#[$doc])* pub $field: borrowed!('a $Scope $Record), )*
        }

        impl Devices {
            /// Returns the devices of a guest that has every one that there is, at reset.
            pub fn every() -> Self {
                let mut devices = Self::default();
                $( devices.$field.get_or_reset(); )*
                devices
            }

            /// Returns the records, to be written or checked.
            pub fn records(&self) -> DeviceRecords<'_> {
                DeviceRecords { $( $field: borrow!(self.$field, $Scope), )* }
            }

            /// Returns the bytes of the record of this type, to be read into, and its table; None if it is no device's.
            pub(crate) fn body(
                &mut self,
                kind: RecordType,
            ) -> Option<(&mut [u8], &'static [Descriptor])> {
                Some(match kind {
                    $( RecordType::$Type => {
                        let record = self.$field.get_or_reset();
                        (record.as_mut_bytes(), $Record::REGISTERS)
                    } )*
                    _ => return None,
                })
            }
        }

        impl<'a> DeviceRecords<'a> {
            /// Shows `visitor` the records that there are, in the order of the file, until it returns an error.
            pub fn visit<V: Visitor<'a>>(&self, visitor: &mut V) -> Result<(), V::Error> {
                $( each!(self.$field, $Scope, visitor); )*
                Ok(())
            }

            /// Returns copies.
            pub fn to_owned(&self) -> Devices {
                Devices { $( $field: copied!(self.$field, $Scope), )* }
            }
        }
    };
}

macro_rules! owned {
    (Guest $Record:ident) => { $Record };
    (AtMostOne $Record:ident) => { Option<$Record> };
}

macro_rules! borrowed {
    ($life:lifetime Guest $Record:ident) => { &$life $Record };
    ($life:lifetime AtMostOne $Record:ident) => { Option<&$life $Record> };
}

macro_rules! borrow {
    ($field:expr, Guest) => {
        &$field
    };
    ($field:expr, AtMostOne) => {
        $field.as_ref()
    };
}

macro_rules! copied {
    ($field:expr, Guest) => {
        $field.clone()
    };
    ($field:expr, AtMostOne) => {
        $field.cloned()
    };
}

macro_rules! each {
    ($field:expr, Guest, $visitor:ident) => {
        $visitor.record($field)?
    };
    ($field:expr, AtMostOne, $visitor:ident) => {
        if let Some(record) = $field {
            $visitor.record(record)?;
        }
    };
}

devices!(structs! {});
