//! Sets: checkpoints of several guests at one instant, committed at once. [`Member`] is what the
//! catalog says of each, [`Set`] what a person names by `set/`.
//!
//! The numbers of a set's members follow each other, so the first one's number, which no other set
//! ever has, is the set's identity. It takes its name from its members: `evening` of
//! `evening/linux`. A checkpoint is no member because of its name.

use crate::block::BlockDevice;
use crate::catalog::{Checkpoint, Which};
use crate::error::Error;
use crate::store::{Result, Store};
use alloc::string::ToString;
use alloc::vec::Vec;

/// Between a set's name and that of a guest.
pub const SET_MARK: char = '/';

/// The most members that a set can have.
pub const MAX_MEMBERS: usize = u8::MAX as usize;

/// Which member of a set a checkpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The place in the set, from 0.
    pub index: u8,
    /// How many there were at the set's instant; 2 at least.
    pub count: u8,
}

/// A set, as far as it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set<'a> {
    /// The name, without the mark.
    pub name: &'a str,
    /// The number that its first member has, or had.
    pub first: u64,
    /// How many members there were.
    pub count: usize,
    /// The members that are there, in the order of their numbers.
    pub members: Vec<&'a Checkpoint>,
}

impl Set<'_> {
    /// Returns whether all members of the set are there.
    pub fn is_complete(&self) -> bool {
        self.members.len() == self.count
    }
}

impl Checkpoint {
    /// Returns the set that the checkpoint is a member of: its name, and the number of its first
    /// member.
    pub fn set(&self) -> Option<(&str, u64)> {
        let member = self.member?;
        Some((set_name(&self.name)?, self.number.checked_sub(member.index.into())?))
    }
}

/// Returns the set that a member of this name would be in.
pub(crate) fn set_name(name: &str) -> Option<&str> {
    let (set, guest) = name.split_once(SET_MARK)?;
    (!set.is_empty() && !guest.is_empty()).then_some(set)
}

/// Says which checkpoints, in the order of their numbers, are members of which set where only names
/// tell: as version 1 has it. Several checkpoints that were begun at one instant, with numbers that
/// follow each other and one set's name, are a set, and all of it.
pub(crate) fn members_by_name(checkpoints: &[Checkpoint]) -> Vec<Option<Member>> {
    let same_set = |one: &Checkpoint, next: &Checkpoint| {
        let names = (set_name(&one.name), set_name(&next.name));
        names.0.is_some()
            && names.0 == names.1
            && one.created == next.created
            && one.number + 1 == next.number
    };
    let mut members = Vec::with_capacity(checkpoints.len());
    for run in checkpoints.chunk_by(same_set) {
        let count = u8::try_from(run.len()).ok().filter(|count| *count > 1);
        members.extend((0..run.len()).map(|index| {
            count.map(|count| Member {
                // Less than the count, which fits.
                index: index as u8,
                count,
            })
        }));
    }
    members
}

impl<D: BlockDevice> Store<D> {
    /// Finds the newest set of this name, which is without the mark. It need not be complete.
    pub fn find_set(&self, name: &str) -> Result<Set<'_>, D> {
        let is_of = |one: &&Checkpoint| one.set().is_some_and(|(set, _)| set == name);
        let newest = self.list().iter().rev().find(is_of);
        let set = newest.and_then(|newest| self.set_of(newest));
        set.ok_or_else(|| Error::NoSuchSet { name: name.to_string() })
    }

    /// Returns the set that a checkpoint is a member of.
    pub fn set_of<'s>(&'s self, checkpoint: &'s Checkpoint) -> Option<Set<'s>> {
        let (name, first) = checkpoint.set()?;
        let count = checkpoint.member?.count.into();
        let is_of = |one: &&Checkpoint| one.set() == Some((name, first));
        Some(Set { name, first, count, members: self.list().iter().filter(is_of).collect() })
    }

    /// Returns the numbers of the checkpoints that a person means: one by its number or name, or,
    /// by `set/`, all that are left of a set.
    pub fn meant(&self, which: &str) -> Result<Vec<u64>, D> {
        match which.strip_suffix(SET_MARK) {
            Some(set) => Ok(self.find_set(set)?.members.iter().map(|one| one.number).collect()),
            None => Ok(Vec::from([self.find(Which::from(which))?.number])),
        }
    }

    /// Returns what [`Self::meant`] does, but a set must be complete: guests that were stored at
    /// one instant are not resumed in part without a word.
    pub fn meant_whole(&self, which: &str) -> Result<Vec<u64>, D> {
        if let Some(name) = which.strip_suffix(SET_MARK) {
            let set = self.find_set(name)?;
            if !set.is_complete() {
                let left: Vec<&str> = set.members.iter().map(|one| one.name.as_str()).collect();
                return Err(Error::SetIncomplete {
                    name: name.to_string(),
                    there: set.members.len(),
                    count: set.count,
                    left: left.join(", "),
                });
            }
        }
        self.meant(which)
    }
}
