//! The visitors that check the records of devices. Each record implements its own rules, in
//! [`crate::device`].

use crate::{
    devices::{DeviceRecord, Visitor},
    error::Error,
    guest::Guest,
};

use super::{in_record, name};

/// A visitor that checks each record, except for the names in it.
pub(super) struct Check<'a> {
    /// The guest that has the devices.
    pub guest: &'a Guest,
}

impl Visitor<'_> for Check<'_> {
    type Error = Error;

    fn record<R: DeviceRecord>(&mut self, record: &R) -> Result<(), Error> {
        in_record(name(record, 0), record.check(self.guest))
    }
}

/// A visitor that checks the names in each record.
pub(super) struct Names;

impl Visitor<'_> for Names {
    type Error = Error;

    fn record<R: DeviceRecord>(&mut self, record: &R) -> Result<(), Error> {
        in_record(name(record, 0), record.check_names())
    }
}
