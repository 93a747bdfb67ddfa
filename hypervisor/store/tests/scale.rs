//! Large stores, and long histories: opening one costs what its maps have, and maps stay small.

mod common;

use common::{Random, add, contents, open, read};
use stasis_store::block::BeyondEnd;
use stasis_store::layout::{BLOCK, MAX_CHECKPOINTS, NodeHeader};
use stasis_store::{BlockDevice, Partition, SECTOR, Store};
use std::collections::{BTreeSet, HashMap};

/// A disk that keeps what it is written only of superblock, catalogs and maps, and counts what is
/// asked for.
#[derive(Default)]
struct Sparse {
    sectors: u64,
    /// Whether it keeps contents, too, but for what is written by [`LARGE`] bytes at once.
    keeps_contents: bool,
    kept: HashMap<u64, Vec<u8>>,
    reads: u64,
    bytes_read: u64,
    /// Blocks of maps that were written.
    nodes: u64,
}

/// Bytes of a write whose contents no test reads.
const LARGE: usize = 16 << 20;

impl BlockDevice for Sparse {
    type Error = BeyondEnd;

    fn block_count(&self) -> u64 {
        self.sectors
    }

    fn read(&mut self, lba: u64, buf: &mut [u8]) -> Result<(), BeyondEnd> {
        self.reads += 1;
        self.bytes_read += buf.len() as u64;
        for (lba, sector) in (lba..).zip(buf.chunks_mut(SECTOR)) {
            match self.kept.get(&lba) {
                Some(kept) => sector.copy_from_slice(kept),
                None => sector.fill(0),
            }
        }
        Ok(())
    }

    fn write(&mut self, lba: u64, data: &[u8]) -> Result<(), BeyondEnd> {
        let is_node = data.starts_with(&NodeHeader::MAGIC);
        self.nodes += u64::from(is_node);
        if is_node || self.keeps_contents || lba < 48 * 8 {
            let sectors = (lba..).zip(data.chunks(SECTOR));
            sectors.for_each(|(lba, bytes)| drop(self.kept.insert(lba, bytes.to_vec())));
        }
        Ok(())
    }

    fn begin_write_while(
        &mut self,
        lba: u64,
        len: usize,
        fill: &mut dyn FnMut(&mut [u8]) -> bool,
    ) -> Result<bool, BeyondEnd> {
        if len >= LARGE {
            return Ok(true);
        }
        let mut data = vec![0; len];
        let is_whole = fill(&mut data);
        // What was refused stays as it was.
        if is_whole {
            self.write(lba, &data)?;
        }
        Ok(is_whole)
    }

    fn flush(&mut self) -> Result<(), BeyondEnd> {
        Ok(())
    }
}

fn formatted(gib: u64) -> Store<Sparse> {
    let disk = Sparse { sectors: gib << 21, ..Sparse::default() };
    let partition = Partition::whole(&disk);
    Store::format(disk, partition).unwrap()
}

fn whole(store: &mut Store<Sparse>, blocks: u64) -> u64 {
    let mut writer = store.begin_open("it", 0).unwrap();
    let mut left = blocks as usize * BLOCK;
    while left > 0 {
        let now = left.min(64 << 20);
        writer.write_with(now, &mut |_| ()).unwrap();
        left -= now;
    }
    writer.commit().unwrap().number
}

/// Returns the blocks of a guest, and how many one of `part` is.
fn size(part: u64) -> (u64, usize) {
    let blocks = std::env::var("BLOCKS").map_or(16_384, |blocks| blocks.parse().unwrap());
    (blocks, (blocks / part) as usize)
}

/// Adds a checkpoint after `of`, of which `changed` blocks anywhere are others.
fn later(
    store: &mut Store<Sparse>,
    of: u64,
    blocks: u64,
    changed: usize,
    random: &mut Random,
) -> u64 {
    let mut all: BTreeSet<u64> = (0..changed).map(|_| random.below(blocks)).collect();
    all.insert(blocks);
    let mut writer = store.begin_open("it", 0).unwrap();
    let mut at = 0;
    for change in all {
        writer.share(of, at..change).unwrap();
        if change < blocks {
            writer.write(&[0; BLOCK]).unwrap();
        }
        at = change + 1;
    }
    writer.commit().unwrap().number
}

