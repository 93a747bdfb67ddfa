//! Maps whose nodes and blocks are referred to in ways that no writer refers to them, under right
//! checksums: every look at them ends, nobody else is hurt.

mod common;

use common::{add, contents, formatted, open, read};
use stasis_store::block::BeyondEnd;
use stasis_store::layout::{
    BLOCK, CatalogHeader, ChildEntry, FIRST_DATA_BLOCK, MAPS_IN_ENTRIES, MapEntry, NodeHeader,
    SLOT_OFFSET, Superblock, checksum, crc32c,
};
use stasis_store::{BlockDevice, Error, Partition, RamDisk, SECTOR, Store};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// The first block that contents and maps may stand in.
const FIRST: u32 = FIRST_DATA_BLOCK;

/// A node that was forged.
#[derive(Clone, Copy)]
struct Forged {
    block: u32,
    crc: u32,
    count: u32,
    level: u8,
    blocks: u32,
}

impl Forged {
    /// Returns the entry of a child that begins at block `at` of the contents.
    fn at(self, at: u32) -> ChildEntry {
        let [at, block, crc, count] = [at, self.block, self.crc, self.count].map(Into::into);
        ChildEntry { at, block, crc, count }
    }
}

fn put(disk: &mut RamDisk, block: u32, level: u8, blocks: u32, entries: &[ChildEntry]) -> Forged {
    let mut header = NodeHeader::new_zeroed();
    (header.magic, header.level) = (NodeHeader::MAGIC, level);
    (header.count, header.blocks) = ((entries.len() as u16).into(), blocks.into());
    let mut bytes = header.as_bytes().to_vec();
    let len = if level == 0 { 8 } else { 16 };
    entries.iter().for_each(|entry| bytes.extend_from_slice(&entry.as_bytes()[..len]));
    bytes.resize(BLOCK, 0);
    disk.bytes[block as usize * BLOCK..][..BLOCK].copy_from_slice(&bytes);
    Forged { block, crc: crc32c(&bytes), count: entries.len() as u32, level, blocks }
}

/// Puts a leaf with one run of `blocks` blocks from `first` on into a block.
fn put_leaf(disk: &mut RamDisk, block: u32, first: u32, blocks: u32) -> Forged {
    let run = Forged { block: first, crc: 0, count: 0, level: 0, blocks }.at(0);
    put(disk, block, 0, blocks, &[run])
}

/// Puts a node into a block that has `leaf`, or another node, `times` times.
fn put_repeated(disk: &mut RamDisk, block: u32, child: Forged, times: u32) -> Forged {
    let entries: Vec<_> = (0..times).map(|nth| child.at(nth * child.blocks)).collect();
    put(disk, block, child.level + 1, child.blocks * times, &entries)
}

