//! Which of the checkpoints in the store are deleted, and which belong to a guest.
//!
//! All functions work on the store's catalog, so they run on any [`BlockDevice`].
//! [`crate::periodic`] decides which checkpoints are surplus, [`crate::sets`] how the checkpoints
//! of a set are called. The store's own rules are [`stasis_store::store`].

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use stasis_store::{BlockDevice, Error, Store};

use crate::periodic;

/// Which checkpoints of a name stay when another one is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Number of the newest checkpoints that stay, including the new one.
    pub newest: u8,
    /// The number up to which all checkpoints stay.
    pub spared: u64,
}

/// Marks the oldest checkpoints called `name` to be deleted when the next one is committed, so that
/// no more stay than `keep` says. Those that are surplus already, because they were spared until
/// now, are deleted at once: the next one may find no room beside them.
///
/// # Errors
///
/// The error of the store. Nothing is marked then.
pub fn make_way<D: BlockDevice>(
    store: &mut Store<D>,
    name: &str,
    keep: Keep,
) -> Result<(), Error<D::Error>> {
    let surplus = |store: &Store<D>, new: Option<u64>| {
        let all = store.list().iter().map(|one| (one.number, one.name.as_str()));
        let all = all.chain(new.map(|number| (number, name)));
        periodic::surplus(all, name, keep.newest, keep.spared)
    };
    let overdue = surplus(store, None);
    if !overdue.is_empty() {
        store.delete_all(&overdue)?;
    }
    // Count the new one, too.
    let replaced = surplus(store, Some(store.next_number()));
    store.replace(&replaced)
}

/// A set of which some checkpoints are deleted and others are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remnant {
    /// The set's name, without the mark.
    pub set: String,
    /// How many of its checkpoints are there.
    pub left: usize,
    /// How many there were at first.
    pub count: usize,
}

impl fmt::Display for Remnant {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { set, left, count } = self;
        write!(out, "the set \"{set}/\" has {left} of {count} checkpoints now")
    }
}

/// Deletes the checkpoints that a person means by `which`: one by its number or name, or all of a
/// set by `set/`. Returns what is left of a set that has lost only a part of its checkpoints.
///
/// # Errors
///
/// The error of the store, which deletes either all of them or none.
pub fn delete<D: BlockDevice>(
    store: &mut Store<D>,
    which: &str,
) -> Result<Option<Remnant>, Error<D::Error>> {
    let numbers = store.meant(which)?;
    let one = store.list().iter().find(|one| numbers.contains(&one.number));
    let set = one.and_then(|one| one.set()).map(|(name, first)| (name.to_string(), first));
    store.delete_all(&numbers)?;
    Ok(set.and_then(|(name, first)| {
        let left = store.list().iter().find(|one| one.set() == Some((&name, first)))?;
        let set = store.set_of(left)?;
        Some(Remnant { left: set.members.len(), count: set.count, set: name })
    }))
}

/// Returns the numbers of the checkpoints of a guest, the newest first. A checkpoint's name need
/// not be its guest's, so `guest_of` reads the guest's name from the checkpoint with a number;
/// `None` if the checkpoint is damaged.
pub fn of_guest<D: BlockDevice>(
    store: &mut Store<D>,
    guest: &str,
    mut guest_of: impl FnMut(&mut Store<D>, u64) -> Option<String>,
) -> Vec<u64> {
    let mut numbers: Vec<u64> = store.list().iter().rev().map(|one| one.number).collect();
    numbers.retain(|number| guest_of(store, *number).is_some_and(|name| name == guest));
    numbers
}

/// Returns the highest number of a checkpoint; 0 if there is none.
pub fn newest<D: BlockDevice>(store: &Store<D>) -> u64 {
    store.list().last().map_or(0, |one| one.number)
}

#[cfg(test)]
mod tests;
