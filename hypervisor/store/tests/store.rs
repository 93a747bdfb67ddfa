//! What a store does when nothing fails: adding, reading, running full, and saying so.

mod common;

use common::{FaultyDisk, Random, add, contents, formatted, formatted_as, open, read};
use stasis_store::layout::{BLOCK, MAX_CHECKPOINTS, MAX_EXTENTS};
use stasis_store::writer::CHUNK;
use stasis_store::{BlockDevice, Doing, Error, Partition, RamDisk, Store, Which};

const KIB: usize = 1024;

/// Leaves a gap of one block behind each of `count` checkpoints of one block, in a store without
/// block maps.
fn fragmented(count: u32) -> Store<RamDisk> {
    let mut store = open(formatted_as(2 * count, 2));
    let numbers: Vec<u64> = (0..2 * u64::from(count))
        .map(|n| add(&mut store, "it", &contents(n, BLOCK)).unwrap())
        .collect();
    for number in numbers.into_iter().skip(1).step_by(2) {
        store.delete(number).unwrap();
    }
    store
}

#[test]
fn a_checkpoint_is_found_again_by_number_and_by_name() {
    let mut store = open(formatted(100));
    let old = contents(1, 100_001);
    let new = contents(2, 200_000);
    assert_eq!(add(&mut store, "linux", &old).unwrap(), 1);
    assert_eq!(add(&mut store, "linux", &new).unwrap(), 2);
    let mut store = open(store.into_device());
    assert_eq!(read(&mut store, 1), old);
    assert_eq!(read(&mut store, 2), new);
    // A name stands for the newest.
    assert_eq!(store.find("linux").unwrap().number, 2);
    assert_eq!(store.find("1").unwrap().number, 1);
    assert_eq!(store.open_checkpoint("linux").unwrap().length(), 200_000);
    let error = store.find("lunix").unwrap_err();
    assert_eq!(error.to_string(), "there is no checkpoint \"lunix\"");
    let error = store.open_checkpoint(Which::Number(9)).unwrap_err();
    assert_eq!(error.to_string(), "there is no checkpoint 9");
    assert!(store.delete(9).is_err());
}

#[test]
fn a_name_that_begins_with_a_sign_means_no_number() {
    let mut store = open(formatted(100));
    for name in ["linux", "+1", "+", "+7"] {
        add(&mut store, name, &contents(1, 10_000)).unwrap();
    }
    for (typed, number) in [("1", 1), ("01", 1), ("+1", 2), ("+", 3), ("+7", 4)] {
        assert_eq!(store.find(typed).unwrap().number, number, "{typed}");
    }
    assert!(store.find("+2").is_err());
}

#[test]
fn the_list_says_what_was_begun() {
    let mut store = open(formatted(100));
    let mut writer = store.begin("größe", 10_000, 1_700_000_000).unwrap();
    writer.write(&[7; 5_000]).unwrap();
    assert_eq!(writer.written(), 5_000);
    let committed = writer.commit().unwrap();
    let mut store = open(store.into_device());
    assert_eq!(store.list(), [committed]);
    let listed = &store.list()[0];
    assert_eq!((listed.number, listed.name.as_str(), listed.length), (1, "größe", 5_000));
    assert_eq!(listed.created, 1_700_000_000);
    // What was reserved and not written is free. The map takes a block.
    assert_eq!(store.usage().free, 97 * BLOCK as u64);
}

#[test]
fn a_writer_that_is_dropped_was_never_there() {
    let mut store = open(formatted(100));
    add(&mut store, "kept", &contents(1, 9_000)).unwrap();
    let before = (store.list().to_vec(), store.usage());
    let mut writer = store.begin("dropped", 300_000, 0).unwrap();
    writer.write(&contents(2, 300_000)).unwrap();
    drop(writer);
    assert_eq!((store.list().to_vec(), store.usage()), before);
    assert_eq!(read(&mut store, 1), contents(1, 9_000));
}

#[test]
fn a_full_store_says_what_is_needed_free_and_possible() {
    // Where there are maps, each takes a block.
    for (version, blocks, free) in [(2, 10, "16384"), (3, 12, "20480")] {
        let mut store = open(formatted_as(blocks, version));
        add(&mut store, "first", &contents(1, 6 * BLOCK)).unwrap();
        let error = store.begin("second", 4 * BLOCK as u64 + 1, 0).unwrap_err();
        let line =
            format!("the store is full: 16385 bytes needed, {free} free; at most 16384 would fit");
        assert_eq!(error.to_string(), line);
        assert!(store.begin("huge", u64::MAX, 0).is_err());
        add(&mut store, "second", &contents(2, 4 * BLOCK)).unwrap();
        assert!(add(&mut store, "third", &[1]).is_err());
        // Empty ones need no room.
        add(&mut store, "empty", &[]).unwrap();
        assert_eq!(read(&mut store, 1), contents(1, 6 * BLOCK));
    }
}

