//! Sets: several checkpoints that were committed at once. Being one is a property in the catalog,
//! not a way of spelling.

mod common;

use common::{add, contents, formatted, golden, open, read};
use stasis_store::layout::MAX_CHECKPOINTS;
use stasis_store::{BlockDevice, Error, Member, RamDisk, Store};

/// Stores a set of guests.
fn add_set<D: BlockDevice>(store: &mut Store<D>, set: &str, guests: &[&str]) {
    let (last, others) = guests.split_last().unwrap();
    for guest in others {
        let mut writer = store.begin(&format!("{set}/{guest}"), 900, 7).unwrap();
        writer.write(&contents(1, 900)).unwrap();
        writer.stage().unwrap();
    }
    add(store, &format!("{set}/{last}"), &contents(2, 900)).unwrap();
}

fn members<D: BlockDevice>(store: &Store<D>, set: &str) -> Vec<u64> {
    store.find_set(set).unwrap().members.iter().map(|one| one.number).collect()
}

#[test]
fn a_single_checkpoint_is_no_member_of_the_set_that_its_name_is_like() {
    let mut store = open(formatted(40));
    add(&mut store, "evening/early", &[1]).unwrap();
    add_set(&mut store, "evening", &["linux", "counter"]);
    add(&mut store, "evening/late", &[1]).unwrap();
    let mut store = open(store.into_device());
    assert_eq!(members(&store, "evening"), [2, 3]);
    assert_eq!(store.list()[1].member, Some(Member { index: 0, count: 2 }));
    assert_eq!(store.meant_whole("evening/").unwrap(), [2, 3]);
    assert_eq!(store.meant("evening/late").unwrap(), [4]);
    let numbers = store.meant("evening/").unwrap();
    store.delete_all(&numbers).unwrap();
    assert_eq!(store.list().len(), 2);
    let error = store.meant("evening/").unwrap_err();
    assert_eq!(error.to_string(), "there is no set \"evening/\"");
}

#[test]
fn a_set_that_lost_a_member_says_so() {
    let mut store = open(formatted(40));
    add_set(&mut store, "evening", &["linux", "counter", "io"]);
    store.delete(2).unwrap();
    let mut store = open(store.into_device());
    let error = store.meant_whole("evening/").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the set \"evening/\" has lost members: 2 of 3 are there; resume them one by one: evening/linux, evening/io"
    );
    // Each alone is a checkpoint like any other, and what is left can be deleted.
    assert_eq!(store.meant_whole("evening/io").unwrap(), [3]);
    store.delete(3).unwrap();
    assert_eq!(store.meant("evening/").unwrap(), [1]);
}

#[test]
fn of_two_sets_of_one_name_the_newer_one_is_meant() {
    let mut store = open(formatted(40));
    add_set(&mut store, "evening", &["a", "b"]);
    add_set(&mut store, "evening", &["a", "c"]);
    assert_eq!(members(&store, "evening"), [3, 4]);
}

#[test]
fn what_is_committed_at_once_must_be_called_as_a_set_is() {
    for names in [["a", "b"], ["x/a", "y/b"], ["x/a", "b"], ["/a", "/b"]] {
        let mut store = open(formatted(40));
        store.begin(names[0], 0, 0).unwrap().stage().unwrap();
        let error = add(&mut store, names[1], &[]).unwrap_err();
        assert!(matches!(error, Error::NoSet { .. }), "{names:?}: {error}");
        assert!(store.list().is_empty());
        assert_eq!(add(&mut store, "alone", &[]).unwrap(), 1, "and no number is lost");
    }
}

#[test]
fn what_does_not_become_a_set_has_no_number() {
    let mut store = open(formatted(10));
    for _ in 0..MAX_CHECKPOINTS - 1 {
        add(&mut store, "empty", &[]).unwrap();
    }
    store.begin("set/a", 0, 0).unwrap().stage().unwrap();
    let error = store.begin("set/b", 0, 0).map(drop).unwrap_err();
    assert_eq!(error, Error::TooManyCheckpoints);
    store.discard_staged();
    assert_eq!(store.list().len(), MAX_CHECKPOINTS - 1);
    assert_eq!(add(&mut store, "last", &[]).unwrap(), MAX_CHECKPOINTS as u64);
}

