//! Volumes where room, memory or the device are lacking: what was acknowledged can be flushed,
//! nobody takes what is another's, and reads go on.

mod common;

use common::{FaultyDisk, add, contents, formatted, open, read};
use stasis_store::volume::Before;
use stasis_store::{BlockDevice, Error, Store, VolumeFault};

const BLOCK: usize = 4096;
/// Bytes that a node of level 0 maps.
const LEAF: u64 = 496 * 4096;

fn write<D: BlockDevice>(store: &mut Store<D>, name: &str, at: u64, byte: u8, blocks: usize) {
    store.volumes_mut().write(name, at, &vec![byte; blocks * BLOCK]).unwrap();
}

/// Returns a store in which volume "b" has two blocks in each of many nodes.
fn spread(blocks: u32, leaves: u64) -> Store<stasis_store::RamDisk> {
    let mut store = open(formatted(blocks));
    store.create_volume("b", LEAF * leaves, 0).unwrap();
    (0..leaves).for_each(|leaf| write(&mut store, "b", leaf * LEAF, 1, 2));
    store.volumes_mut().flush("b").unwrap();
    store
}

/// Writes blocks of a volume until the store is full. Returns how many it took.
fn fill<D: BlockDevice>(store: &mut Store<D>, name: &str, most: u64) -> u64 {
    let taken =
        (0..most).take_while(|at| store.volumes_mut().write(name, at * 4096, &[7; BLOCK]).is_ok());
    taken.count() as u64
}

#[test]
fn the_list_of_a_checkpoints_volumes_is_nobody_elses() {
    for blocks in 0..40 {
        let mut store = open(formatted(44));
        store.create_volume("a", 8 * BLOCK as u64, 0).unwrap();
        write(&mut store, "a", 0, 9, 4);
        store.volumes_mut().flush("a").unwrap();
        add(&mut store, "x", &[1; 3 * BLOCK]).unwrap();
        store.delete(1).unwrap();
        let instants = store.take_instants(&["a"]).unwrap();
        let mut writer = store.begin_open("it", 0).unwrap();
        writer.set_instants(instants).unwrap();
        if writer.write(&contents(5, blocks * BLOCK)).is_err() {
            continue;
        }
        let Ok(done) = writer.commit() else { continue };
        for round in 0..12 {
            let _ = store.volumes_mut().write("a", round % 4 * 4096, &[round as u8; BLOCK]);
            let _ = store.volumes_mut().flush("a");
        }
        assert_eq!(store.instants(done.number).map(|all| all.len()), Ok(1), "{blocks} blocks");
        assert!(read(&mut store, done.number) == contents(5, blocks * BLOCK));
    }
}

#[test]
fn a_discard_does_not_take_what_others_need_for_their_flush() {
    let mut store = spread(120, 20);
    store.create_volume("a", 60 * 4096, 0).unwrap();
    let taken = fill(&mut store, "a", 60);
    assert!(taken > 10 && taken < 60, "{taken}");
    for leaf in 0..20 {
        store.volumes_mut().zero("b", leaf * LEAF, 4096).unwrap();
    }
    store.volumes_mut().flush("b").unwrap();
    store.volumes_mut().flush("a").unwrap();
}

#[test]
fn a_discard_in_a_full_store_frees_room() {
    let mut store = spread(110, 20);
    let mut full = false;
    for at in (0..20 * 98).map(|n| n % 20 * LEAF + (2 + n / 20) * 4096) {
        full |= store.volumes_mut().write("b", at, &[7; BLOCK]).is_err();
        store.volumes_mut().flush("b").unwrap();
    }
    assert!(full);
    for leaf in 0..20 {
        store.volumes_mut().zero("b", leaf * LEAF, 4096).unwrap();
    }
    store.volumes_mut().flush("b").unwrap();
    write(&mut store, "b", 0, 9, 1);
    store.volumes_mut().flush("b").unwrap();
}

#[test]
fn a_large_discard_takes_nothing_from_others() {
    let mut store = spread(400, 100);
    store.create_volume("a", 1 << 20, 0).unwrap();
    store.volumes_mut().zero("b", 0, 100 * LEAF).unwrap();
    write(&mut store, "a", 0, 2, 1);
    add(&mut store, "x", &[1; 3 * BLOCK]).unwrap();
    store.volumes_mut().flush("b").unwrap();
    assert_eq!(store.freed_by_each_volume()[1], 0);
}

#[test]
fn what_was_taken_for_a_checkpoint_that_is_given_up_is_free_again() {
    let mut store = open(formatted(100));
    store.create_volume("a", 8 * 4096, 0).unwrap();
    for round in 0..300 {
        write(&mut store, "a", 0, round as u8, 1);
        let instants = store.take_instants(&["a"]).unwrap();
        let mut writer = store.begin_open("it", 0).unwrap();
        writer.set_instants(instants).unwrap();
    }
}

