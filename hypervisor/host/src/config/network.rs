//! What a person says of a network: the card of the machine that is its uplink.

use alloc::string::String;

use stasis_state::name::{self, BadName};

use super::Configuration;
use super::property::PropertyProblem;
use stasis_console::text::quoted;

/// The most networks that can have an uplink.
pub const MAX_UPLINKS: usize = 2;

/// A network of which something is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// The network's name, by which guests have a card in it.
    pub name: String,
    /// The machine's network card by which it is connected to the outside: its path in the
    /// machine's device tree, or an alias there.
    pub uplink: Option<String>,
}

/// What can be wrong with a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkProblem {
    /// A property is missing, unknown or of another type.
    #[error(transparent)]
    Property(#[from] PropertyProblem),
    /// The network can't be called so.
    #[error(transparent)]
    Name(BadName),
    /// Two networks have the same name.
    #[error("another network has the same name")]
    Duplicate,
    /// An uplink that nothing can be called.
    #[error("uplink {} is neither a path, such as \"/virtio_mmio@a003a00\", nor an alias", quoted(.0))]
    Uplink(String),
    /// A card would have two networks.
    #[error("uplink {} is that of another network", quoted(.0))]
    Twice(String),
    /// A guest has the card.
    #[error("uplink {} is given to guest {}", quoted(.uplink), quoted(.guest))]
    Given {
        /// The card.
        uplink: String,
        /// The guest.
        guest: String,
    },
    /// More uplinks than there is memory for.
    #[error("more than {MAX_UPLINKS} uplinks are not possible")]
    TooMany,
}

impl NetworkProblem {
    /// Returns the key of the written configuration that is wrong.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Property(_) | Self::Name(_) | Self::Duplicate => "name",
            Self::Uplink(_) | Self::Twice(_) | Self::Given { .. } | Self::TooMany => "uplink",
        }
    }
}

/// Checks network `index` of `configuration`'s.
pub(super) fn check(index: usize, configuration: &Configuration) -> Result<(), NetworkProblem> {
    let (before, network) = (&configuration.networks[..index], &configuration.networks[index]);
    name::check(&network.name).map_err(NetworkProblem::Name)?;
    if before.iter().any(|other| other.name == network.name) {
        return Err(NetworkProblem::Duplicate);
    }
    let Some(uplink) = &network.uplink else { return Ok(()) };
    if !is_device(uplink) {
        return Err(NetworkProblem::Uplink(uplink.clone()));
    }
    let others = || before.iter().filter_map(|other| other.uplink.as_ref());
    if others().any(|other| other == uplink) {
        return Err(NetworkProblem::Twice(uplink.clone()));
    }
    if others().count() == MAX_UPLINKS {
        return Err(NetworkProblem::TooMany);
    }
    match configuration.guests.iter().find(|guest| guest.devices.contains(uplink)) {
        Some(guest) => {
            Err(NetworkProblem::Given { uplink: uplink.clone(), guest: guest.name.clone() })
        }
        None => Ok(()),
    }
}

/// Returns whether something is a path in a device tree, or an alias.
pub(super) fn is_device(name: &str) -> bool {
    let of_path = |c: char| c.is_ascii_graphic() && c != '"';
    let of_alias = |c: char| c.is_ascii_alphanumeric() || c == '-';
    match name.strip_prefix('/') {
        Some(path) => !path.is_empty() && path.chars().all(of_path),
        None => !name.is_empty() && name.chars().all(of_alias),
    }
}