#[test]
fn a_checkpoint_goes_into_the_gaps_that_others_left() {
    let mut store = fragmented(20);
    assert_eq!(store.usage().free, 20 * BLOCK as u64);
    assert_eq!(store.usage().largest, (MAX_EXTENTS * BLOCK) as u64);
    let data = contents(99, MAX_EXTENTS * BLOCK - 5);
    let number = add(&mut store, "pieces", &data).unwrap();
    let mut store = open(store.into_device());
    assert_eq!(read(&mut store, number), data);

    let too_many = (MAX_EXTENTS + 1) * BLOCK;
    match store.begin("more", too_many as u64, 0).unwrap_err() {
        Error::Full { needed, free, largest } => {
            assert_eq!(needed, too_many as u64);
            assert!(largest < needed && needed < free);
        }
        other => panic!("{other}"),
    }
}

#[test]
fn any_part_of_a_checkpoint_can_be_read() {
    let mut store = fragmented(20);
    let data = contents(5, MAX_EXTENTS * BLOCK - 1);
    let number = add(&mut store, "pieces", &data).unwrap();
    let mut reader = store.open_checkpoint(number).unwrap();
    for (offset, len) in [(0, 1), (511, 2), (4095, 4098), (512, 8192), (32000, 767)] {
        let mut buf = vec![0; len];
        reader.read_at(offset as u64, &mut buf).unwrap();
        assert_eq!(buf, data[offset..offset + len], "{len} bytes at {offset}");
    }
    let end = data.len() as u64;
    reader.read_at(end, &mut []).unwrap();
    let error = reader.read_at(end - 1, &mut [0; 2]).unwrap_err();
    assert_eq!(error.to_string(), "bytes 32766+2 lie beyond the checkpoint's 32767");
    reader.read_at(u64::MAX, &mut [0; 2]).unwrap_err();
}

#[test]
fn large_checkpoints_are_read_in_any_pieces() {
    let mut store = open(formatted(300));
    let data = contents(6, 1_000_003);
    let number = add(&mut store, "large", &data).unwrap();
    let mut reader = store.open_checkpoint(number).unwrap();
    for piece in [1_000_003, 300_000, CHUNK, CHUNK + 512, 4096, 999] {
        let mut found = vec![0; data.len()];
        for (n, buf) in found.chunks_mut(piece).enumerate() {
            reader.read_at((n * piece) as u64, buf).unwrap();
        }
        assert!(found == data, "in pieces of {piece}");
    }
}

#[test]
fn small_writes_reach_the_device_as_large_ones() {
    let mut store = open(FaultyDisk::new(formatted(300)));
    let mut writer = store.begin("pages", 1 << 20, 0).unwrap();
    for page in contents(1, 1 << 20).chunks(BLOCK) {
        writer.write(page).unwrap();
    }
    writer.commit().unwrap();
    let disk = store.into_device();
    let data_writes: Vec<_> = disk.writes.iter().filter(|len| **len > BLOCK).collect();
    assert_eq!(data_writes, [&CHUNK; 8]);
}

#[test]
fn the_unused_end_of_the_last_block_shows_nothing_old() {
    let mut store = open(formatted(11));
    let number = add(&mut store, "secret", &[0xee; 10 * BLOCK]).unwrap();
    store.delete(number).unwrap();
    add(&mut store, "short", &[1; 10]).unwrap();
    let disk = store.into_device();
    let block = stasis_store::layout::FIRST_DATA_BLOCK as usize * BLOCK;
    assert_eq!(disk.bytes[block..block + 10], [1; 10]);
    assert_eq!(disk.bytes[block + 10..block + BLOCK], [0; BLOCK - 10]);
}

#[test]
fn more_than_was_begun_is_refused_and_the_rest_can_be_committed() {
    let mut store = open(formatted(100));
    let mut writer = store.begin("it", 10, 0).unwrap();
    writer.write(&[1; 8]).unwrap();
    let error = writer.write(&[2; 3]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "11 bytes do not fit into the 10 that the checkpoint was begun with"
    );
    writer.write(&[2; 2]).unwrap();
    let number = writer.commit().unwrap().number;
    assert_eq!(read(&mut store, number), [1, 1, 1, 1, 1, 1, 1, 1, 2, 2]);
}

