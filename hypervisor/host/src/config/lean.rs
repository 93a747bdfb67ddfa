//! What of a configuration a lean image can't serve: one without a console, a channel and a store
//! (`cargo xtask build --lean`).

use alloc::string::String;

use super::{Configuration, StoreConfig, wishes_for_a_store};
use stasis_console::text::quoted;

/// What a configuration asks for, and a lean image does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unserved {
    /// A guest's key needs a store.
    #[error(
        "guest {guest}: {key}: this image is lean, it has no store; leave the key out, or build the whole image"
    )]
    NeedsStore {
        /// The guest's name, in quotes.
        guest: String,
        /// The key.
        key: &'static str,
    },
    /// A guest waits for a command to start.
    #[error(
        "guest {guest}: autostart = false: this image is lean, nobody can start it; leave the key out, or build the whole image"
    )]
    NeedsConsole {
        /// The guest's name, in quotes.
        guest: String,
    },
    /// A guest has a second terminal.
    #[error(
        "guest {guest}: terminal: this image is lean, nobody can be attached to it; leave the key out, or build the whole image"
    )]
    NeedsAttached {
        /// The guest's name, in quotes.
        guest: String,
    },
    /// The section about the store.
    #[error(
        "[store]: this image is lean, it has no store; leave the section out, or build the whole image"
    )]
    Store,
}

/// Checks that a lean image can serve all that a configuration asks for.
///
/// # Errors
///
/// The first key that it can't serve.
pub fn check(configuration: &Configuration) -> Result<(), Unserved> {
    if configuration.store != StoreConfig::default() {
        return Err(Unserved::Store);
    }
    configuration.guests.iter().try_for_each(|guest| {
        let name = || quoted(&guest.name);
        match wishes_for_a_store(guest) {
            Some(key) => Err(Unserved::NeedsStore { guest: name(), key }),
            None if !guest.autostart => Err(Unserved::NeedsConsole { guest: name() }),
            None if guest.terminal => Err(Unserved::NeedsAttached { guest: name() }),
            None => Ok(()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DiskConfig, GuestConfig, Policy};
    use alloc::string::ToString;
    use alloc::vec;

    /// Returns what is said of a guest `a` that differs so from one of which a person has said
    /// nothing.
    fn said(change: impl FnOnce(&mut GuestConfig)) -> String {
        let mut guest = GuestConfig::new("a", "a", 1 << 20);
        change(&mut guest);
        let configuration = Configuration { guests: vec![guest], ..Default::default() };
        check(&configuration).map_or_else(|why| why.to_string(), |()| "served".to_string())
    }

    #[test]
    fn what_needs_a_store_or_a_console_is_refused_by_its_key() {
        assert_eq!(said(|_| ()), "served");
        assert_eq!(said(|guest| guest.on_crash = Policy::Restart), "served");
        let refused = |key: &str| {
            format!(
                "guest \"a\": {key}: this image is lean, it has no store; leave the key out, or build the whole image"
            )
        };
        assert_eq!(said(|guest| guest.on_crash = Policy::Resume), refused("on-crash = \"resume\""));
        assert_eq!(said(|guest| guest.on_reset = Policy::Resume), refused("on-reset = \"resume\""));
        let disk = DiskConfig { volume: "v".into(), size: 4096, from: None };
        assert_eq!(said(|guest| guest.disks.push(disk)), refused("disks"));
        assert!(
            said(|guest| guest.autostart = false).contains("autostart = false: this image is lean")
        );
        assert!(said(|guest| guest.terminal = true).contains("terminal: this image is lean"));
    }

    #[test]
    fn the_section_of_the_store_is_refused() {
        let store = StoreConfig { verify_writes: false };
        let configuration = Configuration { store, ..Default::default() };
        assert_eq!(check(&configuration), Err(Unserved::Store));
    }
}
