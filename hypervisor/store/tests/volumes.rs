//! Volumes: what was written is read, what was flushed stays, and blocks are shared until somebody
//! writes them.

mod common;

use common::{Counted, Random, add, contents, formatted, formatted_as, open, read};
use stasis_store::volume::{Before, Source};
use stasis_store::{BlockDevice, Error, Partition, RamDisk, Store};

const BLOCK: usize = 4096;

fn whole<D: BlockDevice>(store: &mut Store<D>, name: &str) -> Vec<u8> {
    let mut bytes = vec![0xee; store.volumes_mut().length(name).unwrap() as usize];
    store.volumes_mut().read(name, 0, &mut bytes).unwrap();
    bytes
}

/// Adds a checkpoint that has these volumes as they are now.
fn checkpoint<D: BlockDevice>(store: &mut Store<D>, volumes: &[&str]) -> u64 {
    let instants = store.take_instants(volumes).unwrap();
    let mut writer = store.begin("it", 5000, 0).unwrap();
    writer.set_instants(instants).unwrap();
    writer.write(&contents(1, 5000)).unwrap();
    writer.commit().unwrap().number
}

#[test]
fn a_store_has_version_4_with_its_first_volume_and_not_before() {
    let mut store = open(formatted(60));
    add(&mut store, "it", &[1; 5000]).unwrap();
    assert_eq!(store.version(), 3);
    store.create_volume("root", 1 << 20, 7).unwrap();
    assert_eq!(store.version(), 4);
    let mut store = open(store.into_device());
    let volume = store.find_volume("root").unwrap().clone();
    assert_eq!((volume.length, volume.created), (1 << 20, 7));
    assert!(whole(&mut store, "root").iter().all(|byte| *byte == 0));
    assert_eq!(read(&mut store, 1), [1; 5000]);
    assert!(store.upgrade().unwrap() == 4 && store.version() == 4);
}

#[test]
fn a_store_without_maps_has_no_volumes() {
    let mut store = open(formatted_as(40, 2));
    let refused = store.create_volume("root", 4096, 0).unwrap_err();
    assert!(matches!(refused, Error::NoVolumes { version: 2 }), "{refused}");
    store.upgrade().unwrap();
    store.create_volume("root", 4096, 0).unwrap();
}

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
        assert!(matches!(refused, Error::BeyondVolume { .. }), "{refused}");
        assert!(volumes.zero("root", offset, len as u64).is_err());
        assert!(volumes.read("root", offset, &mut vec![0; len]).is_err());
    }
    assert!(matches!(volumes.flush("other"), Err(Error::NoSuchVolume { .. })));
}

#[test]
fn names_and_sizes_that_cannot_be_are_refused() {
    let mut store = open(formatted(40));
    store.create_volume("root", 4096, 0).unwrap();
    let refused = |result: Result<(), _>| result.unwrap_err();
    for name in ["", "12", "a b", "-x", "x/", &"x".repeat(33)] {
        let error = refused(store.create_volume(name, 4096, 0));
        assert!(matches!(error, Error::VolumeNameInvalid { .. }), "{name}: {error}");
    }
    for length in [0, 512, 4097, (1 << 40) + 4096, u64::MAX] {
        let error = refused(store.create_volume("new", length, 0));
        assert!(matches!(error, Error::VolumeSize { .. }), "{length}: {error}");
    }
    let error = refused(store.create_volume("root", 4096, 0));
    assert!(matches!(error, Error::VolumeExists { .. }), "{error}");
    let error = refused(store.copy_volume(Source::Volume("none"), "new", 0));
    assert!(matches!(error, Error::NoSuchVolume { .. }), "{error}");
    assert!(store.delete_volume("none").is_err());
    assert_eq!(store.volumes().len(), 1);
}

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
    assert!(matches!(store.create_volume("root", 4096, 0), Err(Error::VolumeExists { .. })));
    store.volumes_mut().flush("root").unwrap();
    let mut store = open(store.into_device());
    assert!(whole(&mut store, "root")[..BLOCK] == [1; BLOCK]);
    let empty = store.usage().free;
    store.begin_volume("other", 8 * BLOCK as u64, 0).unwrap();
    store.volumes_mut().write("other", 0, &[1; 8 * BLOCK]).unwrap();
    store.volumes_mut().close("other");
    assert_eq!(store.usage().free, empty, "what was given up takes no room");
}

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
    assert!(matches!(&full, Error::VolumeFull { name } if name == "root"), "{full}");
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