#[test]
fn a_write_that_failed_can_not_be_committed() {
    let mut store = open(FaultyDisk::new(formatted(300)));
    add(&mut store, "first", &[1]).unwrap();
    let mut disk = store.into_device();
    let next = disk.operations;
    disk.fails_at = vec![next + 1];
    let mut store = open(disk);
    let mut writer = store.begin("it", CHUNK as u64, 0).unwrap();
    let error = writer.write(&contents(1, CHUNK)).unwrap_err();
    assert_eq!(error.to_string(), "the disk failed writing at sector 400: simulated fault");
    assert_eq!(writer.commit().unwrap_err(), Error::WriterFailed);
    assert_eq!(store.list().len(), 1);
}

#[test]
fn the_error_of_a_write_that_was_begun_earlier_names_its_own_sector() {
    let first = u64::from(stasis_store::layout::FIRST_DATA_BLOCK) * 8;
    // Each request of 128 KiB is eight pieces, of which the third fails. Three are under way: so it
    // is the first request that fails, or waiting for the last.
    for (blocks, nth) in [(64, 2), (34, 7)] {
        let mut disk = FaultyDisk::new(formatted(300)).with_depth(3);
        // Opening it takes one flush.
        disk.fails_at = vec![1 + nth];
        let mut store = open(disk);
        let mut writer = store.begin_open("it", 0).unwrap();
        let written =
            contents(1, blocks * BLOCK).chunks(BLOCK).try_for_each(|one| writer.write(one));
        let error = written.and_then(|()| writer.commit().map(drop)).unwrap_err();
        let Error::Device { doing: Doing::Writing, lba, error } = error else { panic!("{error}") };
        assert_eq!(Some(lba), error.write);
        assert!(lba > first && lba < first + 34 * 8, "sector {lba}");
    }
}

#[test]
fn names_that_can_not_be_typed_or_printed_are_refused() {
    let mut store = open(formatted(10));
    for name in ["", "a b", "a\n", "\x1b[2J", "12", "a\0", &"x".repeat(33), "ö\u{a0}"] {
        let error = store.begin(name, 1, 0).unwrap_err();
        assert!(matches!(error, Error::NameInvalid { .. }), "{name:?}");
    }
    // What the console would take for an option or a set, and what nobody sees.
    for name in ["--any-speed", "-1", "evening/", "x\u{200b}", "\u{202e}x", "\u{feff}"] {
        let error = store.begin(name, 1, 0).unwrap_err();
        assert!(matches!(error, Error::NameInvalid { .. }), "{name:?}");
    }
    for name in ["a", "12a", "linux-6.1", &"x".repeat(32), "größe", "evening/late"] {
        store.begin(name, 1, 0).unwrap();
    }
    let error = store.begin(&"y".repeat(1000), 1, 0).unwrap_err().to_string();
    assert!(error.len() < 200, "{error}");
}

#[test]
fn a_store_has_room_for_511_checkpoints() {
    let mut store = open(formatted(10));
    for _ in 0..MAX_CHECKPOINTS {
        add(&mut store, "empty", &[]).unwrap();
    }
    let error = add(&mut store, "empty", &[]).unwrap_err();
    assert_eq!(error, Error::TooManyCheckpoints);
    let mut store = open(store.into_device());
    assert_eq!(store.list().len(), MAX_CHECKPOINTS);
    store.delete(1).unwrap();
    assert_eq!(add(&mut store, "empty", &[]).unwrap(), 512);
}

#[test]
fn a_store_keeps_to_its_partition() {
    let mut disk = RamDisk::new(1000 + 60 * 8 + 1000);
    disk.bytes.fill(0x5a);
    let partition = Partition::checked::<String>(1000, 1000 + 60 * 8 - 1, disk.block_count());
    let partition = partition.unwrap();
    let mut store = Store::format(&mut disk, partition).unwrap();
    let len = store.usage().capacity as usize;
    assert_eq!(len, 12 * BLOCK);
    let len = len - BLOCK;
    add(&mut store, "all", &contents(1, len)).unwrap();
    drop(store);
    let (front, back) = (1000 * 512, (1000 + 60 * 8) * 512);
    assert!(disk.bytes[..front].iter().all(|b| *b == 0x5a));
    assert!(disk.bytes[back..].iter().all(|b| *b == 0x5a));
    let mut store = Store::open(disk, partition).unwrap();
    assert_eq!(read(&mut store, 1), contents(1, len));
}

#[test]
fn a_partition_without_room_is_refused() {
    let mut disk = RamDisk::new(48 * 8 + 7);
    let partition = Partition::whole(&disk);
    let error = Store::format(&mut disk, partition).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a partition of 196608 bytes is too small for a store: it takes 200704 at least"
    );
    assert_eq!(open(formatted(1)).usage().capacity, 128 * 32);
    assert_eq!(4 * KIB, BLOCK);
}

