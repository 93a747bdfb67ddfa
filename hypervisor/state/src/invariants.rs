//! What is true of every state that a guest can bring about; checked at save and at load.
//!
//! The hypervisor relies on these, so a file that breaks one is refused. What a correct guest state
//! mostly, but not always, is, is in [`crate::warnings`].

mod device;
mod guest;
mod shared;
mod vgic;

use thiserror::Error;

use crate::{
    envelope::Name,
    error::Error,
    guest::Guest,
    header::Version,
    name::{BadName, Shown},
    records::Records,
    register::Record,
};

/// The first minor whose names obey [`crate::name`].
const NAMES_SINCE: u16 = 3;

/// What is wrong in a record.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    /// A register has a value that it cannot have.
    #[error("{register} is {found:#x}, which it cannot be: {why}")]
    Value {
        /// Its name in the table.
        register: &'static str,
        /// The value in question.
        found: u64,
        /// The rule.
        why: &'static str,
    },
    /// An element of an array has a value that it cannot have.
    #[error("{register}[{index}] is {found:#x}, which it cannot be: {why}")]
    Element {
        /// Its name in the table.
        register: &'static str,
        /// Of the element.
        index: usize,
        /// The value in question.
        found: u64,
        /// The rule.
        why: &'static str,
    },
    /// A name is none.
    #[error("{register} is {found}, which it cannot be: {why}")]
    Name {
        /// Its name in the table.
        register: &'static str,
        /// What stands there.
        found: Shown,
        /// The rule.
        why: BadName,
    },
    /// A live record's headers are not those of its table.
    #[error("the headers of its registers are damaged")]
    Damaged,
}

/// Checks everything that holds of a file of this version, in the order of the file: before 1.3 a name was anything in
/// UTF-8.
pub fn check_file(records: &Records<'_>, version: Version) -> Result<(), Error> {
    check_all_but_names(records)?;
    if version.minor < NAMES_SINCE { Ok(()) } else { check_names(records) }
}

/// Checks everything, in the order of the file.
pub fn check(records: &Records<'_>) -> Result<(), Error> {
    check_all_but_names(records)?;
    check_names(records)
}

/// Checks the number of vCPUs alone: it says which records there are.
pub(crate) fn check_nr_vcpus(guest: &Guest) -> Result<(), Error> {
    in_record(name(guest, 0), guest::nr_vcpus(guest))
}

fn check_names(records: &Records<'_>) -> Result<(), Error> {
    in_record(name(records.guest, 0), guest::name(records.guest))?;
    records.devices.visit(&mut device::Names)
}

fn in_record(name: Name, result: Result<(), Violation>) -> Result<(), Error> {
    result.map_err(|violation| Error::Invariant { name, violation })
}

fn check_all_but_names(records: &Records<'_>) -> Result<(), Error> {
    for body in records.bodies() {
        if !body.is_intact() {
            let name = Name(body.kind, body.instance);
            return in_record(name, Err(Violation::Damaged));
        }
    }
    in_record(name(records.guest, 0), guest::guest(records))?;
    in_record(name(records.clock, 0), guest::clock(records.clock))?;
    if let Some(power) = records.power {
        in_record(name(power, 0), guest::guest_power(power))?;
    }
    in_record(
        name(records.distributor, 0),
        vgic::distributor(records.distributor, *records.guest.nr_vcpus),
    )?;
    for (index, vcpu) in (0..).zip(&records.vcpus) {
        in_record(name(vcpu.core, index), guest::core(vcpu.core, vcpu.identity))?;
        in_record(name(vcpu.debug, index), guest::debug(vcpu.debug))?;
        in_record(name(vcpu.power, index), guest::power(vcpu.power))?;
        in_record(
            name(vcpu.cpu_interface, index),
            vgic::cpu_interface(vcpu.cpu_interface, records.distributor),
        )?;
    }
    records.devices.visit(&mut device::Check { guest: records.guest })
}

fn name<R: Record>(_: &R, instance: u16) -> Name {
    Name(R::TYPE, instance)
}

/// `Ok` if the rule holds for the register.
fn rule(
    holds: bool,
    register: &'static str,
    found: impl Into<u64>,
    why: &'static str,
) -> Result<(), Violation> {
    if holds {
        return Ok(());
    }
    Err(Violation::Value { register, found: found.into(), why })
}

/// `Ok` if the rule holds for each element; it is given the index.
fn each<T: Copy + Into<u64>>(
    register: &'static str,
    elements: &[T],
    why: &'static str,
    holds: impl Fn(usize, T) -> bool,
) -> Result<(), Violation> {
    for (index, &element) in elements.iter().enumerate() {
        if !holds(index, element) {
            return Err(Violation::Element { register, index, found: element.into(), why });
        }
    }
    Ok(())
}
