//! What is overwritten while guests are loaded one after another, and so what is lost if one of
//! them fails.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// What a resume has overwritten until now. Guests are loaded one after another, into memory that
/// may be in use: once that has begun, the resume is not given up for a key that is pressed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    guests: Vec<String>,
    shared: bool,
}

impl Losses {
    /// Notes that a guest's memory is about to be loaded, and returns whether that may still be
    /// given up. `in_place`: it takes the place of the guest of its name. `puts_back`: memory that
    /// it shares with others is loaded, too.
    pub fn begin(&mut self, guest: &str, in_place: bool, puts_back: bool) -> bool {
        if in_place {
            self.lose(guest);
        }
        self.shared |= puts_back;
        self.guests.is_empty() && !self.shared
    }

    /// Notes that a guest is lost, unless it was before.
    pub fn lose(&mut self, guest: &str) {
        if !self.guests.iter().any(|lost| lost == guest) {
            self.guests.push(guest.to_string());
        }
    }

    /// Returns the error of a resume that has ended here, with the names of the guests that are
    /// lost by it.
    pub fn after<E>(self, why: E) -> LoadFailed<E> {
        LoadFailed { why, lost: self.guests }
    }
}

/// Why memory was not loaded, and which guests are lost by that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadFailed<E> {
    /// What went wrong.
    pub why: E,
    /// The guests whose memory was overwritten, in the order in which that happened.
    pub lost: Vec<String>,
}

impl<E: fmt::Display> fmt::Display for LoadFailed<E> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why.fmt(out)?;
        if self.lost.is_empty() {
            return Ok(());
        }
        write!(out, "; lost by this: {}", self.lost.join(", "))
    }
}

/// Shared memory whose content is not put back: a guest that is not resumed uses it, and what it
/// has done to it must not be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stays<'a> {
    /// The region's name.
    pub region: &'a str,
    /// The guest that uses it.
    pub keeper: &'a str,
}

impl fmt::Display for Stays<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "shared memory \"{}\" stays as guest \"{}\" has it", self.region, self.keeper)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resume_into_fresh_memory_can_be_given_up_until_the_end() {
        let mut losses = Losses::default();
        assert!(losses.begin("a", false, false));
        assert!(losses.begin("b", false, false));
        assert_eq!(losses.after("no disk").to_string(), "no disk");
    }

    #[test]
    fn a_resume_that_has_overwritten_a_guest_is_not_given_up_and_names_it() {
        let mut losses = Losses::default();
        assert!(losses.begin("new", false, false));
        assert!(!losses.begin("linux", true, false));
        assert!(!losses.begin("other", false, false), "linux is lost already");
        assert!(!losses.begin("rt", true, false));
        assert_eq!(losses.after("no disk").to_string(), "no disk; lost by this: linux, rt");
    }

    #[test]
    fn a_resume_that_has_overwritten_shared_memory_is_not_given_up() {
        let mut losses = Losses::default();
        assert!(!losses.begin("new", false, true));
        assert!(!losses.begin("other", false, false));
        assert_eq!(losses.after("no disk").lost, [""; 0], "no guest is lost");
    }

    #[test]
    fn shared_memory_that_is_in_use_is_said_to_stay() {
        let stays = Stays { region: "ring", keeper: "rt" };
        assert_eq!(stays.to_string(), "shared memory \"ring\" stays as guest \"rt\" has it");
    }
}