/// A periodic checkpoint, with an older one that goes for it.
#[test]
fn a_checkpoint_that_replaces_another_costs_two_flushes_and_one_catalog() {
    let mut store = open(FaultyDisk::new(formatted(200)));
    for n in 0..3 {
        add(&mut store, "auto", &contents(n, 10 * BLOCK)).unwrap();
    }
    for round in 0..5 {
        let oldest = store.list()[0].number;
        let (writes, operations) = {
            let disk = store.device_mut();
            (disk.writes.len(), disk.operations)
        };
        store.replace(&[oldest]).unwrap();
        add(&mut store, "auto", &contents(9, 10 * BLOCK)).unwrap();
        let disk = store.device_mut();
        let (written, operations) = (&disk.writes[writes..], disk.operations - operations);
        assert_eq!(
            written,
            [10 * BLOCK, BLOCK, BLOCK / 8],
            "contents, map and catalog in round {round}"
        );
        assert_eq!(operations - written.len(), 2, "flushes in round {round}");
        assert_eq!(store.list().len(), 3);
        assert!(store.find(oldest).is_err());
    }
}

#[test]
fn of_a_long_catalog_only_what_changes_is_written() {
    let mut store = open(FaultyDisk::new(formatted(1200)));
    for n in 0..500 {
        add(&mut store, "it", &contents(n, 1)).unwrap();
    }
    for round in 0..20 {
        let writes = store.device_mut().writes.len();
        if round % 2 == 0 {
            let middle = store.list()[200].number;
            store.replace(&[middle]).unwrap();
        } else {
            let first = store.list()[0].number;
            store.replace(&[first]).unwrap();
        }
        add(&mut store, "it", &contents(round, 1)).unwrap();
        let written: usize = store.device_mut().writes[writes..].iter().sum();
        assert!(written <= 6 * BLOCK, "{written} bytes in round {round}");
    }
    let found = store.list().to_vec();
    assert_eq!(open(store.into_device()).list(), found);
}

#[test]
fn what_replaces_does_not_need_a_place_in_the_catalog() {
    let mut store = open(formatted(10));
    for _ in 0..MAX_CHECKPOINTS {
        add(&mut store, "empty", &[]).unwrap();
    }
    assert_eq!(add(&mut store, "new", &[]).unwrap_err(), Error::TooManyCheckpoints);
    assert!(store.replace(&[1, 999]).is_err(), "there is no 999");
    store.replace(&[1]).unwrap();
    assert_eq!(add(&mut store, "new", &[]).unwrap(), 512);
    assert_eq!((store.list().len(), store.list()[0].number), (MAX_CHECKPOINTS, 2));
    // The mark was for one commit.
    assert_eq!(add(&mut store, "new", &[]).unwrap_err(), Error::TooManyCheckpoints);
}

#[test]
fn what_replaces_has_no_place_where_there_is_nothing_to_replace() {
    let mut store = open(formatted(10));
    for _ in 0..MAX_CHECKPOINTS {
        add(&mut store, "empty", &[]).unwrap();
    }
    store.replace(&[5, 5]).unwrap();
    assert_eq!(store.check_room_for(2).unwrap_err(), Error::TooManyCheckpoints, "it is one");
    store.delete(5).unwrap();
    store.begin_open("set/a", 0).unwrap().stage().unwrap();
    assert_eq!(add(&mut store, "set/b", &[]).unwrap_err(), Error::TooManyCheckpoints);
    store.discard_staged();
    let store = open(store.into_device());
    assert_eq!(store.list().len(), MAX_CHECKPOINTS - 1);
}

#[test]
fn the_number_of_pages_is_kept_where_it_was_told() {
    let mut store = open(formatted(40));
    for pages in [0, 7, u64::MAX] {
        let mut writer = store.begin("it", 10, 0).unwrap();
        writer.set_pages(pages);
        writer.write(&[1; 10]).unwrap();
        writer.commit().unwrap();
    }
    let store = open(store.into_device());
    let pages: Vec<_> = store.list().iter().map(|c| c.pages.map(|pages| pages.get())).collect();
    assert_eq!(pages, [None, Some(7), None]);
}

#[test]
fn numbers_are_never_given_out_twice() {
    let mut random = Random::new(7);
    let mut store = open(FaultyDisk::new(formatted(40)));
    let mut highest = 0;
    for round in 0..100 {
        if let Ok(number) = add(&mut store, "it", &contents(round, 5_000)) {
            assert!(number > highest);
            highest = number;
        }
        if let Some(last) = store.list().last().map(|c| c.number) {
            store.delete(last).unwrap();
        }
        if random.below(3) == 0 {
            store = open(store.into_device());
        }
    }
    assert!(highest >= 100);
}
