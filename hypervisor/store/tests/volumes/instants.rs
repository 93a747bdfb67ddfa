//! Copies of volumes, checkpoints that have them, and resumes that bring them back: blocks are
//! shared until somebody writes them.

use crate::common::{formatted, open, read};
use crate::{BLOCK, checkpoint, whole};
use stasis_store::Store;
use stasis_store::volume::{Before, Source};

#[test]
fn a_copy_shares_all_blocks_until_one_is_written() {
    let mut store = open(formatted(60));
    store.create_volume("root", 16 * BLOCK as u64, 0).unwrap();
    store.volumes_mut().write("root", 0, &[1; 16 * BLOCK]).unwrap();
    store.volumes_mut().flush("root").unwrap();
    let before = store.usage().free;
    store.copy_volume(Source::Volume("root"), "copy", 0).unwrap();
    assert_eq!(store.usage().free, before, "a copy takes an entry alone");
    assert_eq!(store.freed_by_each_volume(), [0, 0]);
    store.volumes_mut().write("copy", 4096, &[2; BLOCK]).unwrap();
    store.volumes_mut().flush("copy").unwrap();
    assert_eq!(before - store.usage().free, 2 * BLOCK as u64, "the block, and a node");
    assert!(whole(&mut store, "root") == [1; 16 * BLOCK]);
    store.delete_volume("root").unwrap();
    let copy = whole(&mut store, "copy");
    assert!(copy[4096..8192] == [2; BLOCK] && copy[8192..] == [1; 14 * BLOCK]);
}

#[test]
fn a_clone_has_what_was_not_flushed_and_a_name_that_is_new() {
    let mut store = open(formatted(100));
    let long = "x".repeat(32);
    for name in ["root", long.as_str()] {
        store.create_volume(name, 8 * BLOCK as u64, 0).unwrap();
        store.volumes_mut().write(name, 0, &[1; 4 * BLOCK]).unwrap();
    }
    let clone = |store: &mut Store<_>| -> Vec<String> {
        let taken = store.take_instants(&["root", &long]).unwrap();
        // What is written after the instant is no longer the clone's.
        store.volumes_mut().write("root", 0, &[2; BLOCK]).unwrap();
        let names = store.copy_taken(&taken, "twin", 7).unwrap();
        names.iter().map(|name| name.to_string()).collect()
    };
    assert_eq!(clone(&mut store), ["root-twin".to_owned(), format!("{}-twin", "x".repeat(27))]);
    assert_eq!(clone(&mut store), ["root-twin-2".to_owned(), format!("{}-twin-2", "x".repeat(25))]);
    // The copies are there after a loss of power, and the original is as it was flushed last.
    let mut store = open(store.into_device());
    let expected = [vec![1; 4 * BLOCK], vec![0; 4 * BLOCK]].concat();
    assert!(whole(&mut store, "root-twin") == expected);
    assert!(whole(&mut store, "root") == [0; 8 * BLOCK]);
    store.volumes_mut().write("root-twin", 0, &[3; BLOCK]).unwrap();
    store.volumes_mut().flush("root-twin").unwrap();
    assert!(whole(&mut store, "root-twin-2")[..BLOCK] == [2; BLOCK]);
}

#[test]
fn a_checkpoint_has_the_volume_as_of_its_instant_and_frees_it_when_it_goes() {
    let mut store = open(formatted(100));
    store.create_volume("root", 16 * BLOCK as u64, 0).unwrap();
    let empty = store.usage().free;
    store.volumes_mut().write("root", 0, &[1; 8 * BLOCK]).unwrap();
    let number = checkpoint(&mut store, &["root"]);
    // The guest has never flushed it.
    store.volumes_mut().write("root", 0, &[2; 4 * BLOCK]).unwrap();
    let mut store = open(store.into_device());
    assert!(whole(&mut store, "root") == [0; 16 * BLOCK]);
    let instants = store.instants(number).unwrap();
    assert_eq!((&*instants[0].name, instants[0].length), ("root", 16 * BLOCK as u64));
    store.copy_volume(Source::Instant(number, "root"), "then", 0).unwrap();
    assert!(whole(&mut store, "then") == [vec![1; 8 * BLOCK], vec![0; 8 * BLOCK]].concat());
    assert!(store.copy_volume(Source::Instant(number, "other"), "x", 0).is_err());
    store.delete_volume("then").unwrap();
    store.delete(number).unwrap();
    assert_eq!(store.usage().free, empty);
}

