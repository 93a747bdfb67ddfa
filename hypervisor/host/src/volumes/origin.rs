//! The guest whose volume a resume has set aside, and which volume it was: [`origin_of`].

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use stasis_store::volume::{SetAside, set_aside};
use stasis_store::{BlockDevice, Store};

/// What a resume has set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The name of the volume that was brought back. Of a long one, the end is left out.
    pub volume: String,
    /// The number of the checkpoint that was resumed; `None` if no person did that.
    pub checkpoint: Option<u64>,
    /// The guest that was resumed: that of the checkpoint, or if its number is not known, that of
    /// the newest one that has the volume. `None` if there is no such checkpoint, or it can't be
    /// read.
    pub guest: Option<String>,
}

/// Returns what a resume has set aside as a volume of this name; `None` if no resume makes such a
/// name. `guest_of` reads the guest's name from the checkpoint with a number.
pub fn origin_of<D: BlockDevice>(
    store: &mut Store<D>,
    name: &str,
    mut guest_of: impl FnMut(&mut Store<D>, u64) -> Option<String>,
) -> Option<Origin> {
    let aside = set_aside(name)?;
    let SetAside { volume, checkpoint } = aside;
    let numbers: Vec<u64> = match checkpoint {
        Some(number) => [number].to_vec(),
        None => store.list().iter().rev().map(|one| one.number).collect(),
    };
    let mut has_it = |number: &u64| {
        let instants = store.instants(*number);
        instants.is_ok_and(|all| all.iter().any(|one| aside.is_of(&one.name)))
    };
    let found = numbers.into_iter().find(|number| has_it(number));
    let guest = found.and_then(|number| guest_of(store, number));
    Some(Origin { volume: volume.to_string(), checkpoint, guest })
}
