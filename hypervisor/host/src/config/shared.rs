//! Memory that several guests share: its name, its size and whose it is.
//!
//! [`stasis_guest::shared`] says where each guest finds it.

use alloc::string::String;

use stasis_state::device::{MAX_PEERS, MAX_SHARED};
use stasis_state::name::{self, BadName};

use super::Configuration;
use super::property::PropertyProblem;
use stasis_console::text::quoted;
use stasis_devices::machine::SHARED_STRIDE;

/// Bytes that a region is made of: stage 2's pages.
const PAGE: u64 = 4096;

/// What can be wrong with a region.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SharedProblem {
    /// A property is missing, unknown or of another type.
    #[error(transparent)]
    Property(#[from] PropertyProblem),
    /// The region's name is none that a guest could have, either.
    #[error(transparent)]
    Name(BadName),
    /// Two regions have the same name.
    #[error("another region has the same name")]
    Duplicate,
    /// A size that can't be mapped, or there is no room for.
    #[error("a size of {0} bytes is not a multiple of 4 KiB, from 4 KiB to 128 MiB")]
    Size(u64),
    /// Nobody to share it with, or too many.
    #[error("{0} guests are not possible; 2 to {MAX_PEERS} are")]
    Guests(usize),
    /// Nobody of that name.
    #[error("there is no guest {}", quoted(.0))]
    NoSuchGuest(String),
    /// A guest has two numbers.
    #[error("guest {} is named twice", quoted(.0))]
    Twice(String),
    /// The region would begin where the one before it ends, which the checkpoint format does not
    /// allow.
    #[error(
        "guest {} shares {} of 128 MiB before it, and so could never be stored; make that 4 KiB smaller, or its last", quoted(.guest), quoted(.region)
    )]
    NoGap {
        /// The guest that has both.
        guest: String,
        /// The region that is too large.
        region: String,
    },
    /// A guest has no place for it.
    #[error("guest {} shares more than {MAX_SHARED} regions", quoted(.0))]
    TooMany(String),
}

impl SharedProblem {
    /// Returns the key of the written configuration that is wrong.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Property(_) | Self::Name(_) | Self::Duplicate => "name",
            Self::Size(_) => "size",
            Self::Guests(_)
            | Self::NoSuchGuest(_)
            | Self::Twice(_)
            | Self::TooMany(_)
            | Self::NoGap { .. } => "guests",
        }
    }
}

/// Checks region `index` of `configuration`'s.
pub(super) fn check(index: usize, configuration: &Configuration) -> Result<(), SharedProblem> {
    let (before, region) = (&configuration.shared[..index], &configuration.shared[index]);
    name::check(&region.name).map_err(SharedProblem::Name)?;
    if before.iter().any(|other| other.name == region.name) {
        return Err(SharedProblem::Duplicate);
    }
    if !region.size.is_multiple_of(PAGE) || !(PAGE..=SHARED_STRIDE).contains(&region.size) {
        return Err(SharedProblem::Size(region.size));
    }
    if !(2..=MAX_PEERS).contains(&region.guests.len()) {
        return Err(SharedProblem::Guests(region.guests.len()));
    }
    for (number, name) in region.guests.iter().enumerate() {
        if configuration.guests.iter().all(|guest| guest.name != *name) {
            return Err(SharedProblem::NoSuchGuest(name.clone()));
        }
        if region.guests[..number].contains(name) {
            return Err(SharedProblem::Twice(name.clone()));
        }
        if before.iter().filter(|other| other.guests.contains(name)).count() == MAX_SHARED {
            return Err(SharedProblem::TooMany(name.clone()));
        }
        let mut earlier = before.iter().filter(|other| other.guests.contains(name));
        if let Some(large) = earlier.find(|other| other.size == SHARED_STRIDE) {
            let (guest, region) = (name.clone(), large.name.clone());
            return Err(SharedProblem::NoGap { guest, region });
        }
    }
    Ok(())
}