#[test]
fn a_volume_that_is_brought_back_keeps_what_it_had_become() {
    let mut store = open(formatted(100));
    store.create_volume("root", 8 * BLOCK as u64, 0).unwrap();
    store.volumes_mut().write("root", 0, &[1; 8 * BLOCK]).unwrap();
    let number = checkpoint(&mut store, &["root"]);
    store.volumes_mut().flush("root").unwrap();
    assert_eq!(store.bring_back(&[number], Before::Kept).unwrap(), [], "it is as it was");
    store.volumes_mut().write("root", 4096, &[2; BLOCK]).unwrap();
    let kept = store.bring_back(&[number], Before::Kept).unwrap();
    assert_eq!(format!("{kept:?}"), r#"[("root", "root-before-1")]"#);
    let mut store = open(store.into_device());
    assert!(whole(&mut store, "root") == [1; 8 * BLOCK]);
    let became = whole(&mut store, "root-before-1");
    assert!(became[4096..8192] == [2; BLOCK] && became[..4096] == [1; BLOCK]);
    store.volumes_mut().write("root", 0, &[3; BLOCK]).unwrap();
    let kept = store.bring_back(&[number], Before::Kept).unwrap();
    assert_eq!(&*kept[0].1, "root-before-1-2");
    store.delete_volume("root").unwrap();
    assert_eq!(store.bring_back(&[number], Before::Kept).unwrap(), []);
    assert!(whole(&mut store, "root") == [1; 8 * BLOCK]);
}

#[test]
fn automatic_resumes_keep_the_three_newest_beside_what_a_guest_has() {
    let mut store = open(formatted(200));
    // Two that begin alike: neither is taken for the other.
    let (long, other) = ("x".repeat(32), format!("{}y", "x".repeat(31)));
    for name in ["root", &long, &other] {
        store.create_volume(name, 8 * BLOCK as u64, 0).unwrap();
    }
    let number = checkpoint(&mut store, &["root", &long, &other]);
    let used = ["root-recovered-2".to_owned()];
    for round in 1..=6 {
        for name in ["root", &long, &other] {
            store.volumes_mut().write(name, 0, &[round; BLOCK]).unwrap();
        }
        // A guest has the second one since it is there.
        let used = if round > 2 { &used[..] } else { &[] };
        let kept = store.bring_back(&[number], Before::Recovered { used }).unwrap();
        assert_eq!(kept[0].1.as_str(), format!("root-recovered-{round}"));
    }
    let names: Vec<&str> = store.volumes().iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names[1..5], [2, 4, 5, 6].map(|n| format!("root-recovered-{n}")));
    let of_long = names.iter().filter(|name| name.starts_with("xxxxxxxx~"));
    let numbers: Vec<&str> = of_long.filter_map(|name| name.rsplit('-').next()).collect();
    assert_eq!(numbers, ["4", "5", "6", "4", "5", "6"], "{names:?}");
    assert!(whole(&mut store, "root-recovered-6")[..BLOCK] == [6; BLOCK]);
    assert!(whole(&mut store, "root") == [0; 8 * BLOCK]);
}

