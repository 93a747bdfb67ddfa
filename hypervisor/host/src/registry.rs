//! Which guests the machine has: their numbers, their names, and what stays with a number.
//!
//! A guest has the lowest number that is free, which the console and the VMIDs go by. With each
//! number something stays for ever, once it was made (`V`: the root of a translation, which cores
//! may have active): the next guest with this number has it.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The guests of type `G` of a machine, by number.
#[derive(Debug)]
pub struct Registry<G, V> {
    guests: Vec<Entry<G>>,
    /// Numbers that are free again, and what stays with them; the lowest at the end.
    vacant: Vec<(usize, V)>,
    /// How many numbers were ever given out.
    given_out: usize,
    /// How many there are.
    most: usize,
}

#[derive(Debug)]
struct Entry<G> {
    number: usize,
    name: String,
    guest: Arc<G>,
}

/// Why the machine can't have one more guest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Every number is taken.
    #[error("there are {count} guests, as many as there are VMIDs")]
    Full {
        /// How many guests there are.
        count: usize,
    },
    /// A name stands for one guest.
    #[error("there is a guest \"{name}\" already")]
    NameTaken {
        /// The name.
        name: String,
    },
}

/// A number for a new guest.
#[derive(Debug, PartialEq, Eq)]
pub struct Claim<V> {
    /// The number.
    pub number: usize,
    /// What stays with it, unless nobody has had it before.
    pub left: Option<V>,
}

impl<G, V> Registry<G, V> {
    /// Returns the registry of a machine without guests, which can have `most`.
    pub const fn new(most: usize) -> Self {
        Self { guests: Vec::new(), vacant: Vec::new(), given_out: 0, most }
    }

    /// Returns all guests, by number.
    pub fn all(&self) -> Vec<Arc<G>> {
        self.guests.iter().map(|entry| entry.guest.clone()).collect()
    }

    /// Takes the lowest free number for a guest with this name. Whoever takes it enters the guest,
    /// or gives the number back, or disclaims it; a number with none of these is given to nobody.
    pub fn claim(&mut self, name: &str) -> Result<Claim<V>, Rejected> {
        if self.guests.iter().any(|entry| entry.name == name) {
            return Err(Rejected::NameTaken { name: name.to_string() });
        }
        if let Some((number, left)) = self.vacant.pop() {
            return Ok(Claim { number, left: Some(left) });
        }
        if self.given_out == self.most {
            return Err(Rejected::Full { count: self.guests.len() });
        }
        let number = self.given_out;
        self.given_out += 1;
        Ok(Claim { number, left: None })
    }

    /// Enters a guest under the number that was claimed for it.
    pub fn enter(&mut self, number: usize, name: &str, guest: Arc<G>) {
        let place = self.guests.partition_point(|entry| entry.number < number);
        self.guests.insert(place, Entry { number, name: name.to_string(), guest });
    }

    /// Takes a guest out, so that nobody finds it any more. Its number is not free yet.
    pub fn leave(&mut self, guest: &Arc<G>) {
        self.guests.retain(|entry| !Arc::ptr_eq(&entry.guest, guest));
    }

    /// Takes back a number that was claimed last and that nobody has had before: nothing stays with
    /// it. Another number stays taken.
    pub fn disclaim(&mut self, number: usize) {
        if number + 1 == self.given_out {
            self.given_out = number;
        }
    }

