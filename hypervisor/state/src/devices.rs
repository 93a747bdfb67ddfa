//! The emulated devices of a guest that have a record, in one table: [`devices!`].
//!
//! Each line of the table is the source of the record's type ([`crate::RecordType`]) with its
//! number and name, of the fields of [`Devices`] and [`DeviceRecords`], of what the reader fills
//! and the writer writes, and in which order, and of the file's version. [`crate::device`] and
//! [`crate::virtio`] declare the registers of the records, and implement [`DeviceRecord`] for each:
//! what must be true of it.

use zerocopy::IntoBytes;

use crate::{
    device::{Pl011, Pl031, Pl061, SharedMemory, Watchdog},
    envelope::RecordType,
    guest::Guest,
    invariants::Violation,
    register::{Descriptor, Record},
    virtio::{GenerationId, Virtio},
};

/// Passes the table to `$macro`, behind `$before`. A line is `field: Record = TYPE number, "name",
/// scope, since minor`.
///
/// The order of the lines is that of the records in a file. A released line never changes. A new
/// line takes the next number and the next minor. The scope is `Guest` if every guest has the
/// device, and `AtMostOne` if only some have it. A record of `Guest` that came with a later minor
/// than 0 is [absent at reset](RecordType::is_absent_at_reset): every guest that was stored before
/// has it in that state.
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
            /// [`crate::device::Pl061`].
            pl061: Pl061 = DevicePl061 0x34, "DEVICE_PL061", Guest, since 4;
            /// [`crate::virtio::Virtio`].
            virtio: Virtio = DeviceVirtio 0x35, "DEVICE_VIRTIO", Guest, since 6;
            /// [`crate::virtio::GenerationId`].
            generation: GenerationId = DeviceGenerationId 0x36, "DEVICE_GENERATION_ID", AtMostOne, since 6;
        }
    };
}
pub(crate) use devices;

/// The record of a device: its registers, and the rules for every state that a guest can bring
/// about.
pub trait DeviceRecord: Record {
    /// Returns the first minor version of the format that can express the record, with the values
    /// that it has.
    fn since(&self) -> u16 {
        Self::TYPE.since()
    }

    /// Checks the record of a device of `guest`, except for names: the rule for them is younger
    /// than the format.
    ///
    /// # Errors
    ///
    /// The first value that the device cannot have.
    fn check(&self, guest: &Guest) -> Result<(), Violation>;

    /// Checks the names in the record by the rule of [`crate::name`].
    ///
    /// # Errors
    ///
    /// The first name that breaks the rule.
    fn check_names(&self) -> Result<(), Violation> {
        Ok(())
    }
}

/// A visitor of the records of a guest's devices, which gets one record after the other.
pub trait Visitor<'a> {
    /// Why the visitor wants no further record.
    type Error;

    /// Visits one record.
    ///
    /// # Errors
    ///
    /// Ends the visit.
    fn record<R: DeviceRecord>(&mut self, record: &'a R) -> Result<(), Self::Error>;
}

/// A field of [`Devices`]: a record that every guest has, or an `Option` of one that only some
/// guests have.
trait Field {
    type Record: DeviceRecord;

    /// Returns the record, to be changed. Creates it in its reset state if the guest has none.
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
        /// The records of a guest's devices, as the reader has read them.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Devices {
            $( $(#[$doc])* pub $field: owned!($Scope $Record), )*
        }

        /// References to the records of a guest's devices, for the writer: the state that the
        /// devices themselves work on.
        #[derive(Clone, Copy, Debug)]
        pub struct DeviceRecords<'a> {
            $( $(#[$doc])* pub $field: borrowed!('a $Scope $Record), )*
        }

        impl Devices {
            /// Returns the records of a guest that has every device, at reset.
            pub fn every() -> Self {
                let mut devices = Self::default();
                $( devices.$field.get_or_reset(); )*
                devices
            }

            /// Returns the records, to be written or checked.
            pub fn records(&self) -> DeviceRecords<'_> {
                DeviceRecords { $( $field: borrow!(self.$field, $Scope), )* }
            }

            /// Returns the bytes of the record of this type, into which the reader reads, and its
            /// table; `None` if the type is no device's.
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
            /// Passes each record that the guest has to `visitor`, in the order of the file, until
            /// the visitor returns an error.
            ///
            /// # Errors
            ///
            /// The error of the visitor.
            pub fn visit<V: Visitor<'a>>(&self, visitor: &mut V) -> Result<(), V::Error> {
                $( each!(self.$field, $Scope, visitor); )*
                Ok(())
            }

            /// Returns copies of the records.
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
