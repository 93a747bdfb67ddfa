//! A store that somebody damaged or forged: each lie is named, and none does any harm. Block maps
//! are in `maps.rs`.

mod common;

use common::{add, contents, formatted, formatted_as, open, read};
use proptest::prelude::*;
use stasis_store::layout::{
    CatalogHeader, Entry, EntryExtent, FIRST_DATA_BLOCK, SETS_IN_ENTRIES, SLOT_OFFSET,
    SUPERBLOCK_COPY, Superblock, checksum,
};
use stasis_store::{Error, Partition, RamDisk, Store};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

const FIRST: u32 = FIRST_DATA_BLOCK;

fn open_error(disk: RamDisk) -> Error<stasis_store::block::BeyondEnd> {
    let partition = Partition::whole(&disk);
    Store::open(disk, partition).unwrap_err()
}

/// Returns a disk of version 2 with three checkpoints of two blocks; its newest catalog is in
/// slot 1.
fn with_three() -> RamDisk {
    let mut store = open(formatted_as(20, 2));
    for n in 1..=3 {
        add(&mut store, "it", &contents(n, 8_000)).unwrap();
    }
    store.into_device()
}

fn slot(disk: &mut RamDisk, slot: usize) -> &mut [u8] {
    &mut disk.bytes[SLOT_OFFSET[slot] as usize..][..0x1_0000]
}

/// Forges slot 1: changes its header and entries, and puts the checksum right.
fn forged(change: impl FnOnce(&mut CatalogHeader, &mut [Entry])) -> RamDisk {
    let mut disk = with_three();
    let bytes = slot(&mut disk, 1);
    let (header, rest) = CatalogHeader::mut_from_prefix(bytes).unwrap();
    let (entries, _) = <[Entry]>::mut_from_prefix_with_elems(rest, 3).unwrap();
    change(header, entries);
    seal_catalog(bytes);
    disk
}

