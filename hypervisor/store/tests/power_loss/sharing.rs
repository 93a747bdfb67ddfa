//! Power fails while checkpoints that share blocks come and go.

use crate::common::{FaultyDisk, formatted, open};
use crate::model::{Model, State};
use stasis_store::RamDisk;

/// Three checkpoints of which each shares most of the one before, in a store with little room.
fn with_shared() -> (RamDisk, State) {
    let mut model = Model::new();
    let mut store = open(formatted(16));
    model.add(&mut store, 20_480, 20_480);
    model.add_later(&mut store, 0, 100, None);
    model.add_later(&mut store, 1, 4_096, None);
    (store.into_device(), model.current)
}

/// Every outcome of a commit that shares, of a deletion of the oldest and of one in the midst, and
/// of replacing one: all blocks that were not flushed, contents and maps among them. What is left
/// can be filled up, and nothing that was committed is hurt.
#[test]
fn every_outcome_of_a_change_to_what_is_shared_is_the_store_before_or_after_it() {
    let (disk, before) = with_shared();
    let mut crashes = 0;
    for which in 0..6 {
        for at in 0.. {
            let mut faulty = FaultyDisk::new(disk.clone());
            // Opening it takes one flush.
            faulty.power_fails_at = Some(at + 1);
            let mut model = Model::holding(before.clone());
            let mut store = open(&mut faulty);
            match which {
                0..3 => model.add_later(&mut store, 2, 100, [None, Some(0), Some(1)][which]),
                nth => model.delete(&mut store, nth - 3),
            }
            if !faulty.power_failed() {
                break;
            }
            for survivor in faulty.every_outcome(5) {
                let mut store = open(survivor);
                let mut model = Model { possible: model.possible.clone(), ..Model::new() };
                model.reopened(&mut store);
                model.add_later(&mut store, 2, 6_000, None);
                let free = store.usage().largest as usize;
                model.add(&mut store, free, free);
                model.reopened(&mut open(store.into_device()));
                crashes += 1;
            }
        }
    }
    assert!(crashes > 200, "only {crashes} crashes simulated");
}