/// A store of 32 GiB with as many checkpoints of a guest of 64 MiB as there can be, each with 14
/// pages more that have changed anywhere. (`BLOCKS=65536` is a guest of 256 MiB with 55 pages.)
#[test]
fn a_large_store_with_511_checkpoints_opens_by_its_maps_alone() {
    let (blocks, changed) = size(1200);
    let mut random = Random::new(5);
    let mut store = formatted(32);
    let mut last = whole(&mut store, blocks);
    for _ in 1..MAX_CHECKPOINTS {
        last = later(&mut store, last, blocks, changed, &mut random);
    }
    let mut disk = store.into_device();
    (disk.reads, disk.bytes_read) = (0, 0);
    let partition = Partition::whole(&disk);
    let mut store = Store::open(disk, partition).unwrap();
    assert_eq!(
        store.device_mut().bytes_read,
        2 * 512 + 2 * 0x1_0000 - 512,
        "superblock and catalogs"
    );
    let usage = store.usage();
    let disk = store.device_mut();
    let nodes = (disk.bytes_read - 2 * 0x1_0000) / BLOCK as u64;
    println!(
        "{nodes} blocks of maps are read, {} requests; {} were written",
        disk.reads, disk.nodes
    );
    let used = (usage.capacity - usage.free) / BLOCK as u64 - blocks;
    println!("{used} blocks of changes and maps");
    // Each change touches one leaf, and a leaf is read once.
    assert!(nodes < 511 * (changed as u64 + 3), "{nodes} blocks of maps");
}

/// A guest of 64 MiB that changes one page of a hundred, anywhere, between two checkpoints, of
/// which the newest are kept. (`ROUNDS=1000` makes it long.)
#[test]
fn maps_stay_small_over_a_long_history_of_changes_anywhere() {
    const KEPT: usize = 5;
    let (blocks, changed) = size(100);
    let rounds = std::env::var("ROUNDS").map_or(100, |rounds| rounds.parse().unwrap());
    // With a run for each block, leaves that are full would be a third of as many.
    let most = blocks / 170;
    let mut random = Random::new(6);
    let mut store = formatted(2);
    let mut last = whole(&mut store, blocks);
    for round in 1..=rounds {
        if store.list().len() == KEPT {
            let oldest = store.list()[0].number;
            store.replace(&[oldest]).unwrap();
        }
        let nodes = store.device_mut().nodes;
        last = later(&mut store, last, blocks, changed, &mut random);
        let written = store.device_mut().nodes - nodes;
        if round % 50 == 0 {
            let usage = store.usage();
            let used = (usage.capacity - usage.free) / BLOCK as u64;
            println!("round {round}: {written} blocks of maps written, {used} blocks used in all");
        }
        assert!(written < most, "{written} blocks of maps in round {round}");
    }
    let used = store.usage();
    let used = (used.capacity - used.free) / BLOCK as u64;
    assert!(used < blocks + KEPT as u64 * (changed as u64 + most), "{used} blocks");
}

/// A store of 48 GiB needs 384 pages of the bitmap of what is taken, and gets 256. In the parts
/// without one all blocks are taken; what maps refer to there is somebody's nevertheless.
#[test]
fn a_map_in_a_part_of_the_disk_that_has_no_bitmap_keeps_what_it_refers_to() {
    const SPAN: u64 = 16_384;
    let mut store = formatted(48);
    store.device_mut().keeps_contents = true;
    let old = add(&mut store, "old", &contents(1, 64 * BLOCK)).unwrap();
    let large = whole(&mut store, 640 * SPAN);
    // A block of every 64 MiB: no part of the disk is wholly taken or free.
    let mut writer = store.begin_open("scattered", 0).unwrap();
    for nth in 0..640 {
        let at = nth * SPAN + SPAN / 2;
        writer.share(large, at..at + 1).unwrap();
    }
    writer.commit().unwrap();
    let gap = whole(&mut store, 3 * SPAN);
    // The first node in its part, which is taken as a whole then.
    add(&mut store, "neighbour", &contents(2, BLOCK)).unwrap();
    // Another node there, of the only checkpoint that has the old one's blocks, where writers look
    // for room first.
    let mut writer = store.begin_open("victim", 0).unwrap();
    writer.share(old, 0..64).unwrap();
    writer.write(&contents(3, BLOCK)).unwrap();
    let victim = writer.commit().unwrap().number;
    let expected = read(&mut store, victim);
    store.delete_all(&[old, large, gap]).unwrap();
    for seed in 4..7 {
        store = open(store.into_device());
        add(&mut store, "new", &contents(seed, 100 * BLOCK)).unwrap();
        assert!(read(&mut store, victim) == expected, "a committed checkpoint was overwritten");
    }
}
