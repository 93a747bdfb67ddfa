//! Stores that older versions of this code have made, in `tests/golden/store`: they are read for ever. (`power_loss.rs` takes those of version 1 further.)

mod common;

use common::{add, contents, formatted_as, golden, open, read};
use stasis_store::layout::{BLOCK, VERSION};
use stasis_store::{RamDisk, SECTOR, Store};

const IDENTITIES: [[u8; 16]; 2] = [*b"the first of all", *b"the second of it"];

/// Makes a store as the golden ones are: six checkpoints, three of them a set of which one is deleted. Where blocks can be shared, the last two share most of theirs with
/// the one before, which is deleted.
fn made(version: u32) -> RamDisk {
    let mut store = open(formatted_as(100, version));
    add(&mut store, "linux", &contents(1, 5 * BLOCK + 7)).unwrap();
    for (number, guest) in (2..).zip(["a", "b", "c"]) {
        let mut writer = store.begin(&format!("evening/{guest}"), 5_000, 1_700_000_000).unwrap();
        writer.write(&contents(number, 5_000)).unwrap();
        if guest == "c" { drop(writer.commit().unwrap()) } else { writer.stage().unwrap() }
    }
    later(&mut store, 1, IDENTITIES[0], [0; 16]);
    later(&mut store, 5, IDENTITIES[1], IDENTITIES[0]);
    store.delete(3).unwrap();
    store.delete(1).unwrap();
    store.into_device()
}

/// Adds a checkpoint that lacks the third block of `of`, and has another one at its end.
fn later(store: &mut Store<RamDisk>, of: u64, identity: [u8; 16], parent: [u8; 16]) {
    let before = read(store, of);
    let shares = store.has_maps();
    let mut writer = store.begin_open("linux", 1_700_000_100).unwrap();
    writer.set_identity(identity, parent);
    writer.set_pages(9);
    let mut part = |from: u64, to: u64| match shares {
        true => writer.share(of, from..to).unwrap(),
        false => writer.write(&before[from as usize * BLOCK..to as usize * BLOCK]).unwrap(),
    };
    part(0, 2);
    part(3, 5);
    writer.write(&contents(of + 100, BLOCK)).unwrap();
    writer.commit().unwrap();
}

/// What the checkpoints of the golden stores have.
fn expected() -> Vec<(u64, Vec<u8>)> {
    let first = contents(1, 5 * BLOCK);
    let fifth = [&first[..2 * BLOCK], &first[3 * BLOCK..], &contents(101, BLOCK)].concat();
    let sixth = [&fifth[..2 * BLOCK], &fifth[3 * BLOCK..], &contents(105, BLOCK)].concat();
    vec![(2, contents(2, 5_000)), (4, contents(4, 5_000)), (5, fifth), (6, sixth)]
}

fn check(disk: RamDisk, version: u32) {
    let mut store = open(disk);
    assert_eq!(store.version(), version);
    let numbers: Vec<u64> = store.list().iter().map(|one| one.number).collect();
    assert_eq!(numbers, [2, 4, 5, 6]);
    for (number, bytes) in expected() {
        assert!(read(&mut store, number) == bytes, "checkpoint {number}, version {version}");
    }
    let set = store.find_set("evening").unwrap();
    assert_eq!((set.count, set.members.len()), (3, 2));
    let sixth = store.find(6).unwrap();
    assert_eq!((sixth.created, sixth.pages.map(|pages| pages.get())), (1_700_000_100, Some(9)));
    if version == 3 {
        assert_eq!((sixth.identity, sixth.parent), (IDENTITIES[1], IDENTITIES[0]));
    }
}

#[test]
fn stores_of_versions_2_and_3_are_read_as_they_were_written() {
    check(golden("2"), 2);
    check(golden("3"), 3);
}

#[test]
fn stores_of_each_version_are_written_as_the_golden_ones() {
    for version in [2, 3] {
        check(made(version), version);
    }
}

/// Writes the golden store of the newest version. Older ones are never written again.
#[test]
#[ignore = "writes tests/golden/store: for a new version alone"]
fn write_the_golden_store() {
    for version in std::env::var("GOLDEN").map_or(vec![VERSION], |one| vec![one.parse().unwrap()]) {
        let disk = made(version);
        // What `formatted` has filled the disk with is left out.
        let sectors = disk.bytes.chunks(SECTOR).zip(0u32..);
        let kept = sectors.filter(|(bytes, _)| bytes.iter().any(|byte| !matches!(byte, 0 | 0xa5)));
        let mut file = Vec::from(((disk.bytes.len() / SECTOR) as u32).to_le_bytes());
        kept.for_each(|(bytes, number)| file.extend([&number.to_le_bytes()[..], bytes].concat()));
        let folder = format!("{}/../../tests/golden/store", env!("CARGO_MANIFEST_DIR"));
        std::fs::write(format!("{folder}/{version}.sectors"), file).unwrap();
    }
}
