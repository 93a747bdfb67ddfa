//! The invariants: what is true of every state that a guest can bring about. They are checked when
//! a guest is saved and when it is loaded.
//!
//! The hypervisor relies on the invariants, so a file that breaks one is refused.
//! [`crate::warnings`] has what is true of most states, but not of all.

mod device;
mod guest;
mod machine;
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

/// The first minor version of the format in which names obey [`crate::name`].
const NAMES_SINCE: u16 = 3;

/// The rule that a record breaks.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    /// A register has a value that it cannot have.
    #[error("{register} is {found:#x}, which it cannot be: {why}")]
    Value {
        /// The register's name in the table of its record.
        register: &'static str,
        /// The value in question.
        found: u64,
        /// The rule that the value breaks.
        why: &'static str,
    },
    /// An element of an array has a value that it cannot have.
    #[error("{register}[{index}] is {found:#x}, which it cannot be: {why}")]
    Element {
        /// The register's name in the table of its record.
        register: &'static str,
        /// Index of the element.
        index: usize,
        /// The value in question.
        found: u64,
        /// The rule that the value breaks.
        why: &'static str,
    },
    /// A register that must hold a name holds something else.
    #[error("{register} is {found}, which it cannot be: {why}")]
    Name {
        /// The register's name in the table of its record.
        register: &'static str,
        /// The bytes in the register.
        found: Shown,
        /// The rule that they break.
        why: BadName,
    },
    /// A record in memory has other register headers than its table says.
    #[error("the headers of its registers are damaged")]
    Damaged,
}

/// Checks all invariants of a file of this version, in the order of the file. Before version 1.3, a
/// name was any text in UTF-8, so names in such files are not checked.
///
/// # Errors
///
/// [`Error::Invariant`] with the first rule that is broken.
pub fn check_file(records: &Records<'_>, version: Version) -> Result<(), Error> {
    check_all_but_names(records)?;
    if version.minor < NAMES_SINCE { Ok(()) } else { check_names(records) }
}

/// Checks all invariants of the newest version, in the order of the file.
///
/// # Errors
///
/// [`Error::Invariant`] with the first rule that is broken.
pub fn check(records: &Records<'_>) -> Result<(), Error> {
    check_all_but_names(records)?;
    check_names(records)
}

/// Checks the number of vCPUs alone, which decides what records there must be.
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
    if let Some(lineage) = records.lineage {
        in_record(name(lineage, 0), guest::lineage(lineage))?;
    }
    if let Some(machine) = records.machine {
        in_record(name(machine, 0), machine::machine(machine))?;
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

/// Returns `Ok` if the rule `holds`, else the violation with the value that was `found`.
pub(crate) fn rule(
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

/// Returns `Ok` if the rule holds for each element, else the violation of the first that breaks it.
/// `holds` gets an index and its element.
pub(crate) fn each<T: Copy + Into<u64>>(
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
