//! Block maps that are damaged, forged or can't be read: the checkpoint is refused by its number,
//! the others live, and what is known to be somebody's is not given out.

mod common;

use common::{add, contents, formatted, open, read};
use proptest::prelude::*;
use stasis_store::block::BeyondEnd;
use stasis_store::layout::{
    BLOCK, CatalogHeader, MapEntry, NodeHeader, SLOT_OFFSET, checksum, crc32c,
};
use stasis_store::{BlockDevice, Doing, Error, Partition, RamDisk, Store};
use zerocopy::FromBytes;

/// Adds a checkpoint that has every second block of `of`, and others between them.
fn scattered(store: &mut Store<RamDisk>, of: u64, blocks: u64) -> u64 {
    let mut writer = store.begin_open("scattered", 0).unwrap();
    for at in (0..blocks).step_by(2) {
        writer.share(of, at..at + 1).unwrap();
        writer.write(&[at as u8; BLOCK]).unwrap();
    }
    writer.commit().unwrap().number
}

/// Returns the blocks that are maps, in the order of the disk.
fn nodes(disk: &RamDisk, level: u8) -> Vec<usize> {
    let blocks = disk.bytes.chunks(BLOCK).enumerate();
    let is_node = |bytes: &[u8]| bytes.starts_with(&NodeHeader::MAGIC) && bytes[4] == level;
    blocks.filter(|(_, bytes)| is_node(bytes)).map(|(block, _)| block).collect()
}

fn read_error<D: BlockDevice>(store: &mut Store<D>, number: u64) -> Error<D::Error> {
    let mut reader = store.open_checkpoint(number).unwrap();
    let mut all = vec![0; reader.length() as usize];
    reader.read_at(0, &mut all).unwrap_err()
}

#[test]
fn a_damaged_map_is_refused_by_its_number_and_the_others_live() {
    let mut store = open(formatted(60));
    for number in 1..=3 {
        add(&mut store, "it", &contents(number, 5 * BLOCK)).unwrap();
    }
    let disk = store.into_device();
    let block = nodes(&disk, 0)[1];
    for byte in [0, 4, 6, 8, 12, 16, 20, 4095] {
        let mut damaged = disk.clone();
        damaged.bytes[block * BLOCK + byte] ^= 1;
        let mut store = open(damaged);
        let error = read_error(&mut store, 2).to_string();
        let line = format!(
            "the block map of checkpoint 2 is damaged: block {block} is not as it was written"
        );
        assert_eq!(error, line, "byte {byte}");
        assert_eq!(store.check_map(2).unwrap_err().to_string(), line);
        store.usage();
        assert_eq!(store.damaged(), [2]);
        let four = add(&mut store, "four", &contents(4, 30 * BLOCK)).unwrap();
        for (number, blocks) in [(1, 5), (3, 5), (four, 30)] {
            assert!(read(&mut store, number) == contents(number, blocks * BLOCK));
        }
        store.delete(2).unwrap();
        assert!(store.damaged().len() == 1 && store.usage().free > 0);
        assert!(store.damaged().is_empty());
    }
}

#[test]
fn what_is_left_of_a_damaged_map_is_not_given_out() {
    const BLOCKS: u64 = 1_200;
    let mut store = open(formatted(2_500));
    let one = add(&mut store, "one", &contents(1, BLOCKS as usize * BLOCK)).unwrap();
    let two = scattered(&mut store, one, BLOCKS);
    let expected = read(&mut store, two);
    store.delete(one).unwrap();
    let mut disk = store.into_device();
    // The map of the second one has three leaves, of which the second is damaged.
    let leaves = nodes(&disk, 0);
    let leaf = leaves[leaves.len() - 2];
    disk.bytes[leaf * BLOCK + 100] ^= 1;
    let mut store = open(disk);
    let largest = store.usage().largest as usize;
    assert_eq!(store.damaged(), [two]);
    add(&mut store, "three", &vec![0xdd; largest]).unwrap();
    let mut disk = store.into_device();
    disk.bytes[leaf * BLOCK + 100] ^= 1;
    let mut store = open(disk);
    let found = read(&mut store, two);
    let (first, last) = (510 * BLOCK, 1_020 * BLOCK);
    assert!(found[..first] == expected[..first] && found[last..] == expected[last..]);
}

#[test]
fn a_leaf_that_two_share_damages_both() {
    let mut store = open(formatted(2_000));
    let one = add(&mut store, "one", &contents(1, 600 * BLOCK)).unwrap();
    let two = scattered(&mut store, one, 600);
    let mut writer = store.begin_open("three", 0).unwrap();
    writer.write(&[1; BLOCK]).unwrap();
    writer.share(two, 0..600).unwrap();
    let three = writer.commit().unwrap().number;
    let mut disk = store.into_device();
    let shared = nodes(&disk, 0).into_iter().find(|block| {
        let count = u16::from_le_bytes(disk.bytes[block * BLOCK + 6..][..2].try_into().unwrap());
        count == 510
    });
    disk.bytes[shared.unwrap() * BLOCK + 50] ^= 1;
    let mut store = open(disk);
    store.usage();
    assert_eq!(store.damaged(), [two, three]);
    assert!(read(&mut store, one) == contents(1, 600 * BLOCK));
}

