//! Stores that older versions of this code have made, in `tests/golden/store`: they are read for
//! ever. (`power_loss/versions.rs` takes those of version 1 further.)

mod common;

use common::{add, contents, formatted_as, golden, open, read};
use stasis_store::layout::{BLOCK, VERSION, VERSION_OF_UNITS, VERSION_OF_VOLUMES};
use stasis_store::volume::Source;
use stasis_store::{Compression, RamDisk, SECTOR, Store};

const IDENTITIES: [[u8; 16]; 2] = [*b"the first of all", *b"the second of it"];

/// Makes a store as the golden ones are: six checkpoints, three of them a set of which one is
/// deleted. Where blocks can be shared, the last two share most of theirs with the one before,
/// which is deleted.
fn made(version: u32) -> RamDisk {
    let mut store = open(formatted_as(100, version));
    if version >= VERSION_OF_UNITS {
        store.set_compression(Compression::Lz4).unwrap();
    }
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
    if version >= VERSION_OF_VOLUMES {
        add_volumes(&mut store);
    }
    store.into_device()
}

/// Bytes of the volumes: two nodes of level 0.
const VOLUME: u64 = 600 * BLOCK as u64;

/// Adds a volume, a copy of it, an empty one, and a checkpoint that has the first as it was before
/// its last change.
fn add_volumes(store: &mut Store<RamDisk>) {
    store.create_volume("root", VOLUME, 1_700_000_000).unwrap();
    store.create_volume("empty", BLOCK as u64, 0).unwrap();
    store.volumes_mut().write("root", 3 * BLOCK as u64, &contents(7, 2 * BLOCK)).unwrap();
    store.volumes_mut().write("root", VOLUME - 512, &contents(8, 512)).unwrap();
    let instants = store.take_instants(&["root", "empty"]).unwrap();
    let mut writer = store.begin("disks", 5_000, 0).unwrap();
    writer.set_instants(instants).unwrap();
    writer.write(&contents(9, 5_000)).unwrap();
    assert_eq!(writer.commit().unwrap().number, 7);
    store.volumes_mut().write("root", 0, &contents(10, BLOCK)).unwrap();
    store.volumes_mut().flush("root").unwrap();
    store.copy_volume(Source::Volume("root"), "copy", 0).unwrap();
}

/// Checks the volumes, and takes away what a store without them does not have.
fn check_volumes(store: &mut Store<RamDisk>) {
    let mut then = vec![0; VOLUME as usize];
    then[3 * BLOCK..5 * BLOCK].copy_from_slice(&contents(7, 2 * BLOCK));
    then[VOLUME as usize - 512..].copy_from_slice(&contents(8, 512));
    let mut found = vec![1; VOLUME as usize];
    store.volumes_mut().read_instant(7, "root", 0, &mut found).unwrap();
    assert!(found == then);
    then[..BLOCK].copy_from_slice(&contents(10, BLOCK));
    for name in ["copy", "root"] {
        store.volumes_mut().read(name, 0, &mut found).unwrap();
        assert!(found == then, "{name}");
        store.volumes_mut().close(name);
    }
    let listed: Vec<_> = store.volumes().iter().map(|one| (&*one.name, one.length)).collect();
    assert_eq!(listed, [("copy", VOLUME), ("empty", BLOCK as u64), ("root", VOLUME)]);
    assert_eq!(store.find_volume("root").unwrap().created, 1_700_000_000);
    assert_eq!(store.instants(7).unwrap().len(), 2);
    assert!(read(store, 7) == contents(9, 5_000));
    store.delete(7).unwrap();
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
    if version >= VERSION_OF_VOLUMES {
        check_volumes(&mut store);
    }
    let numbers: Vec<u64> = store.list().iter().map(|one| one.number).collect();
    assert_eq!(numbers, [2, 4, 5, 6]);
    for (number, bytes) in expected() {
        assert!(read(&mut store, number) == bytes, "checkpoint {number}, version {version}");
    }
    let set = store.find_set("evening").unwrap();
    assert_eq!((set.count, set.members.len()), (3, 2));
    let sixth = store.find(6).unwrap();
    assert_eq!((sixth.created, sixth.pages.map(|pages| pages.get())), (1_700_000_100, Some(9)));
    if version >= 3 {
        assert_eq!((sixth.identity, sixth.parent), (IDENTITIES[1], IDENTITIES[0]));
    }
}

#[test]
fn stores_of_versions_2_to_5_are_read_as_they_were_written() {
    check(golden("2"), 2);
    check(golden("3"), 3);
    check(golden("4"), 4);
    check(golden("5"), 5);
}

#[test]
fn stores_of_each_version_are_written_as_the_golden_ones() {
    for version in [2, 3, 4, 5] {
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
