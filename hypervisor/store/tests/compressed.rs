//! Stores that compress: what they take, what they share, and what becomes of them when something
//! is damaged or power fails.

mod common;

use common::{Counted, FaultyDisk, Random, add, contents, formatted, mixed, open, read};
use stasis_store::layout::{BLOCK, FIRST_DATA_BLOCK, Superblock, checksum};
use stasis_store::{BlockDevice, Compression, Error, Partition, RamDisk, SECTOR, Store};
use zerocopy::{FromBytes, IntoBytes};

/// Returns a store that compresses, with room for `blocks` blocks.
fn compressing(blocks: u32) -> Store<RamDisk> {
    let mut store = open(formatted(blocks));
    store.set_compression(Compression::Lz4).unwrap();
    store
}

/// Returns bytes that do not shrink.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    (0..len).map(|_| random.below(256) as u8).collect()
}

fn used<D: BlockDevice>(store: &mut Store<D>) -> u64 {
    let usage = store.usage();
    (usage.capacity - usage.free) / BLOCK as u64
}

#[test]
fn what_shrinks_takes_less_and_reads_back() {
    for len in [0, 1, BLOCK, BLOCK + 1, 17 * BLOCK, 100 * BLOCK + 7, 200 * BLOCK] {
        let mut store = compressing(400);
        let data = contents(3, len);
        let number = add(&mut store, "it", &data).unwrap();
        assert!(read(&mut store, number) == data, "{len} bytes");
        // The first block is not packed, and there is a map.
        let (taken, most) = (used(&mut store), (len.div_ceil(BLOCK) / 5 + 4) as u64);
        assert!(taken <= most, "{len} bytes take {taken} blocks, not {most}");
        let mut store = open(store.into_device());
        assert_eq!((store.compression(), store.version()), (Compression::Lz4, 5));
        assert!(read(&mut store, number) == data, "{len} bytes, of a store that was opened again");
        store.delete(number).unwrap();
        assert_eq!(used(&mut store), 0);
    }
}

#[test]
fn what_does_not_shrink_takes_what_it_has() {
    let mut store = compressing(400);
    let data = [noise(1, 40 * BLOCK), contents(2, 32 * BLOCK), noise(3, 9 * BLOCK)].concat();
    let number = add(&mut store, "it", &data).unwrap();
    assert!(read(&mut store, number) == data);
    let taken = used(&mut store);
    assert!((49 + 1..49 + 1 + 16).contains(&taken), "{taken} blocks");
    // Wherever it begins, and however long it is.
    let mut random = Random::new(5);
    for _ in 0..200 {
        let offset = random.below(data.len() as u64);
        let len = random.below((data.len() as u64 - offset).min(100_000)) as usize;
        let mut found: Vec<u8> = Vec::new();
        store.read_of(number, offset, len, &mut |piece| found.extend(piece)).unwrap();
        assert!(found == data[offset as usize..][..len], "{len} bytes at {offset}");
    }
}

#[test]
fn blocks_in_the_midst_of_units_are_shared_and_survive_the_checkpoint_before() {
    let mut store = compressing(400);
    let data = contents(1, 100 * BLOCK);
    let one = add(&mut store, "one", &data).unwrap();
    let before = used(&mut store);
    let mut writer = store.begin_open("two", 0).unwrap();
    let mut expected = Vec::new();
    for (from, to) in [(0, 20), (21, 22), (23, 50), (51, 100)] {
        if from > 0 {
            let own = contents(from, BLOCK);
            writer.write(&own).unwrap();
            expected.extend(own);
        }
        writer.share(one, from..to).unwrap();
        expected.extend_from_slice(&data[from as usize * BLOCK..to as usize * BLOCK]);
    }
    let two = writer.commit().unwrap().number;
    assert!(read(&mut store, two) == expected);
    assert_eq!(used(&mut store) - before, 3 + 1, "three blocks, and a map");
    assert_eq!(store.freed_by_each(), [BLOCK as u64, 4 * BLOCK as u64]);
    store.delete(one).unwrap();
    let mut store = open(store.into_device());
    assert!(read(&mut store, two) == expected);
    // What it has of a unit keeps all of the unit, and counts once.
    assert_eq!(used(&mut store), before + 3);
    assert_eq!(store.freed_by_each(), [(before + 3) * BLOCK as u64]);
    add(&mut store, "three", &noise(3, 300 * BLOCK)).unwrap();
    assert!(read(&mut store, two) == expected);
}

