//! [`each`]: a command for several guests, which is carried out for one after the other. What can't
//! be done for one does not keep it from the others, and all is told in one line.

use alloc::vec::Vec;
use core::fmt::{self, Display};

/// Why a command was not carried out for one guest: `E`, which names the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undone<E> {
    /// The command does not fit what the guest is doing. If it is for all guests, it is not for
    /// this one.
    Misfit(E),
    /// The command has failed.
    Failed(E),
}

impl<E> Undone<E> {
    /// Returns a misfit, from its error.
    pub fn misfit(error: impl Into<E>) -> Self {
        Self::Misfit(error.into())
    }

    /// Returns a failure, from its error.
    pub fn failed(error: impl Into<E>) -> Self {
        Self::Failed(error.into())
    }

    fn into_reason(self) -> E {
        let (Self::Misfit(reason) | Self::Failed(reason)) = self;
        reason
    }
}

/// What of a command for several guests was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAll<E: Display> {
    /// The command was for one guest.
    #[error("{0}")]
    Only(E),
    /// The command was for all guests, and fits none.
    #[error("it fits no guest: {}", Joined(.0))]
    FitsNone(Vec<E>),
    /// The command was carried out for the other guests.
    #[error("not done for {} of {count} guests: {}", reasons.len(), Joined(reasons))]
    Some {
        /// Number of guests for which it was to be done.
        count: usize,
        /// The reasons, one for each guest for which it was not done.
        reasons: Vec<E>,
    },
}

/// Reasons, one behind the other.
struct Joined<'a, E>(&'a [E]);

impl<E: Display> Display for Joined<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(at, reason)| {
            let before = if at > 0 { "; " } else { "" };
            write!(f, "{before}{reason}")
        })
    }
}

/// Carries out a command for each of `guests`, whatever becomes of it for those before. `is_all`
/// says that they are all that there are, of which those that it does not fit are left out.
///
/// # Errors
///
/// [`NotAll`].
pub fn each<G, E: Display>(
    guests: Vec<G>,
    is_all: bool,
    mut act: impl FnMut(G) -> Result<(), Undone<E>>,
) -> Result<(), NotAll<E>> {
    let count = guests.len();
    let undone: Vec<_> = guests.into_iter().filter_map(|guest| act(guest).err()).collect();
    let fits_none = is_all
        && undone.len() == count
        && undone.iter().all(|one| matches!(one, Undone::Misfit(_)));
    let is_told = |one: &Undone<E>| !is_all || fits_none || matches!(one, Undone::Failed(_));
    let mut reasons: Vec<E> = undone.into_iter().filter(is_told).map(Undone::into_reason).collect();
    match reasons.pop() {
        None => Ok(()),
        Some(reason) if count == 1 && !fits_none => Err(NotAll::Only(reason)),
        Some(reason) => {
            reasons.push(reason);
            Err(if fits_none { NotAll::FitsNone(reasons) } else { NotAll::Some { count, reasons } })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::{String, ToString};
    use std::vec;

    use super::*;

    /// Pauses guests of which `a` runs, `b` is paused, and `c` can't be paused; returns the last
    /// line, and whom it was done for.
    fn pause(guests: &[&'static str], is_all: bool) -> (String, Vec<&'static str>) {
        let mut done = Vec::new();
        let result = each::<_, String>(guests.to_vec(), is_all, |guest| match guest {
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