#[test]
fn more_of_a_map_may_change_than_memory_has() {
    let mut store = open(formatted(6000));
    store.create_volume("a", LEAF * 600, 0).unwrap();
    for round in 0..12 {
        (0..530).for_each(|leaf| write(&mut store, "a", leaf * LEAF, round, 1));
    }
    store.volumes_mut().flush("a").unwrap();
    let mut block = [0; BLOCK];
    for leaf in 0..600 {
        store.volumes_mut().read("a", leaf * LEAF, &mut block).unwrap();
        assert_eq!(block, [if leaf < 530 { 11 } else { 0 }; BLOCK]);
    }
}

#[test]
fn a_full_store_is_read_whatever_was_trimmed() {
    let mut store = spread(4200, 530);
    for n in 0..u64::MAX {
        let at = (2 + n % 490) * 4096 + n / 490 * LEAF;
        if store.volumes_mut().write("b", at, &[7; BLOCK]).is_err() {
            break;
        }
        if n % 50 == 0 {
            store.volumes_mut().flush("b").unwrap();
        }
    }
    store.volumes_mut().flush("b").unwrap();
    let mut block = [0; BLOCK];
    for leaf in 0..530 {
        store.volumes_mut().zero("b", leaf * LEAF + 4096, 4096).unwrap();
        store.volumes_mut().read("b", (529 - leaf) * LEAF, &mut block).unwrap();
        assert_eq!(block, [1; BLOCK]);
    }
    store.volumes_mut().flush("b").unwrap();
}

#[test]
fn a_volume_is_brought_back_although_what_it_had_become_is_damaged() {
    let long = "debian-root-of-the-build-host-xy";
    let mut store = open(formatted(80));
    let mut numbers = Vec::new();
    for (name, blocks) in [(long, 8), ("a", 1000)] {
        store.create_volume(name, blocks * 4096, 0).unwrap();
        write(&mut store, name, 0, 3, 1);
        let instants = store.take_instants(&[name]).unwrap();
        let mut writer = store.begin("it", 5000, 0).unwrap();
        writer.set_instants(instants).unwrap();
        writer.write(&contents(1, 5000)).unwrap();
        numbers.push(writer.commit().unwrap().number);
        write(&mut store, name, 0, 4, 1);
        store.volumes_mut().flush(name).unwrap();
    }
    let kept = store.bring_back(&[numbers[0]], Before::Kept).unwrap();
    assert_eq!(&*kept[0].1, "debian-root-of-the-buil-before-1");
    let mut disk = store.into_device();
    let mut nodes = (0x3_0000..disk.bytes.len()).step_by(BLOCK);
    let root = nodes.rfind(|at| disk.bytes[*at..*at + 5] == *b"SMAP\x01").unwrap();
    disk.bytes[root + 4000] ^= 1;
    let mut store = open(disk);
    let mut block = [0; BLOCK];
    let damaged = store.volumes_mut().read("a", 0, &mut block);
    assert!(matches!(damaged, Err(Error::Volume(VolumeFault::Damaged { .. }))));
    store.bring_back(&[numbers[1]], Before::Kept).unwrap();
    store.volumes_mut().read("a", 0, &mut block).unwrap();
    assert_eq!(block, [3; BLOCK]);
}

#[test]
fn a_write_that_fails_is_one_error_and_not_everybodys() {
    for depth in [0, 2] {
        for fails in 0..3 {
            let mut store = open(FaultyDisk::new(formatted(400)).with_depth(depth));
            store.create_volume("a", 100 * 4096, 0).unwrap();
            write(&mut store, "a", 0, 1, 1);
            let at = store.device_mut().operations + fails;
            store.device_mut().fails_at = vec![at];
            let write = store.volumes_mut().write("a", 4096, &[2; BLOCK]);
            let flush = store.volumes_mut().flush("a");
            assert_eq!(u32::from(write.is_err()) + u32::from(flush.is_err()), 1, "at {fails}");
            // Of what a device could not flush, nobody knows whether it has forgotten it.
            store.volumes_mut().close("a");
            store.volumes_mut().write("a", 4096, &[2; BLOCK]).unwrap();
            store.volumes_mut().flush("a").unwrap();
            let mut store = open(store.device_mut().some_outcome(0));
            let mut block = [0; BLOCK];
            store.volumes_mut().read("a", 4096, &mut block).unwrap();
            assert_eq!(block, [2; BLOCK]);
        }
    }
}

