//! The invariants of the records of devices.

use crate::{
    device::{PL011_FIFO, Pl011, Pl031, SharedMemory, Watchdog},
    devices::{DeviceRecord, Visitor},
    error::Error,
    guest::Guest,
};

use super::{Violation, each, in_record, name, rule, shared};

type Result<E = Violation> = core::result::Result<(), E>;

/// A visitor that checks each record, except for the names in it.
pub(super) struct Check<'a> {
    /// The guest that has the devices.
    pub guest: &'a Guest,
}

impl Visitor<'_> for Check<'_> {
    type Error = Error;

    fn record<R: DeviceRecord>(&mut self, record: &R) -> Result<Error> {
        in_record(name(record, 0), record.check(self.guest))
    }
}

/// A visitor that checks the names in each record.
pub(super) struct Names;

impl Visitor<'_> for Names {
    type Error = Error;

    fn record<R: DeviceRecord>(&mut self, record: &R) -> Result<Error> {
        in_record(name(record, 0), record.check_names())
    }
}

impl DeviceRecord for Pl011 {
    fn check(&self, _: &Guest) -> Result {
        let count = *self.rx_count;
        let fits = usize::from(count) <= PL011_FIFO;
        rule(fits, "rx_count", count, "the FIFO has 16 entries")?;
        let why = "it has a byte and four flags";
        each("rx_fifo", &self.rx_fifo[..], why, |_, entry| entry <= 0xfff)
    }
}

impl DeviceRecord for Pl031 {
    /// Checks nothing: a guest can bring about every value of this record.
    fn check(&self, _: &Guest) -> Result {
        Ok(())
    }
}

impl DeviceRecord for Watchdog {
    fn check(&self, _: &Guest) -> Result {
        let wcs = *self.wcs;
        rule(wcs & !0b111 == 0, "wcs", wcs, "it has three bits")
    }
}

impl DeviceRecord for SharedMemory {
    fn check(&self, guest: &Guest) -> Result {
        shared::shared(self, guest)
    }

    fn check_names(&self) -> Result {
        shared::names(self)
    }
}