#[test]
fn a_unit_that_is_kept_is_forgotten_when_its_blocks_are_written() {
    let mut store = compressing(24);
    let unit = |seed| [noise(9, BLOCK), contents(seed, 16 * BLOCK)].concat();
    let mut random = Random::new(1);
    // All of the same size, so that they stand in the same places in turn. Some are read, and a
    // later one stands where the last of these was.
    for seed in 1..100 {
        let number = add(&mut store, "it", &unit(seed)).unwrap();
        if random.below(3) == 0 {
            assert!(read(&mut store, number) == unit(seed), "{seed}");
        }
        store.delete(number).unwrap();
    }
}

#[test]
fn a_gap_that_is_too_small_for_a_unit_gets_what_is_not_packed() {
    let mut store = compressing(60);
    // A block and its map each; every second one goes, and what is behind them is full.
    let small: Vec<u64> =
        (0..14).map(|n| add(&mut store, "a", &noise(n, BLOCK)).unwrap()).collect();
    let rest = store.usage().largest as usize;
    add(&mut store, "rest", &noise(99, rest)).unwrap();
    let gone: Vec<u64> = small.iter().copied().step_by(2).collect();
    store.delete_all(&gone).unwrap();
    let before = used(&mut store);
    // The five blocks would be a unit of three.
    let data = [noise(7, BLOCK), mixed(8, 5 * BLOCK)].concat();
    let number = add(&mut store, "it", &data).unwrap();
    assert!(read(&mut store, number) == data);
    assert_eq!(used(&mut store) - before, 6 + 1, "as many as it has, and a map");
}

#[test]
fn what_fits_when_it_is_compressed_needs_no_more_room() {
    let mut store = compressing(60);
    let data = mixed(3, 90 * BLOCK);
    let number = add(&mut store, "it", &data).unwrap();
    assert!(read(&mut store, number) == data);
    let error = add(&mut store, "more", &data).unwrap_err();
    assert!(matches!(error, Error::NoRoom { .. }), "{error}");
    assert!(read(&mut store, number) == data);
}

#[test]
fn a_superblock_that_was_not_written_is_written_when_it_is_asked_for_again() {
    let mut faulty = FaultyDisk::new(formatted(10));
    // Opening it takes one flush; then come the copy, a flush, and the superblock.
    faulty.fails_at = vec![3];
    let mut store = open(&mut faulty);
    store.set_compression(Compression::Lz4).unwrap_err();
    store.set_compression(Compression::Lz4).unwrap();
    drop(store);
    assert_eq!(open(faulty.some_outcome(0)).compression(), Compression::Lz4);
}

#[test]
fn a_damaged_unit_is_refused_by_its_block_and_nobody_else_is_hurt() {
    let mut store = compressing(100);
    let data = contents(1, 40 * BLOCK);
    let one = add(&mut store, "one", &data).unwrap();
    let two = add(&mut store, "two", &contents(2, 9 * BLOCK)).unwrap();
    let mut disk = store.into_device();
    // Behind the head.
    let block = FIRST_DATA_BLOCK + 1;
    disk.bytes[block as usize * BLOCK + 2] ^= 0x40;
    let mut store = open(disk);
    let error = store.read_of(one, 2 * BLOCK as u64, 1, &mut |_| ()).unwrap_err();
    assert_eq!(error, Error::UnitDamaged { block });
    assert!(error.is_of_damage() && error.is_of_reading());
    let expected = "the disk is damaged: what is compressed in block 49 is not as it was written";
    assert_eq!(error.to_string(), expected);
    store.read_of(one, 0, BLOCK, &mut |piece| assert!(data.starts_with(piece))).unwrap();
    assert!(read(&mut store, two) == contents(2, 9 * BLOCK));
    store.delete(one).unwrap();
}