/// A flush beside a writer has reached the disk, but is said to have failed: the writer takes no
/// block that the catalog on the disk may refer to.
#[test]
fn a_writer_beside_a_flush_that_failed_is_refused_and_takes_no_blocks_of_it() {
    for blocks in 24..60 {
        let mut store = open(FaultyDisk::new(formatted(blocks)));
        store.create_volume("a", 8 * BLOCK as u64, 0).unwrap();
        write(&mut store, "a", 0, 1, 4);
        store.volumes_mut().flush("a").unwrap();
        write(&mut store, "a", 0, 2, 4);
        let mut writer = store.begin_open("it", 0).unwrap();
        writer.write(&contents(1, BLOCK)).unwrap();
        // A node, a flush, the catalog, a flush.
        let last = writer.device_mut().operations + 3;
        writer.device_mut().fails_at = vec![last];
        assert!(writer.volumes_mut().flush("a").is_err());
        writer.volumes_mut().close("a");
        for seed in 0..u64::from(blocks) {
            let refused = writer.write(&contents(seed, BLOCK)).unwrap_err();
            assert_eq!(refused, Error::WriterFailed);
        }
        drop(writer);
        let mut store = open(store.device_mut().some_outcome(1));
        let mut found = vec![0; 4 * BLOCK];
        store.volumes_mut().read("a", 0, &mut found).unwrap();
        assert!([1, 2].iter().any(|byte| found == [*byte; 4 * BLOCK]), "{blocks} blocks");
    }
}

/// The room that a checkpoint was promised is there, also where its guest has volumes and each of
/// its blocks stands by itself.
#[test]
fn a_checkpoint_that_was_begun_with_its_length_has_room_for_all_of_it() {
    for blocks in [60, 1200] {
        for wanted in blocks / 2 - 12..blocks / 2 + 4 {
            let mut store = open(formatted(blocks));
            store.create_volume("a", 8 * BLOCK as u64, 0).unwrap();
            // Every second block is free.
            store.create_volume("gaps", u64::from(blocks) * 4096, 0).unwrap();
            let taken = fill(&mut store, "gaps", u64::from(blocks));
            for at in (0..taken).step_by(2) {
                store.volumes_mut().zero("gaps", at * 4096, 4096).unwrap();
            }
            store.volumes_mut().flush("gaps").unwrap();
            let _ = store.volumes_mut().write("a", 0, &[3; BLOCK]);
            let instants = store.take_instants(&["a"]).unwrap();
            let _ = store.volumes_mut().write("a", 0, &[4; BLOCK]);
            let length = u64::from(wanted) * 4096;
            let Ok(mut writer) = store.begin("it", length, 0) else { continue };
            writer.set_instants(instants).unwrap();
            writer.write(&contents(5, length as usize)).unwrap();
            writer.commit().unwrap();
            store.volumes_mut().flush("a").unwrap();
        }
    }
}

#[test]
fn what_was_taken_of_volumes_is_held_until_it_is_dropped_and_no_longer() {
    let mut store = open(formatted(100));
    store.create_volume("a", 8 * 4096, 0).unwrap();
    write(&mut store, "a", 0, 9, 1);
    let held = store.take_instants(&["a"]).unwrap();
    for round in 0..200 {
        write(&mut store, "a", 0, round as u8, 1);
        // Nobody begins a checkpoint with it.
        drop(store.take_instants(&["a"]).unwrap());
        if round == 100 {
            // The commit of another checkpoint.
            add(&mut store, "x", &[1; BLOCK]).unwrap();
        }
    }
    let mut writer = store.begin_open("it", 0).unwrap();
    writer.set_instants(held).unwrap();
    let number = writer.commit().unwrap().number;
    let mut block = [0; BLOCK];
    store.volumes_mut().read_instant(number, "a", 0, &mut block).unwrap();
    assert_eq!(block, [9; BLOCK]);
}

