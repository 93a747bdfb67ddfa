//! What the checkpoints of several guests are called: each has the set's name and its guest's.

use crate::storage::Disk;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use stasis_run::slot::Slot;
use stasis_store::Store;
use stasis_store::set::SET_MARK;

/// What the guests' checkpoints are called. Without a name, a set has the next number in it: so no other set has it.
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
    if store.find_set(&set).is_ok() {
        return Err(format!(
            "there is a set \"{set}{SET_MARK}\" already; delete it, or take another name"
        ));
    }
    Ok(slots.iter().map(|slot| format!("{set}{SET_MARK}{}", slot.name)).collect())
}
