//! Which guest can be cloned, under which name. What its clone does then,
//! [`RunState::of_clone`](crate::run_state::RunState::of_clone) says.

use alloc::string::String;

use crate::sets::{self, CopyError};
use stasis_guest::given::{Given, Unstorable};

/// Why a guest is not cloned, whatever it does at the moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotCloned {
    /// The clone can't be called so.
    #[error(transparent)]
    Name(#[from] CopyError),
    /// The guest has a device of the machine, of which there is one.
    #[error(transparent)]
    Unstorable(#[from] Unstorable),
    /// The guest shares memory with others, and each place there is taken.
    #[error(
        "guest \"{0}\" shares memory with others, which a clone can't: checkpoint it, and resume it as another guest"
    )]
    Shares(String),
    /// A guest has a window on a core, which must not wait for memory.
    #[error(
        "guest \"{0}\" has a window on a core: what it writes after a clone would take memory and time, which it must not wait for"
    )]
    Window(String),
}

/// A guest that is to be cloned.
#[derive(Clone, Copy, Debug)]
pub struct Original<'a> {
    /// The guest's name.
    pub name: &'a str,
    /// Devices of the machine that it was given.
    pub given: &'a Given,
    /// Whether it shares memory with other guests.
    pub shares_memory: bool,
}

/// Checks that a guest can be cloned, by a clone with the name `name`, beside the `guests` of the
/// machine. `has_window` says whether a guest of a name has a window on a core, or will have.
///
/// # Errors
///
/// [`NotCloned`] for the first rule that forbids it.
pub fn check<'a>(
    original: Original<'_>,
    name: &str,
    guests: impl Iterator<Item = &'a str>,
    has_window: impl Fn(&str) -> bool,
) -> Result<(), NotCloned> {
    sets::check_copy("", name, guests)?;
    original.given.check_storable(original.name)?;
    if original.shares_memory {
        return Err(NotCloned::Shares(original.name.into()));
    }
    match [original.name, name].into_iter().find(|name| has_window(name)) {
        Some(guest) => Err(NotCloned::Window(guest.into())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stasis_guest::given::{Grant, lay_out};

    const GUESTS: [&str; 2] = ["web", "db"];

    fn check_with(original: Original<'_>, name: &str, window: &str) -> Result<(), NotCloned> {
        check(original, name, GUESTS.into_iter(), |guest| guest == window)
    }

    fn web(given: &Given) -> Original<'_> {
        Original { name: "web", given, shares_memory: false }
    }

    #[test]
    fn a_guest_with_what_a_checkpoint_has_is_cloned() {
        assert_eq!(check_with(web(&Given::default()), "web2", ""), Ok(()));
    }

    #[test]
    fn a_clone_has_a_name_that_is_free() {
        let taken = CopyError::Taken { name: "db".into() };
        assert_eq!(check_with(web(&Given::default()), "db", ""), Err(taken.into()));
        assert!(matches!(check_with(web(&Given::default()), "2", ""), Err(NotCloned::Name(_))));
    }

    #[test]
    fn a_guest_with_a_device_of_the_machine_or_with_memory_of_others_is_not_cloned() {
        let given = lay_out(vec![Grant { path: "/rtc".into(), ..Grant::default() }]).unwrap();
        assert!(matches!(check_with(web(&given), "web2", ""), Err(NotCloned::Unstorable(_))));
        let none = Given::default();
        let shares = Original { shares_memory: true, ..web(&none) };
        assert_eq!(check_with(shares, "web2", ""), Err(NotCloned::Shares("web".into())));
    }

    #[test]
    fn neither_of_the_two_may_have_a_window() {
        for name in ["web", "web2"] {
            let refused = check_with(web(&Given::default()), "web2", name);
            assert_eq!(refused, Err(NotCloned::Window(name.into())));
        }
    }
}
