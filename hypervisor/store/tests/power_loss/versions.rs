//! Stores that older versions have made, and power that fails while they become newer ones.

use crate::common::{FaultyDisk, add, contents, formatted_as, golden, open, read};
use crate::model::{Model, State, state};
use crate::slots::outcome;
use stasis_store::layout::FIRST_DATA_BLOCK;
use stasis_store::{Error, Partition, RamDisk, Store};
use std::collections::BTreeMap;

/// Returns the stores that the first version of this code has made: one at rest, and one whose last
/// delete was torn.
fn older_stores() -> [(RamDisk, State); 2] {
    ["1", "1-torn"].map(|name| {
        let disk = golden(name);
        let found = state(&mut open(disk.clone()));
        (disk, found)
    })
}

#[test]
fn a_store_of_version_1_is_read_as_it_was_written() {
    for (disk, found) in older_stores() {
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4, 6, 7, 8, 9]);
        for (number, data) in found {
            assert!(data == contents(number, data.len()), "checkpoint {number}");
        }
        assert_eq!(open(disk).next_number(), 10);
    }
}

/// A member of a set is deleted, which version 1 can't say, and power fails: at any operation,
/// three times in a row.
#[test]
fn power_lost_while_a_store_of_version_1_goes_to_version_2_leaves_every_checkpoint() {
    for (disk, found) in older_stores() {
        let mut without = found.clone();
        without.remove(&3);
        let mut survivors = vec![disk];
        for _ in 0..3 {
            let mut next = BTreeMap::new();
            for disk in &survivors {
                for at in 0.. {
                    let mut faulty = FaultyDisk::new(disk.clone());
                    faulty.power_fails_at = Some(at);
                    let partition = Partition::whole(&faulty);
                    let _ =
                        Store::open(&mut faulty, partition).and_then(|mut store| store.delete(3));
                    if !faulty.power_failed() {
                        break;
                    }
                    let pending = faulty.unflushed_below(FIRST_DATA_BLOCK);
                    for digits in 0..3usize.pow(pending.min(5) as u32) {
                        let survivor = outcome(&faulty, digits);
                        let mut store = open(survivor.clone());
                        let now = state(&mut store);
                        assert!(now == found || now == without, "at {at}: {:?}", now.keys());
                        assert_eq!(store.find_set("pair").unwrap().members.len(), 2);
                        let evening = store.find_set("evening").unwrap();
                        assert_eq!((evening.count, evening.members.len()), (3, now.len() - 5));
                        if now == found {
                            next.insert(survivor.bytes[..0x2_0600].to_vec(), survivor);
                        }
                    }
                }
            }
            survivors = next.into_values().collect();
        }
    }
}

/// A store of version 1 or 2 is upgraded, and power fails: at any operation, with every outcome,
/// and once more while it is put right.
#[test]
fn power_lost_while_a_store_goes_to_version_3_leaves_every_checkpoint() {
    let mut store = open(formatted_as(14, 2));
    let mut model = Model::new();
    model.add(&mut store, 9_000, 9_000);
    model.add_set(&mut store, &[5_000, 300]);
    model.delete(&mut store, 0);
    let small = (store.into_device(), model.current, 3);
    let [(older, found), _] = older_stores();
    let mut crashes = 0;
    for (disk, found, most) in [small, (older, found, 1)] {
        let mut survivors = vec![disk];
        for round in 0..2 {
            let mut next = BTreeMap::new();
            for disk in &survivors {
                for at in 0.. {
                    let mut faulty = FaultyDisk::new(disk.clone());
                    faulty.power_fails_at = Some(at + 1);
                    let upgraded = open(&mut faulty).upgrade();
                    assert_eq!(upgraded.is_ok(), !faulty.power_failed());
                    if upgraded.is_ok() {
                        break;
                    }
                    for survivor in faulty.every_outcome(most) {
                        let mut store = open(survivor.clone());
                        assert!(state(&mut store) == found, "round {round}, at {at}");
                        store.upgrade().unwrap();
                        let mut model = Model::holding(found.clone());
                        model.add_later(&mut store, 0, 100, Some(1));
                        let mut store = open(store.into_device());
                        assert_eq!(store.version(), 3);
                        model.reopened(&mut store);
                        next.insert(survivor.bytes[..0x3_0000].to_vec(), survivor);
                        crashes += 1;
                    }
                }
            }
            survivors = next.into_values().collect();
        }
    }
    assert!(crashes > 200, "only {crashes} crashes simulated");
}

#[test]
fn a_store_without_room_for_maps_is_not_upgraded() {
    let mut store = open(formatted_as(5, 2));
    add(&mut store, "first", &contents(1, 8_192)).unwrap();
    add(&mut store, "second", &contents(2, 8_192)).unwrap();
    let error = store.upgrade().unwrap_err();
    assert_eq!(error, Error::Full { needed: 8192, free: 4096, largest: 4096 });
    let mut store = open(store.into_device());
    assert_eq!(store.version(), 2);
    store.delete(1).unwrap();
    assert_eq!((store.upgrade().unwrap(), store.version()), (2, 3));
    assert_eq!(read(&mut store, 2), contents(2, 8_192));
}
