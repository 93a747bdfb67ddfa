//! All devices that a guest is given, against those of other guests, and what a person should know
//! of them.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use dtoolkit::fdt::Fdt;

use super::grant::{GrantError, grant};
use super::own::Own;
use crate::config::GuestConfig;
use stasis_guest::given::{Clash, Given, Grant, TooMuch, lay_out};

/// Why a guest is not given its devices.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GiveError {
    /// One of them can't be given at all.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// The devices do not fit into the guest's map.
    #[error(transparent)]
    TooMuch(#[from] TooMuch),
    /// Another guest has one of them.
    #[error("guest \"{guest}\" has {clash} already")]
    Taken {
        /// The other guest's name.
        guest: String,
        /// What it has.
        clash: Clash,
    },
}

/// What a person should know of devices that are given away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remark {
    /// A device comes without the properties that name other nodes.
    LeftOut {
        /// The device's path.
        path: String,
        /// The properties' names.
        properties: Vec<String>,
    },
    /// Devices access all of the machine's memory.
    Trusted {
        /// The devices' paths.
        paths: Vec<String>,
    },
}

impl fmt::Display for Remark {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeftOut { path, properties } => write!(
                out,
                ": device \"{path}\" comes without {}, which refer to others",
                properties.join(", ")
            ),
            Self::Trusted { paths } => write!(
                out,
                " is trusted: it can reach all of the machine's memory by {}",
                paths.join(", ")
            ),
        }
    }
}

/// Looks at the devices that a guest is configured with, on the machine of this device tree.
/// `others` are the other guests, with what they have.
///
/// # Errors
///
/// [`GiveError`] for the first rule that forbids it.
pub fn give<'a>(
    fdt: Fdt<'_>,
    config: &GuestConfig,
    own: &Own,
    others: impl Iterator<Item = (&'a str, &'a Given)>,
) -> Result<Given, GiveError> {
    let grants = config.devices.iter().map(|device| grant(fdt, device, config, own));
    let given = lay_out(grants.collect::<Result<Vec<Grant>, _>>()?)?;
    check_others(&given, &config.name, others)?;
    Ok(given)
}

/// Checks that nothing of what the guest with the name `name` is `given` is another guest's.
/// `others` are the guests, with what they have.
///
/// # Errors
///
/// [`GiveError::Taken`] with the first guest that has something of it.
pub fn check_others<'a>(
    given: &Given,
    name: &str,
    others: impl Iterator<Item = (&'a str, &'a Given)>,
) -> Result<(), GiveError> {
    for (guest, theirs) in others.filter(|(guest, _)| *guest != name) {
        if let Some(clash) = given.clash(theirs) {
            return Err(GiveError::Taken { guest: guest.into(), clash });
        }
    }
    Ok(())
}

/// Returns what a person should know of these devices.
pub fn remarks(given: &Given) -> Vec<Remark> {
    let grants = || given.devices.iter().map(|device| &device.grant);
    let left_out = grants().filter(|grant| !grant.left_out.is_empty()).map(|grant| {
        Remark::LeftOut { path: grant.path.clone(), properties: grant.left_out.clone() }
    });
    let masters = grants().filter(|grant| grant.bus_master);
    let paths: Vec<String> = masters.map(|grant| grant.path.clone()).collect();
    let trusted = (!paths.is_empty()).then_some(Remark::Trusted { paths });
    left_out.chain(trusted).collect()
}