/// Random writes, zeros, flushes, copies, checkpoints and restarts, against a list of bytes.
#[test]
fn random_histories_of_volumes_are_as_a_list_of_bytes() {
    for seed in 0..12 {
        history(seed);
    }
}

/// A volume as it must be: what was flushed, and what is read.
#[derive(Clone)]
struct Expected {
    flushed: Vec<u8>,
    now: Vec<u8>,
}

fn history(seed: u64) {
    const BLOCKS: u64 = 1100;
    let mut random = Random::new(seed);
    let mut store = open(formatted(6000));
    let names = ["a", "b"];
    let zeros = vec![0; (BLOCKS * 4096) as usize];
    let mut expected = names.map(|name| {
        store.create_volume(name, BLOCKS * 4096, 0).unwrap();
        Expected { flushed: zeros.clone(), now: zeros.clone() }
    });
    let mut stored: Option<(u64, Vec<u8>)> = None;
    for _ in 0..200 {
        let which = random.below(2) as usize;
        let (name, one) = (names[which], &mut expected[which]);
        let offset = random.below(BLOCKS * 8) * 512;
        let len = ((random.below(40) + 1) * 512).min(BLOCKS * 4096 - offset);
        let range = offset as usize..(offset + len) as usize;
        match random.below(20) {
            0..9 => {
                let data = contents(random.below(1 << 20), len as usize);
                store.volumes_mut().write(name, offset, &data).unwrap();
                one.now[range].copy_from_slice(&data);
            }
            9..11 => {
                let len = len * (1 + random.below(200)).min((BLOCKS * 4096 - offset) / len);
                store.volumes_mut().zero(name, offset, len).unwrap();
                one.now[offset as usize..(offset + len) as usize].fill(0);
            }
            11..15 => {
                store.volumes_mut().flush(name).unwrap();
                one.flushed = one.now.clone();
            }
            15 => {
                let number = checkpoint(&mut store, &[name]);
                stored = Some((number, one.now.clone()));
                if store.list().len() > 2 {
                    store.delete(store.list()[0].number).unwrap();
                }
            }
            16 => {
                // A checkpoint is written while the volume is.
                let mut writer = store.begin("beside", 8192, 0).unwrap();
                writer.write(&[1; 4096]).unwrap();
                let data = contents(random.below(1 << 20), len as usize);
                writer.volumes_mut().write(name, offset, &data).unwrap();
                writer.volumes_mut().flush(name).unwrap();
                writer.write(&[2; 4096]).unwrap();
                let number = writer.commit().unwrap().number;
                assert!(read(&mut store, number) == [[1; 4096], [2; 4096]].concat());
                store.delete(number).unwrap();
                one.now[range].copy_from_slice(&data);
                one.flushed = one.now.clone();
            }
            17 => {
                store = open(store.into_device());
                expected.iter_mut().for_each(|one| one.now = one.flushed.clone());
            }
            18 => {
                if let Some((number, bytes)) = stored.take() {
                    store.copy_volume(Source::Instant(number, name), "then", 0).ok();
                    if store.find_volume("then").is_ok() {
                        assert!(whole(&mut store, "then") == bytes);
                        store.volumes_mut().close("then");
                        store.delete_volume("then").unwrap();
                    }
                }
            }
            _ => {
                let mut found = vec![0; len as usize];
                store.volumes_mut().read(name, offset, &mut found).unwrap();
                assert!(found == one.now[range], "seed {seed}");
            }
        }
    }
    for (name, one) in names.iter().zip(&expected) {
        assert!(whole(&mut store, name) == one.now, "seed {seed}");
    }
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
    assert!(matches!(&damaged, Error::VolumeDamaged { name, .. } if name == "a"), "{damaged}");
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
