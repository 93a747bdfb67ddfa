//! Volumes where there is little room, or a map is damaged.

use crate::common::{formatted, open};
use crate::{BLOCK, whole};
use stasis_store::{BlockDevice, Error, Partition, RamDisk, Store, VolumeFault};

#[test]
fn a_full_store_refuses_a_write_and_can_still_flush_what_it_took() {
    let mut store = open(formatted(40));
    store.create_volume("root", 100 * BLOCK as u64, 0).unwrap();
    let mut taken = 0;
    let full = loop {
        let at = taken * BLOCK as u64;
        match store.volumes_mut().write("root", at, &[7; BLOCK]) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(&full, Error::Volume(VolumeFault::Full { name }) if name == "root"), "{full}");
    assert!(taken >= 28, "{taken} blocks");
    store.volumes_mut().flush("root").unwrap();
    store.volumes_mut().zero("root", 0, 20 * BLOCK as u64).unwrap();
    store.volumes_mut().flush("root").unwrap();
    for at in 0..12 {
        store.volumes_mut().write("root", at * BLOCK as u64, &[8; BLOCK]).unwrap();
    }
    store.volumes_mut().flush("root").unwrap();
    let mut store = open(store.into_device());
    let found = whole(&mut store, "root");
    assert!(
        found[..12 * BLOCK] == [8; 12 * BLOCK] && found[16 * BLOCK..20 * BLOCK] == [0; 4 * BLOCK]
    );
    assert!(found[20 * BLOCK..taken as usize * BLOCK].iter().all(|byte| *byte == 7));
}

/// A volume that is larger than its store, with a map of three levels.
#[test]
fn a_sparse_volume_takes_no_more_than_what_is_in_it() {
    let mut store = open(formatted(100));
    let length = 1u64 << 40;
    store.create_volume("big", length, 0).unwrap();
    for at in [0, length / 2, length - 4096] {
        store.volumes_mut().write("big", at, &[5; BLOCK]).unwrap();
    }
    store.volumes_mut().flush("big").unwrap();
    let mut store = open(store.into_device());
    let mut volumes = store.volumes_mut();
    let mut found = Vec::new();
    while let Some(data) = volumes
        .next_data("big", found.last().map_or(0, |last: &std::ops::Range<u32>| last.end))
        .unwrap()
    {
        found.push(data);
    }
    let half = (length / 2 / 4096) as u32;
    assert_eq!(found, [0..1, half..half + 1, 2 * half - 1..2 * half]);
    let mut block = [0; BLOCK];
    volumes.read("big", length - 4096, &mut block).unwrap();
    assert_eq!(block, [5; BLOCK]);
    volumes.zero("big", 0, length).unwrap();
    volumes.flush("big").unwrap();
    assert_eq!(store.freed_by_each_volume(), [0]);
}

#[test]
fn damage_of_a_map_is_found_and_hurts_nobody_else() {
    let mut store = open(formatted(60));
    for name in ["a", "b"] {
        store.create_volume(name, 8 * BLOCK as u64, 0).unwrap();
        store.volumes_mut().write(name, 0, &[3; BLOCK]).unwrap();
        store.volumes_mut().flush(name).unwrap();
    }
    let mut disk: RamDisk = store.into_device();
    let node = (0x3_0000..disk.bytes.len())
        .step_by(BLOCK)
        .find(|at| disk.bytes[*at..*at + 4] == *b"SMAP")
        .unwrap();
    disk.bytes[node + 20] ^= 1;
    let partition = Partition::whole(&disk);
    let mut store = Store::open(disk, partition).unwrap();
    let mut block = [0; BLOCK];
    let damaged = store.volumes_mut().read("a", 0, &mut block).unwrap_err();
    assert!(
        matches!(&damaged, Error::Volume(VolumeFault::Damaged { name, .. }) if name == "a"),
        "{damaged}"
    );
    store.volumes_mut().read("b", 0, &mut block).unwrap();
    assert_eq!(block, [3; BLOCK]);
    store.volumes_mut().write("b", 4096, &[4; BLOCK]).unwrap();
    store.volumes_mut().flush("b").unwrap();
    store.delete_volume("a").unwrap();
    assert_eq!(whole(&mut store, "b")[4096..8192], [4; BLOCK]);
}

/// Fills the store by writing another volume again and again, so that every block that is not known
/// to be somebody's is given out.
fn churn<D: BlockDevice>(store: &mut Store<D>, name: &str, rounds: u64) {
    for round in 0..rounds {
        let at = round % 4 * BLOCK as u64;
        store.volumes_mut().write(name, at, &[round as u8; BLOCK]).unwrap();
        store.volumes_mut().flush(name).unwrap();
    }
}

#[test]
fn what_is_not_flushed_yet_is_nobody_elses_in_a_full_store() {
    let mut store = open(formatted(36));
    for name in ["a", "b"] {
        store.create_volume(name, 8 * BLOCK as u64, 0).unwrap();
    }
    store.volumes_mut().write("a", 0, &[9; 4 * BLOCK]).unwrap();
    churn(&mut store, "b", 60);
    store.volumes_mut().flush("a").unwrap();
    assert!(whole(&mut store, "a")[..4 * BLOCK] == [9; 4 * BLOCK]);
    assert!(whole(&mut store, "b")[..BLOCK] == [56; BLOCK]);
}
