//! Reads and writes of volumes, and their flushes.

use crate::common::{Counted, contents, formatted, open};
use crate::{BLOCK, whole};
use stasis_store::layout::{CatalogHeader, Entry};
use stasis_store::{Error, VolumeFault};

#[test]
fn a_long_read_leaves_the_core_to_others_and_ends_when_nobody_takes_more() {
    const DATA: u64 = 4 << 20;
    const HOLE: u64 = 32 << 20;
    let mut store = open(Counted::new(formatted(1200)));
    store.create_volume("root", DATA + HOLE, 0).unwrap();
    store.volumes_mut().write("root", 0, &contents(1, DATA as usize)).unwrap();
    store.device_mut().pauses = 0;
    let mut taken = 0;
    let take = &mut |piece: &[u8]| {
        taken += piece.len() as u64;
        true
    };
    assert!(store.volumes_mut().read_while("root", DATA, HOLE, take).unwrap());
    assert_eq!(taken, HOLE);
    assert!(store.device_mut().pauses >= 512, "{}", store.device_mut().pauses);
    for offset in [0, DATA] {
        store.device_mut().read = 0;
        let mut pieces = 0;
        let take = &mut |_: &[u8]| {
            pieces += 1;
            pieces < 3
        };
        assert!(!store.volumes_mut().read_while("root", offset, DATA, take).unwrap());
        assert_eq!(pieces, 3, "at {offset}");
        assert!(store.device_mut().read <= 1 << 20, "{}", store.device_mut().read);
    }
}

#[test]
fn a_write_that_is_given_up_leaves_all_from_there_on_as_it_was() {
    let mut store = open(formatted(80));
    store.create_volume("root", 20 * BLOCK as u64, 0).unwrap();
    let mut expected = contents(3, 20 * BLOCK);
    store.volumes_mut().write("root", 0, &expected).unwrap();
    // In place, and then in blocks that a committed map refers to. The bytes begin and end in the
    // midst of a block.
    for is_flushed in [false, true] {
        if is_flushed {
            store.volumes_mut().flush("root").unwrap();
        }
        for accepted in 0..3 {
            let (mut left, mut done) = (accepted, 0);
            let written = store.volumes_mut().write_while("root", 512, 9216, &mut |piece| {
                piece.fill(0xee);
                done += if left > 0 { piece.len() } else { 0 };
                left -= 1;
                left >= 0
            });
            assert_eq!((written.unwrap(), left), (false, -1), "nobody asks again");
            expected[512..512 + done].fill(0xee);
            assert!(whole(&mut store, "root") == expected, "{is_flushed} {accepted}");
        }
    }
    store.volumes_mut().flush("root").unwrap();
    assert!(whole(&mut open(store.into_device()), "root") == expected);
}

#[test]
fn what_is_written_is_read_at_once_and_is_there_after_a_flush_alone() {
    let mut store = open(formatted(80));
    store.create_volume("root", 20 * BLOCK as u64, 0).unwrap();
    store.volumes_mut().write("root", 512, &[1; 9216]).unwrap();
    store.volumes_mut().write("root", 3 * 4096, &[2; 8192]).unwrap();
    let mut expected = vec![0; 20 * BLOCK];
    expected[512..512 + 9216].fill(1);
    expected[3 * 4096..5 * 4096].fill(2);
    assert!(whole(&mut store, "root") == expected);
    let disk = store.into_device();
    let mut store = open(disk.clone());
    assert!(whole(&mut store, "root").iter().all(|byte| *byte == 0), "nobody has flushed it");
    store.volumes_mut().write("root", 512, &[1; 9216]).unwrap();
    store.volumes_mut().write("root", 3 * 4096, &[2; 8192]).unwrap();
    store.volumes_mut().flush("root").unwrap();
    let mut store = open(store.into_device());
    assert!(whole(&mut store, "root") == expected);
}

#[test]
fn accesses_beyond_the_end_or_within_a_sector_are_refused() {
    let mut store = open(formatted(40));
    store.create_volume("root", 8192, 0).unwrap();
    let mut volumes = store.volumes_mut();
    for (offset, len) in [(8192, 512), (7680, 1024), (1, 512), (0, 511), (u64::MAX - 511, 512)] {
        let refused = volumes.write("root", offset, &vec![0; len]).unwrap_err();
        assert!(matches!(refused, Error::Volume(VolumeFault::Beyond { .. })), "{refused}");
        assert!(volumes.zero("root", offset, len as u64).is_err());
        assert!(volumes.read("root", offset, &mut vec![0; len]).is_err());
    }
    assert!(matches!(volumes.flush("other"), Err(Error::Volume(VolumeFault::NotThere { .. }))));
}

#[test]
fn all_volumes_are_flushed_as_one_asks_for_it() {
    let mut store = open(formatted(100));
    for name in ["a", "b", "c"] {
        store.create_volume(name, 8 * BLOCK as u64, 0).unwrap();
    }
    store.volumes_mut().write("a", 0, &[1; BLOCK]).unwrap();
    store.volumes_mut().write("c", 0, &[2; BLOCK]).unwrap();
    assert!(store.flush_volumes().is_empty());
    let mut store = open(store.into_device());
    assert!(
        whole(&mut store, "a")[..BLOCK] == [1; BLOCK]
            && whole(&mut store, "c")[..BLOCK] == [2; BLOCK]
    );
}

#[test]
fn a_volume_that_is_begun_is_there_with_its_first_flush() {
    let mut store = open(formatted(60));
    store.begin_volume("root", 8 * BLOCK as u64, 0).unwrap();
    store.volumes_mut().write("root", 0, &[1; BLOCK]).unwrap();
    assert!(store.volumes().is_empty());
    assert!(matches!(
        store.create_volume("root", 4096, 0),
        Err(Error::Volume(VolumeFault::Exists { .. }))
    ));
    store.volumes_mut().flush("root").unwrap();
    let mut store = open(store.into_device());
    assert!(whole(&mut store, "root")[..BLOCK] == [1; BLOCK]);
    let empty = store.usage().free;
    store.begin_volume("other", 8 * BLOCK as u64, 0).unwrap();
    store.volumes_mut().write("other", 0, &[1; 8 * BLOCK]).unwrap();
    store.volumes_mut().close("other");
    assert_eq!(store.usage().free, empty, "what was given up takes no room");
}

/// A flush writes a leaf, which is the root, and a catalog; a store that is opened reads them.
#[test]
fn the_machine_computes_the_checksums_of_maps_and_catalogs() {
    let mut store = open(Counted::new(formatted(80)));
    store.create_volume("root", 4 * BLOCK as u64, 0).unwrap();
    store.volumes_mut().write("root", 0, &contents(1, BLOCK)).unwrap();
    store.device_mut().summed.set(0);
    store.volumes_mut().flush("root").unwrap();
    let catalog = size_of::<CatalogHeader>() + size_of::<Entry>() - 12;
    assert_eq!(store.device_mut().summed.get(), BLOCK + catalog);

    let mut store = open(store.into_device());
    store.device_mut().summed.set(0);
    store.volumes_mut().read("root", 0, &mut [0; BLOCK]).unwrap();
    assert_eq!(store.device_mut().summed.get(), BLOCK);
}
