use super::*;
use crate::block::RamDisk;
use crate::layout::{BLOCK, FIRST_DATA_BLOCK, LEAF_BLOCKS};
use crate::partition::Partition;

/// Bytes that a node of level 0 maps.
const LEAF: u64 = LEAF_BLOCKS as u64 * BLOCK as u64;

fn store(blocks: u32) -> Store<RamDisk> {
    let disk = RamDisk::new(u64::from(FIRST_DATA_BLOCK + blocks) * 8);
    let partition = Partition::whole(&disk);
    Store::format(disk, partition).unwrap()
}

/// Returns the memory that nodes of all volumes in use take, and how many nodes.
fn memory(store: &Store<RamDisk>) -> (usize, usize) {
    let nodes = || store.open.iter().flat_map(|open| &open.map.kept);
    (nodes().map(|node| node.content.units()).sum(), nodes().count())
}

#[test]
fn all_volumes_together_take_one_mebibyte_and_what_was_used_last_stays() {
    let mut store = store(8_000);
    let names = ["a", "b", "c", "d"];
    let mut block = [0; BLOCK];
    for (name, byte) in names.into_iter().zip(1..) {
        store.create_volume(name, LEAF * 540, 0).unwrap();
        for leaf in 0..540 {
            store.volumes_mut().write(name, leaf * LEAF, &[byte; BLOCK]).unwrap();
            assert!(memory(&store).0 <= MAX_UNITS);
            // What was not flushed is read beside it, whoever has changed how much.
            store.volumes_mut().read("a", leaf * LEAF, &mut block).unwrap();
            assert_eq!(block[0], 1);
        }
    }
    for name in names {
        store.volumes_mut().flush(name).unwrap();
        store.volumes_mut().close(name);
    }
    for (name, byte) in names.into_iter().zip(1..) {
        for leaf in 0..540 {
            store.volumes_mut().read(name, leaf * LEAF, &mut block).unwrap();
            assert_eq!(block, [byte; BLOCK]);
            store.volumes_mut().read("a", 0, &mut block).unwrap();
            assert!(memory(&store).0 <= MAX_UNITS);
        }
    }
    let first = store.open.iter().find(|open| &*open.volume.name == "a").unwrap();
    assert!(first.map.kept.iter().any(|node| node.place == (0, 0)), "it was used all the time");
}

#[test]
fn a_large_volume_takes_memory_for_what_is_used_of_it() {
    let mut store = store(100);
    let length = 1 << 40;
    store.create_volume("big", length, 0).unwrap();
    let mut block = [0; BLOCK];
    store.volumes_mut().read("big", length / 2, &mut block).unwrap();
    assert_eq!(memory(&store), (0, 0));
    store.volumes_mut().write("big", length / 2, &[3; BLOCK]).unwrap();
    // A leaf, and the three nodes above it.
    assert_eq!(memory(&store), (LEAF_AND_PATH, 4));
    store.volumes_mut().flush("big").unwrap();
    store.volumes_mut().close("big");
    store.volumes_mut().read("big", length / 2, &mut block).unwrap();
    assert_eq!((block, memory(&store)), ([3; BLOCK], (LEAF_AND_PATH, 4)));
}

/// Units of a leaf and three nodes above it.
const LEAF_AND_PATH: usize = 1 + 3 * UPPER_UNITS;

#[test]
fn a_read_never_writes_what_has_changed() {
    let mut store = store(4_000);
    store.create_volume("a", LEAF * 1_000, 0).unwrap();
    for leaf in 0..1_000 {
        store.volumes_mut().write("a", leaf * LEAF, &[1; BLOCK]).unwrap();
    }
    let before = store.space.as_ref().map(|space| space.given());
    let mut block = [0; BLOCK];
    for leaf in 0..1_000 {
        store.volumes_mut().read("a", leaf * LEAF, &mut block).unwrap();
        assert_eq!(block, [1; BLOCK]);
    }
    assert!(before.is_some() && store.space.as_ref().map(|space| space.given()) == before);
    assert!(memory(&store).0 <= MAX_UNITS);
}