fn seal_catalog(bytes: &mut [u8]) {
    let (header, _) = CatalogHeader::read_from_prefix(bytes).unwrap();
    let end = (128 + header.count.get() as usize * 128).min(bytes.len());
    let crc = checksum(&bytes[..end]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
}

fn seal_superblock(disk: &mut RamDisk) {
    let crc = checksum(&disk.bytes[..512]);
    disk.bytes[8..12].copy_from_slice(&crc.to_le_bytes());
}

fn extent(first: u32, blocks: u32) -> EntryExtent {
    EntryExtent { first: first.into(), blocks: blocks.into() }
}

#[test]
fn an_unformatted_partition_says_what_to_type() {
    let error = open_error(RamDisk::new(1000));
    assert_eq!(
        error.to_string(),
        "the Stasis partition holds no store yet: `stasis disk FILE` makes a disk with one"
    );
    assert_eq!(open_error(RamDisk::new(0)), Error::Unformatted);
}

#[test]
fn a_newer_version_is_refused_by_its_number() {
    let mut disk = formatted(10);
    for version in [0, 6, 200] {
        disk.bytes[12] = version;
        seal_superblock(&mut disk);
        let before = disk.clone();
        assert_eq!(
            open_error(disk.clone()).to_string(),
            format!("the store has version {version}; this Stasis knows versions 1 to 5")
        );
        assert!(disk == before);
    }
}

#[test]
fn a_damaged_superblock_is_refused() {
    for at in 8..512 {
        let mut disk = formatted(10);
        disk.bytes[at] ^= 0x10;
        assert!(open(disk.clone()).list().is_empty(), "the copy steps in for it");
        disk.bytes[SUPERBLOCK_COPY as usize * 512 + at] ^= 0x10;
        assert!(matches!(open_error(disk), Error::SuperblockDamaged { .. }));
    }
}

#[test]
fn a_store_larger_than_its_partition_is_refused() {
    let mut disk = formatted(10);
    disk.bytes.truncate(57 * 4096);
    let error = open_error(disk).to_string();
    assert_eq!(error, "the store needs 237568 bytes but its partition has 233472");
    let mut disk = formatted(10);
    Superblock::mut_from_bytes(&mut disk.bytes[..512]).unwrap().blocks = u64::MAX.into();
    seal_superblock(&mut disk);
    assert!(matches!(open_error(disk), Error::StoreOutsidePartition { .. }));
}

#[test]
fn of_two_catalogs_the_newer_holds_and_the_older_steps_in_for_it() {
    let mut disk = with_three();
    assert_eq!(open(disk.clone()).list().len(), 3);
    slot(&mut disk, 1)[200] ^= 1;
    let mut store = open(disk.clone());
    assert_eq!(store.list().len(), 2);
    assert_eq!(read(&mut store, 2), contents(2, 8_000));
    slot(&mut disk, 0)[20] ^= 1;
    let error = open_error(disk);
    assert_eq!(error.to_string(), "both copies of the store's catalog are damaged");
}

/// Else an upgrade would make a store of it that nobody can open.
#[test]
fn a_store_of_version_1_whose_catalog_says_who_is_in_a_set_is_refused() {
    for (sets, is_refused) in [(0, false), (1, true), (2, true), (7, true)] {
        let mut disk = forged(|header, _| header.sets = sets.into());
        Superblock::mut_from_bytes(&mut disk.bytes[..512]).unwrap().version = 1.into();
        seal_superblock(&mut disk);
        let partition = Partition::whole(&disk);
        let opened = Store::open(disk, partition);
        assert_eq!(opened.err(), is_refused.then_some(Error::UnknownSets { found: sets }));
    }
}

#[test]
fn a_number_that_was_not_given_out_is_refused() {
    let error = open_error(forged(|_, entries| entries[1].number = 4.into()));
    assert_eq!(error, Error::NumberNotIssued { number: 4, next: 4 });
    let error = open_error(forged(|_, entries| entries[1].number = 0.into()));
    assert_eq!(error, Error::NumberNotIssued { number: 0, next: 4 });
}

#[test]
fn a_number_that_stands_twice_is_refused() {
    let error = open_error(forged(|_, entries| entries[2].number = 1.into()));
    assert_eq!(error, Error::DuplicateNumber { number: 1 });
}

#[test]
fn names_that_are_no_names_are_refused() {
    for name in [&b"\xff\xfe"[..], b"", b"a\0b", b"\x1b[31m", b"17", b"a b"] {
        let error = open_error(forged(|_, entries| {
            entries[0].name = [0; 32];
            entries[0].name[..name.len()].copy_from_slice(name);
        }));
        assert_eq!(error, Error::StoredNameInvalid { number: 1 }, "{name:?}");
    }
}

#[test]
fn extents_beyond_the_store_or_in_its_catalog_are_refused() {
    let lies = [(FIRST + 19, 2), (FIRST - 1, 2), (0, 2), (u32::MAX, 2), (FIRST, 0)];
    for (first, blocks) in lies {
        let error = open_error(forged(|_, e| e[0].extents[0] = extent(first, blocks)));
        assert!(
            matches!(error, Error::ExtentOutside { number: 1, first: f, .. } if f == first),
            "{error}"
        );
    }
}

#[test]
fn extents_that_overlap_are_refused() {
    let error = open_error(forged(|_, e| e[2].extents[0] = extent(FIRST + 1, 2)));
    assert_eq!(error.to_string(), format!("checkpoints 1 and 3 both claim block {}", FIRST + 1));
    let error = open_error(forged(|_, e| {
        e[1].extent_count = 2;
        e[1].extents[0] = extent(FIRST + 8, 1);
        e[1].extents[1] = extent(FIRST + 8, 1);
    }));
    assert!(matches!(error, Error::ExtentsOverlap { number: 2, other: 2, .. }));
}

#[test]
fn lengths_that_extents_do_not_have_are_refused() {
    for length in [0, 4096, 8193, u64::MAX] {
        let error = open_error(forged(|_, entries| entries[0].length = length.into()));
        let expected = Error::LengthMismatch { number: 1, length, blocks: 2 };
        assert_eq!(error, expected);
    }
}

#[test]
fn extents_that_an_entry_does_not_use_are_0() {
    for stray in [extent(0, 1), extent(FIRST + 9, 0)] {
        for place in [1, 7] {
            let error = open_error(forged(|_, e| e[0].extents[place] = stray));
            let line = "checkpoint 1 has 1 extents, and something behind them that is not 0";
            assert_eq!(error.to_string(), line);
        }
    }
}

#[test]
fn more_extents_than_an_entry_has_are_refused() {
    for found in [9, u8::MAX] {
        let error = open_error(forged(|_, e| e[0].extent_count = found));
        assert_eq!(error, Error::TooManyExtents { number: 1, found: found.into() });
    }
    // In version 1, the number had the four bytes.
    let error = open_error(forged(|header, e| (header.sets, e[0].set_index) = (0.into(), 1)));
    assert_eq!(error, Error::TooManyExtents { number: 1, found: 0x101 });
}

#[test]
fn more_entries_than_a_slot_has_count_as_damage() {
    for count in [512, u32::MAX] {
        let disk = forged(|header, _| header.count = count.into());
        assert_eq!(open(disk).list().len(), 2);
    }
}

#[test]
fn a_catalog_that_would_give_out_number_0_is_refused() {
    let disk = forged(|header, _| (header.count, header.next_number) = (0.into(), 0.into()));
    assert!(matches!(open_error(disk), Error::NumberNotIssued { number: 0, next: 0 }));
}

#[test]
fn sets_that_can_not_be_are_refused() {
    let members = |members: [(u8, u8); 3]| {
        forged(|_, entries| {
            for (entry, (index, count)) in entries.iter_mut().zip(members) {
                (entry.set_index, entry.set_count) = (index, count);
                entry.name[..5].copy_from_slice(b"set/g");
            }
        })
    };
    assert_eq!(open(members([(0, 3), (1, 3), (2, 3)])).find_set("set").unwrap().members.len(), 3);
    assert_eq!(open(members([(0, 0), (0, 2), (1, 2)])).find_set("set").unwrap().first, 2);
    for (number, wrong) in [
        (1, [(0, 1), (0, 0), (0, 0)]), // one alone
        (1, [(2, 2), (0, 0), (0, 0)]), // beyond its count
        (1, [(1, 2), (0, 0), (0, 0)]), // would be number 0
        (3, [(0, 0), (0, 0), (0, 2)]), // its other one was not given out yet
        (2, [(0, 3), (0, 0), (2, 3)]), // has its number and is not in it
        (2, [(0, 3), (1, 2), (2, 3)]), // does not agree about their count
        (2, [(0, 2), (0, 2), (1, 2)]), // shares a number with the one before
    ] {
        let Error::MemberInvalid { number: found, .. } = open_error(members(wrong)) else {
            panic!("{wrong:?}");
        };
        assert_eq!(found, number, "{wrong:?}");
    }
    let nameless = forged(|_, e| (e[0].set_index, e[0].set_count) = (0, 2));
    assert!(matches!(open_error(nameless), Error::MemberInvalid { number: 1, .. }));
    let reserved = forged(|_, e| e[0].reserved = 1);
    assert!(matches!(open_error(reserved), Error::MemberInvalid { number: 1, .. }));
    let unknown = forged(|header, _| header.sets = (SETS_IN_ENTRIES + 1).into());
    assert_eq!(open_error(unknown), Error::UnknownSets { found: 2 });
}

#[test]
fn counters_at_their_end_are_refused_and_do_not_wrap() {
    let disk = forged(|header, _| header.next_number = u64::MAX.into());
    let error = open(disk).begin("it", 1, 0).map(|_| ()).unwrap_err();
    let numbers = "the store's checkpoint numbers are used up";
    assert_eq!(error.to_string(), numbers);
    let disk = forged(|header, _| header.generation = u64::MAX.into());
    let error = open(disk).delete(1).unwrap_err();
    assert_eq!(error.to_string(), "the store's generations are used up");
}

proptest! {
    /// Whatever a catalog says under a right checksum, it is opened and used, or refused.
    #[test]
    fn forged_catalogs_do_no_harm(
        changes in prop::collection::vec((0usize..512, prop_oneof![any::<u8>(), 0u8..4]), 1..8),
    ) {
        let mut disk = with_three();
        let bytes = slot(&mut disk, 1);
        for (at, value) in changes {
            bytes[at] = value;
        }
        seal_catalog(bytes);
        use_or_refuse(disk);
    }

    #[test]
    fn random_catalogs_do_no_harm(
        entries in prop::collection::vec(any::<[u8; 128]>(), 0..20),
        numbers in any::<(u64, u64)>(),
    ) {
        let mut disk = formatted_as(20, 2);
        let bytes = slot(&mut disk, 1);
        let mut header = CatalogHeader::new_zeroed();
        header.magic = CatalogHeader::MAGIC;
        header.count = (entries.len() as u32).into();
        (header.generation, header.next_number) = (numbers.0.into(), numbers.1.into());
        bytes[..128].copy_from_slice(header.as_bytes());
        bytes[128..128 + entries.len() * 128].copy_from_slice(entries.as_flattened());
        seal_catalog(bytes);
        use_or_refuse(disk);
    }
}

fn use_or_refuse(disk: RamDisk) {
    let partition = Partition::whole(&disk);
    let Ok(mut store) = Store::open(disk, partition) else {
        return;
    };
    for number in store.list().iter().map(|c| c.number).collect::<Vec<_>>() {
        read(&mut store, number);
    }
    let _ = add(&mut store, "new", &contents(9, 20_000));
    for number in store.list().iter().map(|c| c.number).collect::<Vec<_>>() {
        let _ = store.delete(number);
    }
}