/// A disk of which some blocks can't be read.
struct Unreadable {
    disk: RamDisk,
    block: Option<usize>,
}

impl BlockDevice for Unreadable {
    type Error = BeyondEnd;

    fn block_count(&self) -> u64 {
        self.disk.block_count()
    }

    fn read(&mut self, lba: u64, buf: &mut [u8]) -> Result<(), BeyondEnd> {
        let is_it = self.block.is_some_and(|block| lba / 8 == block as u64);
        self.disk.read(if is_it { u64::MAX } else { lba }, buf)
    }

    fn write(&mut self, lba: u64, data: &[u8]) -> Result<(), BeyondEnd> {
        self.disk.write(lba, data)
    }

    fn flush(&mut self) -> Result<(), BeyondEnd> {
        Ok(())
    }
}

#[test]
fn a_read_that_fails_for_somebody_else_does_not_spoil_what_is_written() {
    let mut store = open(formatted(60));
    for number in 1..=2 {
        add(&mut store, "it", &contents(number, 5 * BLOCK)).unwrap();
    }
    let disk = store.into_device();
    let block = Some(nodes(&disk, 0)[0]);
    let mut store = open(Unreadable { disk, block: None });
    let mut writer = store.begin_open("three", 0).unwrap();
    writer.write(&contents(3, 3 * BLOCK)).unwrap();
    writer.device_mut().block = block;
    let error = writer.read_of(1, 0, BLOCK, &mut |_| {}).unwrap_err();
    assert!(error.is_of_reading(), "{error}");
    writer.read_of(2, 0, BLOCK, &mut |_| {}).unwrap();
    writer.write(&contents(4, 3 * BLOCK)).unwrap();
    let number = writer.commit().unwrap().number;
    let expected = [contents(3, 3 * BLOCK), contents(4, 3 * BLOCK)].concat();
    assert!(read(&mut store, number) == expected);
}

#[test]
fn a_leaf_that_is_damaged_is_not_shared() {
    let mut store = open(formatted(1000));
    for number in 1..=2 {
        add(&mut store, "it", &contents(number, 100 * BLOCK)).unwrap();
    }
    // Blocks of the one and of the other by turns: 200 runs.
    let mut writer = store.begin_open("mixed", 0).unwrap();
    for block in 0..100 {
        (1..=2).for_each(|number| writer.share(number, block..block + 1).unwrap());
    }
    let mixed = writer.commit().unwrap().number;
    let disk = store.into_device();
    let bytes = |block: &usize| disk.bytes[block * BLOCK..][..BLOCK].iter().filter(|b| **b != 0);
    let leaf = nodes(&disk, 0).into_iter().max_by_key(|block| bytes(block).count());
    let mut store = open(Unreadable { disk, block: None });
    let mut writer = store.begin_open("again", 0).unwrap();
    writer.device_mut().block = leaf;
    let error = writer.share(mixed, 0..200).unwrap_err();
    assert!(error.is_of_reading(), "{error}");
    assert_eq!(writer.commit().unwrap_err(), Error::WriterFailed);
}

/// A map that can't be read now may be there again the next time.
#[test]
fn while_a_map_can_not_be_read_nothing_is_written_but_a_deletion() {
    let mut store = open(formatted(60));
    for number in 1..=3 {
        add(&mut store, "it", &contents(number, 5 * BLOCK)).unwrap();
    }
    let disk = store.into_device();
    let block = Some(nodes(&disk, 0)[1]);
    let mut store = open(Unreadable { disk, block });
    assert!(matches!(
        add(&mut store, "four", &[1]),
        Err(Error::Device { doing: Doing::Reading, .. })
    ));
    assert!(matches!(read_error(&mut store, 2), Error::Device { .. }));
    assert!(read(&mut store, 3) == contents(3, 5 * BLOCK));
    assert!(store.damaged().is_empty(), "nobody knows that");
    store.device_mut().block = None;
    add(&mut store, "four", &contents(4, 36 * BLOCK)).unwrap();
    assert!(read(&mut store, 2) == contents(2, 5 * BLOCK));
    let Unreadable { disk, .. } = store.into_device();
    let mut store = open(Unreadable { disk, block });
    store.delete(2).unwrap();
    // The older catalog still refers to it.
    assert!(add(&mut store, "five", &[1]).is_err());
    store.delete(4).unwrap();
    add(&mut store, "five", &contents(5, 36 * BLOCK)).unwrap();
}