#[test]
fn a_store_of_version_1_has_its_sets_and_says_when_it_can_not_be_one_any_more() {
    let mut store = open(golden("1"));
    assert_eq!(store.version(), 1);
    let names: Vec<&str> = store.list().iter().map(|one| one.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "morning",
            "evening/linux",
            "evening/counter",
            "evening/io",
            "evening/late",
            "linux.auto",
            "pair/a",
            "pair/b"
        ]
    );
    assert_eq!(members(&store, "evening"), [2, 3, 4]);
    assert_eq!(members(&store, "pair"), [8, 9]);

    // What version 1 can say leaves it one, for older programs.
    add(&mut store, "single", &[1]).unwrap();
    store.delete(1).unwrap();
    add_set_at_one_time(&mut store);
    let mut store = open(store.into_device());
    assert_eq!((store.version(), members(&store, "night")), (1, vec![11, 12]));
    let numbers = store.meant("pair/").unwrap();
    store.delete_all(&numbers).unwrap();
    assert_eq!(store.version(), 1);

    // The store can't say that a set has lost a member.
    store.delete(3).unwrap();
    assert_eq!(store.version(), 2);
    let store = open(store.into_device());
    assert_eq!((store.version(), members(&store, "evening")), (2, vec![2, 4]));
    assert!(!store.find_set("evening").unwrap().is_complete());
    assert!(store.find_set("night").unwrap().is_complete());
}

fn add_set_at_one_time<D: BlockDevice>(store: &mut Store<D>) {
    store.begin("night/a", 0, 5).unwrap().stage().unwrap();
    store.begin("night/b", 0, 5).unwrap().commit().unwrap();
}

#[test]
fn a_set_that_names_do_not_tell_takes_a_store_to_version_2() {
    let mut store = open(golden("1"));
    // As by a machine whose clock was put right in between.
    store.begin("night/a", 0, 5).unwrap().stage().unwrap();
    store.begin("night/b", 0, 6).unwrap().commit().unwrap();
    let store = open(store.into_device());
    assert_eq!((store.version(), members(&store, "night")), (2, vec![10, 11]));
    assert_eq!(members(&store, "evening"), [2, 3, 4], "the older ones stay what they were");

    let mut store = open(golden("1"));
    // Two singles that look like a set.
    store.begin("x/a", 0, 5).unwrap().commit().unwrap();
    store.begin("x/b", 0, 5).unwrap().commit().unwrap();
    let store = open(store.into_device());
    assert_eq!(store.version(), 2);
    assert!(store.find_set("x").is_err());
}

#[test]
fn a_set_is_there_when_its_last_is_committed_and_not_before() {
    let mut store = open(formatted(40));
    let stage = |store: &mut Store<RamDisk>| {
        let mut writer = store.begin("set/a", 10_000, 0).unwrap();
        writer.write(&contents(1, 10_000)).unwrap();
        writer.stage().unwrap();
    };
    stage(&mut store);
    assert!(store.list().is_empty());
    let free = store.usage().free;
    store.discard_staged();
    assert!(store.usage().free > free, "what was given up takes no room");
    stage(&mut store);
    assert_eq!(add(&mut store, "set/b", &contents(2, 9_000)).unwrap(), 2);
    let mut store = open(store.into_device());
    assert_eq!(read(&mut store, 1), contents(1, 10_000));
    assert_eq!(read(&mut store, 2), contents(2, 9_000));
    store.delete_all(&[1, 7]).expect_err("7 is not there");
    assert_eq!(store.list().len(), 2, "so none is deleted");
    store.delete_all(&[1, 2]).unwrap();
    assert!(store.list().is_empty());
}
