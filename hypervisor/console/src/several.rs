//! [`each`]: a command for several guests, which is carried out for one after the other. What can't be done for one does not keep it from the others, and all is told in one line.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Display;

/// Why a command was not carried out for one guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undone {
    /// The command does not fit what the guest is doing. If it is for all guests, it is not for
    /// this one.
    Misfit(String),
    /// The command has failed.
    Failed(String),
}

impl Undone {
    /// Returns a misfit, from its error.
    pub fn misfit(error: impl Display) -> Self {
        Self::Misfit(error.to_string())
    }

    /// Returns a failure, from its error.
    pub fn failed(error: impl Display) -> Self {
        Self::Failed(error.to_string())
    }

    fn reason(&self) -> &str {
        let (Self::Misfit(reason) | Self::Failed(reason)) = self;
        reason
    }
}

/// What of a command for several guests was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAll {
    /// The command was for one guest.
    #[error("{0}")]
    Only(String),
    /// The command was for all guests, and fits none.
    #[error("it fits no guest: {0}")]
    FitsNone(String),
    /// The command was carried out for the other guests.
    #[error("not done for {undone} of {count} guests: {reasons}")]
    Some {
        /// Number of guests for which it was not done.
        undone: usize,
        /// Number of guests for which it was to be done.
        count: usize,
        /// The reasons, each with its guest's name.
        reasons: String,
    },
}

/// Carries out a command for each of `guests`, whatever becomes of it for those before. `is_all`
/// says that they are all that there are, of which those that it does not fit are left out.
///
/// # Errors
///
/// [`NotAll`].
pub fn each<G>(
    guests: Vec<G>,
    is_all: bool,
    mut act: impl FnMut(G) -> Result<(), Undone>,
) -> Result<(), NotAll> {
    let count = guests.len();
    let undone: Vec<Undone> = guests.into_iter().filter_map(|guest| act(guest).err()).collect();
    let misfits = undone.iter().filter(|one| matches!(one, Undone::Misfit(_))).count();
    let is_counted =
        |one: &&Undone| !is_all || misfits == count || matches!(one, Undone::Failed(_));
    let reasons: Vec<&str> = undone.iter().filter(is_counted).map(Undone::reason).collect();
    let (failed, reasons) = (reasons.len(), reasons.join("; "));
    match failed {
        0 => Ok(()),
        _ if is_all && misfits == count => Err(NotAll::FitsNone(reasons)),
        _ if count == 1 => Err(NotAll::Only(reasons)),
        undone => Err(NotAll::Some { undone, count, reasons }),
    }
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::vec;

    use super::*;

    /// Pauses guests of which `a` runs, `b` is paused, and `c` can't be paused; returns the last
    /// line, and whom it was done for.
    fn pause(guests: &[&'static str], is_all: bool) -> (String, Vec<&'static str>) {
        let mut done = Vec::new();
        let result = each(guests.to_vec(), is_all, |guest| match guest {
            "b" => Err(Undone::misfit(format!("{guest} is paused"))),
            "c" => Err(Undone::failed(format!("{guest} is on fire"))),
            _ => {
                done.push(guest);
                Ok(())
            }
        });
        (result.map_or_else(|error| error.to_string(), |()| "ok".to_string()), done)
    }

    #[test]
    fn what_is_not_done_for_one_is_done_for_the_others_and_told() {
        assert_eq!(pause(&["a"], false), ("ok".into(), vec!["a"]));
        assert_eq!(pause(&["b"], false), ("b is paused".into(), vec![]));
        let (said, done) = pause(&["b", "a", "c", "a2"], false);
        assert_eq!(said, "not done for 2 of 4 guests: b is paused; c is on fire");
        assert_eq!(done, ["a", "a2"]);
    }

    #[test]
    fn all_are_those_that_it_fits() {
        assert_eq!(pause(&["b", "a"], true), ("ok".into(), vec!["a"]));
        let (said, done) = pause(&["b", "a", "c"], true);
        assert_eq!((&*said, done), ("not done for 1 of 3 guests: c is on fire", vec!["a"]));
        assert_eq!(pause(&["b", "b"], true).0, "it fits no guest: b is paused; b is paused");
        assert_eq!(pause(&[], true).0, "ok");
    }
}