/// Returns a disk with a checkpoint of four blocks in two runs, whose catalog entry and map were
/// changed, with right checksums.
fn forged(change: impl FnOnce(&mut MapEntry, &mut [u8])) -> RamDisk {
    let mut store = open(formatted(60));
    let one = add(&mut store, "one", &contents(1, 5 * BLOCK)).unwrap();
    let mut writer = store.begin_open("two", 0).unwrap();
    writer.share(one, 0..2).unwrap();
    writer.share(one, 3..5).unwrap();
    writer.commit().unwrap();
    let mut disk = store.into_device();
    let slot = SLOT_OFFSET[0] as usize;
    let (entries, data) = disk.bytes.split_at_mut(0x3_0000);
    let entries = &mut entries[slot + 128..];
    let place = entries.chunks(128).take(2).position(|entry| entry[0] == 2).unwrap() * 128;
    let (entry, _) = MapEntry::mut_from_prefix(&mut entries[place..]).unwrap();
    let node = (entry.root.get() as usize - 48) * BLOCK;
    let node = &mut data[node..node + BLOCK];
    change(entry, node);
    entry.root_crc = crc32c(node).into();
    seal(&mut disk, slot);
    disk
}

fn seal(disk: &mut RamDisk, slot: usize) {
    let (header, _) = CatalogHeader::read_from_prefix(&disk.bytes[slot..]).unwrap();
    let end = slot + 128 * (1 + header.count.get() as usize);
    let crc = checksum(&disk.bytes[slot..end]);
    disk.bytes[slot + 8..slot + 12].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn roots_that_can_not_be_are_refused() {
    type Change = fn(&mut MapEntry);
    let changes: [Change; 8] = [
        |entry| entry.root = 47.into(),
        |entry| entry.root = 108.into(),
        |entry| entry.root_level = 4,
        |entry| entry.root_count = 0.into(),
        |entry| entry.root_count = 511.into(),
        |entry| (entry.root_level, entry.root_count) = (1, 256.into()),
        |entry| entry.length = 0.into(),
        |entry| entry.length = (1 << 44).into(),
    ];
    for (nth, change) in changes.into_iter().enumerate() {
        let disk = forged(|entry, _| change(entry));
        let partition = Partition::whole(&disk);
        let error = Store::open(disk, partition).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::RootInvalid { number: 2, .. }), "change {nth}: {error}");
    }
}

#[test]
fn maps_that_break_a_rule_are_damaged_whatever_their_checksum() {
    let word = |at: usize, value: u32| (at, value.to_le_bytes());
    assert!(read(&mut open(forged(|_, _| ())), 2).len() == 4 * BLOCK);
    for (at, value) in [
        word(0, 0),         // no magic
        (4, [1, 0, 2, 0]),  // of another level
        (4, [0, 1, 2, 0]),  // reserved
        (4, [0, 0, 1, 0]),  // another count
        word(8, 5),         // of other contents
        word(12, 1),        // reserved
        word(16, 1),        // does not begin at 0
        word(24, 0),        // of no blocks
        word(24, 4),        // begins at the end
        word(20, 47),       // in the catalog
        word(28, 107),      // beyond the store
        word(28, u32::MAX), // far beyond it
    ] {
        let mut store = open(forged(|_, node| node[at..at + 4].copy_from_slice(&value)));
        let error = read_error(&mut store, 2);
        assert!(matches!(error, Error::MapDamaged { number: 2, .. }), "{at}: {error}");
        assert!(read(&mut store, 1) == contents(1, 5 * BLOCK));
    }
}

proptest! {
    /// Whatever a map says under right checksums, it is used or refused, and the others live.
    #[test]
    fn forged_maps_do_no_harm(
        changes in prop::collection::vec((4usize..40, prop_oneof![any::<u8>(), 0u8..4, 40u8..110]), 1..8),
        entry in prop::option::of((16usize..112, 0u8..8)),
    ) {
        let disk = forged(|place, node| {
            changes.iter().for_each(|(at, value)| node[*at] = *value);
            if let Some((at, value)) = entry {
                zerocopy::IntoBytes::as_mut_bytes(place)[at] = value;
            }
        });
        let partition = Partition::whole(&disk);
        if let Ok(mut store) = Store::open(disk, partition) {
            let _ = store.check_map(2);
            prop_assert!(read(&mut store, 1) == contents(1, 5 * BLOCK));
            let mut reader = store.open_checkpoint(2).unwrap();
            let mut all = vec![0; (reader.length() as usize).min(1 << 20)];
            let _ = reader.read_at(0, &mut all);
            store.freed_by_each();
            if let Ok(mut writer) = store.begin_open("three", 0)
                && writer.share(2, 0..3).is_ok()
            {
                writer.commit().unwrap();
            }
            prop_assert!(read(&mut store, 1) == contents(1, 5 * BLOCK));
            store.delete(2).unwrap();
            let free = store.usage().largest;
            add(&mut store, "four", &vec![7; free as usize]).unwrap();
            prop_assert!(read(&mut store, 1) == contents(1, 5 * BLOCK));
        }
    }
}