#[test]
fn an_automatic_resume_removes_nothing_that_it_has_not_kept() {
    let mut store = open(formatted(200));
    let names: Vec<String> = (1..=4).map(|n| format!("production-data-base-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for name in &names {
        store.create_volume(name, 8 * BLOCK as u64, 0).unwrap();
    }
    let number = checkpoint(&mut store, &names);
    names.iter().for_each(|name| store.volumes_mut().write(name, 0, &[7; BLOCK]).unwrap());
    let kept = store.bring_back(&[number], Before::Recovered { used: &[] }).unwrap();
    assert_eq!(kept.len(), 4);
    assert!(kept.iter().all(|(_, name)| store.find_volume(name).is_ok()), "{kept:?}");

    // Nobody else makes a volume that could be taken for one of these.
    store.create_volume("a", 8 * BLOCK as u64, 0).unwrap();
    // What is there is known before anything is taken.
    assert!(store.check_copies(&["a"], "recovered-1").is_err());
    assert!(store.check_copies(&["b"], "twin").is_err());
    store.check_copies(&["a", "a"], "twin").unwrap();
    let taken = store.take_instants(&["a"]).unwrap();
    assert!(store.copy_taken(&taken, "recovered-1", 0).is_err());
    for (name, is_refused) in [
        ("a-recovered-1", true),
        ("a-recovered-9999", true),
        ("a-recovered-10000", false),
        ("a-recovered-18446744073709551615", false),
        ("a-recovered-01", false),
        ("a-recovered-0", false),
        ("a-recovered-", false),
    ] {
        let copied = store.copy_volume(Source::Volume("a"), name, 0);
        assert_eq!(copied.is_err(), is_refused, "{name}");
    }
    let before = store.volumes().len();
    let number = checkpoint(&mut store, &["a"]);
    for round in 1..=4 {
        store.volumes_mut().write("a", 0, &[round; BLOCK]).unwrap();
        store.bring_back(&[number], Before::Recovered { used: &[] }).unwrap();
    }
    let store = open(store.into_device());
    assert_eq!(store.volumes().len(), before + 3, "three more, and all others are there");
}

#[test]
fn what_was_taken_for_a_checkpoint_is_nobody_elses_until_it_is_committed() {
    let mut store = open(formatted(60));
    store.create_volume("a", 8 * BLOCK as u64, 0).unwrap();
    store.volumes_mut().write("a", 0, &[9; 4 * BLOCK]).unwrap();
    let instants = store.take_instants(&["a"]).unwrap();
    let mut writer = store.begin("it", 8192, 0).unwrap();
    writer.set_instants(instants).unwrap();
    writer.write(&[7; 4096]).unwrap();
    for round in 0..90 {
        writer.volumes_mut().write("a", round % 4 * 4096, &[round as u8; BLOCK]).unwrap();
        writer.volumes_mut().flush("a").unwrap();
    }
    writer.write(&[8; 4096]).unwrap();
    let number = writer.commit().unwrap().number;
    let mut then = vec![0; 4 * BLOCK];
    store.volumes_mut().read_instant(number, "a", 0, &mut then).unwrap();
    assert!(then == [9; 4 * BLOCK]);
    assert!(read(&mut store, number) == [[7; 4096], [8; 4096]].concat());
}

/// The newer catalog is damaged, and the older one steps in: nothing that it refers to was written.
#[test]
fn an_older_catalog_has_its_volumes_whole() {
    let mut store = open(formatted(30));
    store.create_volume("a", 8 * BLOCK as u64, 0).unwrap();
    for round in 0..80u64 {
        let before = whole(&mut store, "a");
        store.volumes_mut().write("a", round % 4 * 4096, &[round as u8 + 1; BLOCK]).unwrap();
        store.volumes_mut().flush("a").unwrap();
        // Not flushed, in a store of which nothing is known yet: what the older catalog refers to
        // is not written.
        store = open(store.into_device());
        store.volumes_mut().write("a", 4 * 4096, &[round as u8; 4 * BLOCK]).unwrap();
        let mut disk = store.into_device();
        let generation =
            |slot: usize| u64::from_le_bytes(disk.bytes[slot + 16..slot + 24].try_into().unwrap());
        let newer = if generation(0x1_0000) > generation(0x2_0000) { 0x1_0000 } else { 0x2_0000 };
        let good = disk.clone();
        disk.bytes[newer] ^= 1;
        assert!(whole(&mut open(disk), "a") == before, "round {round}");
        store = open(good);
    }
}