/// Whoever opens the disk anew tells the new store what the old one had not flushed: a flush that
/// says so much as ok would be a lie.
#[test]
fn what_was_not_flushed_when_a_disk_was_opened_anew_is_said_to_be_lost() {
    let mut store = open(formatted(100));
    for name in ["a", "b", "c"] {
        store.create_volume(name, 8 * BLOCK as u64, 0).unwrap();
        write(&mut store, name, 0, 1, 1);
        store.volumes_mut().flush(name).unwrap();
    }
    write(&mut store, "a", 0, 2, 1);
    // The map of the volume is written, and nothing more.
    write(&mut store, "b", 0, 2, 1);
    store.take_instants(&["b"]).unwrap();
    let lost = store.unflushed_volumes();
    assert_eq!(format!("{lost:?}"), r#"["a", "b"]"#);
    let mut store = open(store.into_device());
    store.lose_writes(lost);
    let mut block = [0; BLOCK];
    for name in ["a", "b"] {
        let refused = [
            store.volumes_mut().flush(name).unwrap_err(),
            store.volumes_mut().read(name, 0, &mut block).unwrap_err(),
            store.take_instants(&[name]).unwrap_err(),
            store.check_copies(&[name], "twin").unwrap_err(),
        ];
        assert!(
            refused.iter().all(|one| matches!(one, Error::Volume(VolumeFault::WritesLost { .. }))),
            "{refused:?}"
        );
        assert!(store.has_lost_writes(name));
        assert_eq!(store.unflushed_volumes().len(), 2);
    }
    write(&mut store, "c", 0, 2, 1);
    assert!(!store.volumes_mut().accept_loss("c"));
    store.volumes_mut().flush("c").unwrap();
    for name in ["a", "b"] {
        assert!(store.volumes_mut().accept_loss(name));
        assert!(!store.has_lost_writes(name) && !store.volumes_mut().accept_loss(name));
        store.volumes_mut().read(name, 0, &mut block).unwrap();
        assert_eq!(block, [1; BLOCK]);
        store.volumes_mut().flush(name).unwrap();
    }
    assert!(store.unflushed_volumes().is_empty());
}

#[test]
fn a_volume_is_brought_back_at_once_after_a_flush_that_failed() {
    let mut store = open(FaultyDisk::new(formatted(100)));
    store.create_volume("a", 8 * BLOCK as u64, 0).unwrap();
    write(&mut store, "a", 0, 1, 1);
    let instants = store.take_instants(&["a"]).unwrap();
    let mut writer = store.begin("it", 5000, 0).unwrap();
    writer.set_instants(instants).unwrap();
    writer.write(&contents(1, 5000)).unwrap();
    let number = writer.commit().unwrap().number;
    write(&mut store, "a", 0, 2, 1);
    let at = store.device_mut().operations + 1;
    store.device_mut().fails_at = vec![at];
    assert!(store.volumes_mut().flush("a").is_err());
    store.bring_back(&[number], Before::Kept).unwrap();
    let mut block = [0; BLOCK];
    store.volumes_mut().read("a", 0, &mut block).unwrap();
    assert_eq!(block, [1; BLOCK]);
}

#[test]
fn a_flush_that_failed_is_not_called_done_by_the_next_one() {
    let mut store = open(FaultyDisk::new(formatted(100)));
    for name in ["a", "b"] {
        store.create_volume(name, 8 * BLOCK as u64, 0).unwrap();
        write(&mut store, name, 0, 1, 1);
    }
    // A node, and the flush before the catalog.
    let at = store.device_mut().operations + 1;
    store.device_mut().fails_at = vec![at];
    assert!(store.volumes_mut().flush("a").is_err());
    for name in ["a", "b"] {
        let refused = store.volumes_mut().flush(name).unwrap_err();
        assert!(matches!(refused, Error::Volume(VolumeFault::WritesLost { .. })), "{refused}");
        store.volumes_mut().close(name);
        write(&mut store, name, 0, 1, 1);
        store.volumes_mut().flush(name).unwrap();
    }
}

#[test]
fn damage_of_a_volume_is_told_apart_from_that_of_a_checkpoint() {
    let mut store = spread(200, 2);
    let instants = store.take_instants(&["b"]).unwrap();
    let mut writer = store.begin_open("it", 0).unwrap();
    writer.set_instants(instants).unwrap();
    writer.write(&contents(1, 5 * BLOCK)).unwrap();
    let number = writer.commit().unwrap().number;
    assert!(store.usage().free > 0 && store.damaged_volumes().is_empty());
    let mut disk = store.into_device();
    let list = (0x3_0000..disk.bytes.len()).step_by(BLOCK);
    let list = list.clone().find(|at| disk.bytes[*at..*at + 4] == *b"SVOL").unwrap();
    disk.bytes[list + 70] ^= 1;
    let mut store = open(disk);
    store.usage();
    assert_eq!((store.damaged(), store.with_damaged_volumes()), (&[][..], &[number][..]));
    // The checkpoint's contents can be shared by the next one.
    store.check_map(number).unwrap();
    assert!(read(&mut store, number) == contents(1, 5 * BLOCK));
    let mut disk = store.into_device();
    let node = (0x3_0000..disk.bytes.len()).step_by(BLOCK);
    let node = node.clone().find(|at| disk.bytes[*at..*at + 5] == *b"SMAP\x01").unwrap();
    disk.bytes[node + 100] ^= 1;
    let mut store = open(disk);
    store.usage();
    let names: Vec<&str> = store.damaged_volumes().iter().map(|name| &**name).collect();
    assert_eq!((store.damaged(), names), (&[][..], vec!["b"]));
}