#[test]
fn a_store_that_is_compressed_in_an_unknown_way_is_refused_by_name() {
    let mut disk = compressing(10).into_device();
    let (mut superblock, _) = Superblock::read_from_prefix(&disk.bytes).unwrap();
    superblock.compress = 2.into();
    superblock.crc = checksum(superblock.as_bytes()).into();
    disk.bytes[..SECTOR].copy_from_slice(superblock.as_bytes());
    let partition = Partition::whole(&disk);
    let error = Store::open(disk, partition).unwrap_err().to_string();
    assert_eq!(
        error,
        "the store is compressed by method 2, which this version does not know: it knows 1, which is lz4"
    );
}

#[test]
fn what_was_there_before_is_shared_and_compression_ends_when_it_is_told_to() {
    let mut store = open(formatted(300));
    let plain = contents(1, 50 * BLOCK);
    let one = add(&mut store, "one", &plain).unwrap();
    store.set_compression(Compression::Lz4).unwrap();
    let mut writer = store.begin_open("two", 0).unwrap();
    let own = contents(2, 30 * BLOCK);
    writer.write(&own).unwrap();
    writer.share(one, 5..45).unwrap();
    let two = writer.commit().unwrap().number;
    let before = used(&mut store);
    store.set_compression(Compression::None).unwrap();
    assert_eq!((store.version(), store.compression()), (5, Compression::None));
    let three = add(&mut store, "three", &plain).unwrap();
    assert_eq!(used(&mut store) - before, 51);
    let expected = [&own[..], &plain[5 * BLOCK..45 * BLOCK]].concat();
    assert!(read(&mut store, two) == expected && read(&mut store, three) == plain);
}

#[test]
fn others_have_the_core_between_two_units() {
    let disk = compressing(400).into_device();
    let mut store = open(Counted::new(disk));
    let data = contents(1, 161 * BLOCK);
    let number = add(&mut store, "it", &data).unwrap();
    // 160 blocks behind the first.
    let written = core::mem::take(&mut store.device_mut().pauses);
    assert!(written >= 2 * 160 / 8, "{written} pauses");
    assert!(read(&mut store, number) == data);
    let pauses = store.device_mut().pauses;
    assert!(pauses >= 2 * 160 / 8, "{pauses} pauses");
}

/// Power fails at each operation with which a store begins to compress: every outcome for what was
/// not flushed.
#[test]
fn power_lost_while_a_store_learns_to_compress_leaves_every_checkpoint() {
    for version in [2, 3, 4] {
        let mut disk = common::formatted_as(60, version);
        let data = contents(1, 20 * BLOCK + 1);
        let one = add(&mut open(&mut disk), "it", &data).unwrap();
        for at in 0.. {
            let mut faulty = FaultyDisk::new(disk.clone());
            // Opening it takes one flush.
            faulty.power_fails_at = Some(at + 1);
            let _ = open(&mut faulty).set_compression(Compression::Lz4);
            if !faulty.power_failed() {
                break;
            }
            for survivor in faulty.every_outcome(5) {
                let mut store = open(survivor);
                assert!(read(&mut store, one) == data, "version {version}, operation {at}");
                store.set_compression(Compression::Lz4).unwrap();
                let two = add(&mut store, "two", &data).unwrap();
                let mut store = open(store.into_device());
                assert!(read(&mut store, one) == data && read(&mut store, two) == data);
            }
        }
    }
}
