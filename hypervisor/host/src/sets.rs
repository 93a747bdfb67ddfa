//! What the checkpoints of guests are called that are stored together, and under which name a guest
//! may be resumed.
//!
//! Guests that are stored at one instant are a set: each checkpoint has the set's name and its
//! guest's. The store's side of sets is [`stasis_store::set`].

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use stasis_state::name::BadName;
use stasis_store::set::SET_MARK;

use crate::config::check_name;

/// Why checkpoints can't be called so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetNameError {
    /// A set's name ends where the mark is.
    #[error("a set's name has no \"{SET_MARK}\"")]
    Mark,
    /// A name stands for one set.
    #[error("there is a set \"{name}{SET_MARK}\" already; delete it, or take another name")]
    Taken {
        /// The name.
        name: String,
    },
}

/// Why a guest can't be resumed under another name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// Several guests can't have one name.
    #[error("the guests of a set have no one name: resume them one by one")]
    OfSet,
    /// The name is none.
    #[error(transparent)]
    Name(#[from] BadName),
    /// A name stands for one guest.
    #[error("there is a guest \"{name}\" already")]
    Taken {
        /// The name.
        name: String,
    },
}

/// Returns what the checkpoints of these guests are called, of whom there is at least one. One
/// guest's is called `name`, or as the guest; several guests' are a set with this name, or one with
/// the number `next` in it, so that no other set has it. `is_taken` tells whether there is a set of
/// a name.
pub fn names(
    guests: &[&str],
    name: Option<&str>,
    next: u64,
    is_taken: impl Fn(&str) -> bool,
) -> Result<Vec<String>, SetNameError> {
    if let [guest] = guests {
        return Ok(Vec::from([name.unwrap_or(guest).to_string()]));
    }
    let set = name.map_or_else(|| format!("set-{next}"), ToString::to_string);
    if set.contains(SET_MARK) {
        return Err(SetNameError::Mark);
    }
    if is_taken(&set) {
        return Err(SetNameError::Taken { name: set });
    }
    Ok(guests.iter().map(|guest| format!("{set}{SET_MARK}{guest}")).collect())
}

/// Returns the numbers that the checkpoints of a set have got, which are `count` that follow each
/// other, up to `last`. Numbers are known only after the commit, which gives them out.
pub const fn numbers(last: u64, count: usize) -> RangeInclusive<u64> {
    (last + 1).saturating_sub(count as u64)..=last
}

/// Checks that the guest of the checkpoint that a person means by `which` can be resumed as `name`
/// beside the `guests` of the machine.
pub fn check_copy<'a>(
    which: &str,
    name: &str,
    mut guests: impl Iterator<Item = &'a str>,
) -> Result<(), CopyError> {
    if which.ends_with(SET_MARK) {
        return Err(CopyError::OfSet);
    }
    check_name(name)?;
    if guests.any(|guest| guest == name) {
        return Err(CopyError::Taken { name: name.to_string() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nobody(_: &str) -> bool {
        false
    }

    #[test]
    fn one_guests_checkpoint_is_called_as_is_said_or_as_the_guest() {
        assert_eq!(names(&["linux"], None, 7, nobody).unwrap(), ["linux"]);
        assert_eq!(names(&["linux"], Some("evening"), 7, nobody).unwrap(), ["evening"]);
    }

    #[test]
    fn the_checkpoints_of_a_set_have_its_name_and_their_guests() {
        let both = ["linux", "rt"];
        assert_eq!(
            names(&both, Some("evening"), 7, nobody).unwrap(),
            ["evening/linux", "evening/rt"]
        );
        assert_eq!(names(&both, None, 7, nobody).unwrap(), ["set-7/linux", "set-7/rt"]);
    }

    #[test]
    fn a_set_has_a_name_of_its_own_without_the_mark() {
        let both = ["linux", "rt"];
        let taken = |name: &str| name == "evening";
        assert_eq!(
            names(&both, Some("evening"), 7, taken).unwrap_err().to_string(),
            "there is a set \"evening/\" already; delete it, or take another name"
        );
        assert_eq!(
            names(&both, Some("a/b"), 7, taken).unwrap_err().to_string(),
            "a set's name has no \"/\""
        );
        assert!(names(&["linux"], Some("evening"), 7, taken).is_ok(), "one guest is no set");
    }

    #[test]
    fn the_checkpoints_of_a_set_have_numbers_that_follow_each_other() {
        assert!(numbers(7, 1).eq([7]));
        assert!(numbers(7, 3).eq([5, 6, 7]));
    }

    #[test]
    fn a_guest_is_resumed_under_a_name_that_nobody_has() {
        let guests = || ["linux", "rt"].into_iter();
        assert_eq!(check_copy("3", "twin", guests()), Ok(()));
        assert_eq!(
            check_copy("3", "rt", guests()).unwrap_err().to_string(),
            "there is a guest \"rt\" already"
        );
        assert_eq!(
            check_copy("evening/", "twin", guests()).unwrap_err().to_string(),
            "the guests of a set have no one name: resume them one by one"
        );
        assert!(matches!(check_copy("3", "all", guests()), Err(CopyError::Name(_))));
    }
}
