use stasis_store::{Partition, RamDisk};

use super::*;

/// Returns an empty store on a disk in memory.
fn store() -> Store<RamDisk> {
    let disk = RamDisk::new(4096);
    let partition = Partition::whole(&disk);
    Store::format(disk, partition).unwrap()
}

/// Stores an empty checkpoint with this name.
fn commit(store: &mut Store<RamDisk>, name: &str) {
    store.begin(name, 0, 0).unwrap().commit().unwrap();
}

/// Stores empty checkpoints with these names, which are a set.
fn commit_set(store: &mut Store<RamDisk>, names: &[&str]) {
    let (last, others) = names.split_last().unwrap();
    for name in others {
        store.begin(name, 0, 7).unwrap().stage().unwrap();
    }
    store.begin(last, 0, 7).unwrap().commit().unwrap();
}

fn numbers(store: &Store<RamDisk>) -> Vec<u64> {
    store.list().iter().map(|one| one.number).collect()
}

#[test]
fn the_oldest_checkpoint_goes_when_the_new_one_is_there_and_not_before() {
    let mut store = store();
    for name in ["a.auto", "b", "a.auto"] {
        commit(&mut store, name);
    }
    make_way(&mut store, "a.auto", Keep { newest: 2, spared: 0 }).unwrap();
    assert_eq!(numbers(&store), [1, 2, 3], "the new one may still fail");
    commit(&mut store, "a.auto");
    assert_eq!(numbers(&store), [2, 3, 4]);
}

#[test]
fn a_new_checkpoint_that_is_given_up_replaces_nothing() {
    let mut store = store();
    commit(&mut store, "a.auto");
    make_way(&mut store, "a.auto", Keep { newest: 1, spared: 0 }).unwrap();
    store.discard_staged();
    commit(&mut store, "b");
    assert_eq!(numbers(&store), [1, 2]);
}

#[test]
fn checkpoints_are_spared_up_to_a_number_and_go_at_once_when_they_no_longer_are() {
    let mut store = store();
    for _ in 0..3 {
        commit(&mut store, "a.auto");
    }
    make_way(&mut store, "a.auto", Keep { newest: 1, spared: 3 }).unwrap();
    commit(&mut store, "a.auto");
    assert_eq!(numbers(&store), [1, 2, 3, 4]);
    make_way(&mut store, "a.auto", Keep { newest: 2, spared: 0 }).unwrap();
    assert_eq!(numbers(&store), [3, 4], "two that were surplus before the new one");
    commit(&mut store, "a.auto");
    assert_eq!(numbers(&store), [4, 5]);
}

#[test]
fn a_set_that_loses_a_part_of_its_checkpoints_is_said_to() {
    let mut store = store();
    commit_set(&mut store, &["evening/linux", "evening/rt", "evening/twin"]);
    let remnant = delete(&mut store, "evening/rt").unwrap().unwrap();
    assert_eq!(remnant.to_string(), "the set \"evening/\" has 2 of 3 checkpoints now");
    assert_eq!(delete(&mut store, "evening/").unwrap(), None, "nothing is left");
    assert_eq!(numbers(&store), [0; 0]);
}

#[test]
fn another_set_of_the_same_name_has_lost_nothing() {
    let mut store = store();
    commit_set(&mut store, &["evening/linux", "evening/rt"]);
    commit_set(&mut store, &["evening/linux", "evening/rt"]);
    assert_eq!(delete(&mut store, "evening/").unwrap(), None);
    assert_eq!(numbers(&store), [1, 2], "the newer set was meant");
}

#[test]
fn the_checkpoints_of_a_guest_are_told_by_what_is_in_them() {
    let mut store = store();
    for name in ["linux", "evening", "linux", "broken"] {
        commit(&mut store, name);
    }
    let guests = [Some("linux"), Some("linux"), Some("rt"), None];
    let guest_of = |_: &mut Store<RamDisk>, number| guests[number as usize - 1].map(Into::into);
    assert_eq!(of_guest(&mut store, "linux", guest_of), [2, 1]);
    assert_eq!(of_guest(&mut store, "rt", guest_of), [3]);
    assert_eq!(newest(&store), 4);
}