/// Returns a disk with room for 100 blocks, whose checkpoints, from 1 on, have the maps with these
/// roots.
fn forged(change: impl FnOnce(&mut RamDisk) -> Vec<Forged>) -> RamDisk {
    let mut disk = formatted(100);
    let roots = change(&mut disk);
    let mut header = CatalogHeader::new_zeroed();
    header.magic = CatalogHeader::MAGIC;
    header.count = (roots.len() as u32).into();
    (header.generation, header.next_number) = (5.into(), 100.into());
    header.sets = MAPS_IN_ENTRIES.into();
    let mut bytes = header.as_bytes().to_vec();
    for (number, root) in (1..).zip(roots) {
        let mut entry = MapEntry::new_zeroed();
        entry.number = u64::into(number);
        entry.length = (u64::from(root.blocks) * BLOCK as u64).into();
        entry.name[0] = b'a';
        entry.root_level = root.level;
        entry.root = root.block.into();
        (entry.root_crc, entry.root_count) = (root.crc.into(), root.count.into());
        bytes.extend_from_slice(entry.as_bytes());
    }
    let crc = checksum(&bytes);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    for offset in SLOT_OFFSET {
        disk.bytes[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
    }
    disk
}

#[test]
fn a_node_that_is_in_the_run_of_another_checkpoint_keeps_what_is_below_it() {
    let disk = forged(|disk| {
        let two = put_leaf(disk, FIRST + 2, FIRST + 12, 4);
        vec![put_leaf(disk, FIRST + 3, FIRST + 2, 2), two]
    });
    let mut store = open(disk);
    let expected = read(&mut store, 2);
    for seed in 0..3 {
        add(&mut store, "new", &contents(seed, 5 * BLOCK)).unwrap();
        assert!(read(&mut store, 2) == expected, "it was overwritten");
    }
    assert!(store.damaged().is_empty());
}

/// Returns a disk with a checkpoint of 15 blocks, and a leaf of 5 blocks that is said to have 10
/// the second time.
fn with_a_leaf_of_two_lengths() -> RamDisk {
    forged(|disk| {
        let leaf = put_leaf(disk, FIRST + 2, FIRST + 12, 5);
        vec![put(disk, FIRST + 3, 1, 15, &[leaf.at(0), leaf.at(5)])]
    })
}

#[test]
fn a_leaf_that_has_two_lengths_is_damaged_where_it_has_the_wrong_one() {
    let mut store = open(with_a_leaf_of_two_lengths());
    let damaged =
        |error| matches!(error, Error::MapDamaged { number: 1, block } if block == FIRST + 2);
    for at in [5, 12] {
        store.read_of(1, 0, SECTOR, &mut |_| ()).unwrap();
        let offset = at * BLOCK as u64;
        assert!(damaged(store.read_of(1, offset, SECTOR, &mut |_| ()).unwrap_err()));
    }
    let mut all = vec![0; 15 * BLOCK];
    assert!(damaged(store.open_checkpoint(1).unwrap().read_at(0, &mut all).unwrap_err()));
    assert!(damaged(store.check_map(1).unwrap_err()));
    store.usage();
    assert_eq!(store.damaged(), [1]);
}

#[test]
fn a_leaf_whose_number_of_entries_can_not_be_gets_into_no_other_map() {
    for count in [0, 511] {
        let mut store = open(forged(|disk| {
            let leaf = put_leaf(disk, FIRST + 2, FIRST + 12, 5);
            let lie = Forged { count, ..leaf };
            vec![put(disk, FIRST + 3, 1, 10, &[leaf.at(0), lie.at(5)])]
        }));
        let mut writer = store.begin_open("new", 0).unwrap();
        assert!(matches!(writer.share(1, 5..10), Err(Error::MapDamaged { number: 1, .. })));
        assert!(writer.commit().is_err());
        let store = open(store.into_device());
        assert_eq!(store.list().len(), 1);
    }
}

/// A large disk of which the first blocks are kept, and all else is zero. It counts reads.
#[derive(Debug)]
struct Large {
    first: RamDisk,
    sectors: u64,
    reads: u64,
}

impl BlockDevice for Large {
    type Error = BeyondEnd;

    fn block_count(&self) -> u64 {
        self.sectors
    }

    fn read(&mut self, lba: u64, buf: &mut [u8]) -> Result<(), BeyondEnd> {
        self.reads += 1;
        self.first.read(lba, buf)
    }

    fn write(&mut self, lba: u64, data: &[u8]) -> Result<(), BeyondEnd> {
        self.first.write(lba, data)
    }

    fn flush(&mut self) -> Result<(), BeyondEnd> {
        Ok(())
    }
}

#[test]
fn a_node_is_read_twice_for_each_window_of_the_disk_however_often_it_is_referred_to() {
    const GIB: u64 = 20;
    // 64,000 leaves, all of them one.
    let mut first = forged(|disk| {
        let mut node = put_leaf(disk, FIRST + 2, FIRST + 12, 1);
        for level in 1..=3 {
            node = put_repeated(disk, FIRST + 2 + level, node, 40);
        }
        vec![node]
    });
    let (superblock, _) = Superblock::mut_from_prefix(&mut first.bytes).unwrap();
    superblock.blocks = (GIB << 18).into();
    let crc = checksum(&first.bytes[..SECTOR]);
    first.bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    let disk = Large { first, sectors: GIB << 21, reads: 0 };
    let partition = Partition::whole(&disk);
    let mut store = Store::open(disk, partition).unwrap();
    store.device_mut().reads = 0;
    store.usage();
    assert_eq!(store.device_mut().reads, 4, "one of each node");
    store.device_mut().reads = 0;
    store.freed_by_each();
    let reads = store.device_mut().reads;
    // Three windows of 8 GiB; the root alone is not met twice, so it is read to count.
    assert!(reads <= 3 * (2 * 4 + 4), "{reads} reads");
}