    /// Gives back a number that nobody has any more, with what stays with it.
    pub fn give_back(&mut self, number: usize, left: V) {
        let place = self.vacant.partition_point(|(other, _)| *other > number);
        self.vacant.insert(place, (number, left));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MOST: usize = 4;

    fn machine(names: &[&str]) -> (Registry<String, usize>, Vec<Arc<String>>) {
        let mut registry = Registry::new(MOST);
        let guests: Vec<_> = names.iter().map(|name| Arc::new(name.to_string())).collect();
        for guest in &guests {
            let number = registry.claim(guest).unwrap().number;
            registry.enter(number, guest, guest.clone());
        }
        (registry, guests)
    }

    fn remove(registry: &mut Registry<String, usize>, number: usize, guest: &Arc<String>) {
        registry.leave(guest);
        registry.give_back(number, number);
    }

    #[test]
    fn a_new_guest_has_the_lowest_free_number_and_what_stays_with_it() {
        let (mut registry, guests) = machine(&["a", "b", "c"]);
        remove(&mut registry, 2, &guests[2]);
        remove(&mut registry, 0, &guests[0]);
        assert_eq!(registry.claim("d"), Ok(Claim { number: 0, left: Some(0) }));
        registry.enter(0, "d", Arc::new("d".to_string()));
        assert_eq!(registry.claim("e"), Ok(Claim { number: 2, left: Some(2) }));
        assert_eq!(registry.claim("f"), Ok(Claim { number: 3, left: None }));
        let names: Vec<String> = registry.all().iter().map(|guest| guest.to_string()).collect();
        assert_eq!(names, ["d", "b"], "by number");
    }

    #[test]
    fn a_name_stands_for_one_guest_until_that_leaves() {
        let (mut registry, guests) = machine(&["linux"]);
        let rejected = registry.claim("linux").unwrap_err();
        assert_eq!(rejected.to_string(), "there is a guest \"linux\" already");
        registry.leave(&guests[0]);
        assert!(registry.claim("linux").is_ok());
    }

    #[test]
    fn there_are_no_more_guests_than_numbers() {
        let (mut registry, guests) = machine(&["a", "b", "c", "d"]);
        let rejected = registry.claim("e").unwrap_err();
        assert_eq!(rejected.to_string(), "there are 4 guests, as many as there are VMIDs");
        remove(&mut registry, 1, &guests[1]);
        assert_eq!(registry.claim("e").map(|claim| claim.number), Ok(1));
    }

    #[test]
    fn a_number_whose_guest_could_not_be_made_is_given_to_nobody_else() {
        let (mut registry, guests) = machine(&["a", "b", "c"]);
        remove(&mut registry, 0, &guests[0]);
        assert_eq!(registry.claim("lost").map(|claim| claim.number), Ok(0));
        let next = registry.claim("d").map(|claim| claim.number);
        assert_eq!(next, Ok(3), "not 2, which c has");
    }

    #[test]
    fn a_number_that_is_disclaimed_is_the_next_guests() {
        let (mut registry, _) = machine(&["a", "b", "c"]);
        for _ in 0..2 * MOST {
            let number = registry.claim("d").map(|claim| claim.number);
            assert_eq!(number, Ok(3));
            registry.disclaim(3);
        }
        registry.disclaim(1);
        assert_eq!(registry.claim("d").map(|claim| claim.number), Ok(3), "not 1, which b has");
    }

    proptest! {
        #[test]
        fn no_two_guests_ever_have_one_number(
            steps in proptest::collection::vec((any::<bool>(), 0usize..MOST, any::<bool>()), 0..60)
        ) {
            let mut registry: Registry<usize, usize> = Registry::new(MOST);
            let mut there: Vec<(usize, Arc<usize>)> = Vec::new();
            for (step, (add, which, fails)) in steps.into_iter().enumerate() {
                if add {
                    let Ok(Claim { number, left }) = registry.claim(&step.to_string()) else { continue };
                    prop_assert!(there.iter().all(|(other, _)| *other != number));
                    prop_assert!(left.is_none_or(|left| left == number));
                    if !fails {
                        let guest = Arc::new(number);
                        registry.enter(number, &step.to_string(), guest.clone());
                        there.push((number, guest));
                    }
                } else if which < there.len() {
                    let (number, guest) = there.swap_remove(which);
                    registry.leave(&guest);
                    registry.give_back(number, number);
                }
                let numbers: Vec<usize> = registry.all().iter().map(|guest| **guest).collect();
                prop_assert!(numbers.is_sorted());
                prop_assert_eq!(numbers.len(), there.len());
            }
        }
    }
}
