//! A core's TLB that forgets nothing until it is told: [`Tlb`].
//!
//! What it has found once it goes on with, though the table says something else by now. It stops a
//! test where an architecture says that anything may happen: if it finds an entry of another size,
//! or for another address, for what it still remembers.

use super::super::attributes::STAGE2;
use super::super::{Forget, OUTPUT_ADDRESS};
use super::look_up;
use std::vec::Vec;

/// An entry that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// First address that it maps.
    input: u64,
    size: u64,
    descriptor: u64,
}

impl Found {
    fn overlaps(&self, other: &Self) -> bool {
        self.input < other.input + other.size && other.input < self.input + self.size
    }

    /// Returns the physical address that it maps `input` to.
    fn output(&self, input: u64) -> u64 {
        (self.descriptor & OUTPUT_ADDRESS) + (input - self.input)
    }
}

/// Result of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The access was made at this physical address.
    Made(u64),
    /// The address is not mapped.
    Translation,
    /// Writes are forbidden there.
    Permission,
}

/// The TLB of a core, and the walker that fills it.
#[derive(Debug)]
pub struct Tlb {
    root: usize,
    found: Vec<Found>,
}

impl Tlb {
    pub fn new(root: u64) -> Self {
        Self { root: root as usize, found: Vec::new() }
    }

    /// Makes an access of the guest's.
    pub fn access(&mut self, input: u64, is_write: bool) -> Access {
        let known = self
            .found
            .iter()
            .find(|found| (found.input..found.input + found.size).contains(&input));
        let found = match known {
            Some(found) => *found,
            None => match self.fetch(input) {
                Some(found) => found,
                None => return Access::Translation,
            },
        };
        match is_write && STAGE2::S2AP.read(found.descriptor) != 0b11 {
            true => Access::Permission,
            false => Access::Made(found.output(input)),
        }
    }

    /// Looks `input` up, as a core may do at any time without an access, and remembers what it
    /// finds.
    pub fn fetch(&mut self, input: u64) -> Option<Found> {
        let (descriptor, size) = look_up(self.root, input)?;
        let new = Found { input: input & !(size - 1), size, descriptor };
        for old in self.found.iter().filter(|old| old.overlaps(&new)) {
            assert_eq!(old.size, new.size, "{input:#x}: a block and a page at once");
            assert_eq!(old.output(input), new.output(input), "{input:#x}: two addresses at once");
        }
        self.found.push(new);
        Some(new)
    }

    /// Drops what the core was told to drop.
    pub fn forget(&mut self, what: Forget) {
        match what {
            Forget::All => self.found.clear(),
            Forget::Address(input) => {
                self.found.retain(|found| !(found.input..found.input + found.size).contains(&input))
            }
        }
    }
}
