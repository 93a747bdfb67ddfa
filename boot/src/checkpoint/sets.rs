//! Sets: the checkpoints of several guests at one instant, each under the set's name and its guest's.

use crate::storage::Disk;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use stasis_run::slot::Slot;
use stasis_store::{Store, Which};

/// Between a set's name and that of a guest.
pub const SET_MARK: char = '/';

/// What the guests' checkpoints are called. Without a name, a set has its first number in it: so no other set has it.
pub fn names(
    store: &Store<Disk>,
    slots: &[&Slot],
    name: Option<&str>,
) -> Result<Vec<String>, String> {
    if let [slot] = slots {
        return Ok(Vec::from([name.unwrap_or(&slot.name).to_string()]));
    }
    let set = name.map_or_else(|| format!("set-{}", store.next_number()), ToString::to_string);
    if set.contains(SET_MARK) {
        return Err(format!("a set's name has no \"{SET_MARK}\""));
    }
    if !members(store, &set).is_empty() {
        return Err(format!(
            "there is a set \"{set}{SET_MARK}\" already; delete it, or take another name"
        ));
    }
    Ok(slots.iter().map(|slot| format!("{set}{SET_MARK}{}", slot.name)).collect())
}

/// The numbers of the checkpoints that a person means: one, or those of a set.
pub fn meant(store: &Store<Disk>, which: &str) -> Result<Vec<u64>, String> {
    let Some(set) = which.strip_suffix(SET_MARK) else {
        let found = store.find(Which::from(which)).map_err(|error| error.to_string())?;
        return Ok(Vec::from([found.number]));
    };
    match members(store, set) {
        members if members.is_empty() => Err(format!("there is no set \"{which}\"")),
        members => Ok(members),
    }
}

/// The numbers of the checkpoints of a set.
fn members(store: &Store<Disk>, set: &str) -> Vec<u64> {
    let is_member = |name: &str| name.split_once(SET_MARK).is_some_and(|(of, _)| of == set);
    store.list().iter().filter(|c| is_member(&c.name)).map(|c| c.number).collect()
}
