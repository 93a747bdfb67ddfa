//! Bytes as the block maps of a store, with their checksums right: nodes that refer to each other,
//! to contents, and to what is not there, in ways that no writer refers to them. Every look at them
//! ends, and nobody else's checkpoint is hurt.

use stasis_store::layout::{
    BLOCK, CatalogHeader, ChildEntry, FIRST_DATA_BLOCK, MAPS_IN_ENTRIES, MAX_LEVEL, MapEntry,
    NodeHeader, SLOT_OFFSET, VERSION_OF_MAPS, checksum, crc32c,
};
use stasis_store::{Error, Partition, RamDisk, SECTOR, Store};
use zerocopy::{FromZeros, IntoBytes};

/// Blocks of contents and maps.
const BLOCKS: u32 = 64;
/// Nodes at the most. Node `n` is in data block `n`.
const NODES: usize = 12;
/// Entries of a node, and checkpoints, at the most.
const ENTRIES: usize = 6;

/// A node.
#[derive(Clone, Copy)]
struct Made {
    block: u32,
    crc: u32,
    count: u32,
    level: u8,
    blocks: u32,
}

/// Makes maps of the bytes, and does with the store what can be done with it.
pub fn run(data: &[u8]) {
    let mut bytes = data.iter().copied();
    let mut next = move || bytes.next().unwrap_or(0);
    let mut disk = RamDisk::new(u64::from(FIRST_DATA_BLOCK + BLOCKS) * (BLOCK / SECTOR) as u64);
    let partition = Partition::whole(&disk);
    Store::format_as(&mut disk, partition, VERSION_OF_MAPS).expect("there is room");
    let count = usize::from(next()) % NODES + 1;
    let mut nodes = Vec::new();
    for n in 0..count {
        let node = node(&mut disk, FIRST_DATA_BLOCK + n as u32, &nodes, &mut next);
        nodes.push(node);
    }
    let roots = usize::from(next()) % ENTRIES + 1;
    let roots: Vec<Made> = (0..roots).map(|_| nodes[usize::from(next()) % count]).collect();
    catalog(&mut disk, &roots);
    use_store(disk, partition);
}

/// Reads, changes and opens a store again. What could be read before can be read then, and is the
/// same.
fn use_store(mut disk: RamDisk, partition: Partition) {
    let Ok(mut store) = Store::open(&mut disk, partition) else { return };
    let numbers: Vec<u64> = store.list().iter().map(|one| one.number).collect();
    let before: Vec<_> = numbers.iter().map(|number| all(&mut store, *number)).collect();
    let _ = store.usage();
    let checked: Vec<bool> = numbers.iter().map(|one| store.check_map(*one).is_ok()).collect();
    for ((number, checked), before) in numbers.iter().zip(&checked).zip(&before) {
        assert!(
            !checked || before.is_some(),
            "the map of checkpoint {number} is good, and it is not read"
        );
    }
    if let Ok(mut writer) = store.begin_open("new", 1) {
        let shared = numbers.iter().zip(&before).filter_map(|(number, bytes)| {
            bytes.as_ref().map(|bytes| (*number, (bytes.len() / BLOCK) as u64))
        });
        let shared: Vec<_> = shared.collect();
        let written = writer.write(&[7; 3 * BLOCK]).is_ok()
            && shared.iter().all(|(number, blocks)| writer.share(*number, 0..*blocks).is_ok());
        if written {
            let _ = writer.commit();
        }
    }
    for (number, bytes) in numbers.iter().zip(&before) {
        assert!(all(&mut store, *number) == *bytes, "checkpoint {number} has changed");
    }
    if let Some(first) = numbers.first() {
        let _ = store.delete(*first);
    }
    let list = store.list().to_vec();
    drop(store);
    let mut again = Store::open(&mut disk, partition).expect("it was just written");
    assert_eq!(again.list(), list);
    for (number, bytes) in numbers.iter().zip(&before).skip(1) {
        assert!(all(&mut again, *number) == *bytes, "checkpoint {number} has changed");
    }
}

/// Returns all bytes of a checkpoint; `None` if its map is damaged.
fn all(store: &mut Store<&mut RamDisk>, number: u64) -> Option<Vec<u8>> {
    let mut reader = store.open_checkpoint(number).expect("it is in the list");
    let mut bytes = vec![0; usize::try_from(reader.length()).expect("the disk is small")];
    match reader.read_at(0, &mut bytes) {
        Ok(()) => Some(bytes),
        Err(Error::MapDamaged { .. }) => None,
        Err(error) => panic!("{error}: it lies on the disk"),
    }
}

/// Puts a node into a block: a leaf, or one whose children are among the `below`.
fn node(disk: &mut RamDisk, block: u32, below: &[Made], next: &mut impl FnMut() -> u8) -> Made {
    let (mut level, count) = (0, usize::from(next()) % ENTRIES + 1);
    let mut entries: Vec<ChildEntry> = Vec::new();
    let mut blocks = 0;
    let child = usize::from(next());
    if let Some(first) = below.get(child).filter(|child| child.level < MAX_LEVEL) {
        level = first.level + 1;
    }
    for _ in 0..count {
        let chosen = below.get(usize::from(next()) % below.len().max(1));
        let chosen = chosen.filter(|chosen| chosen.level + 1 == level);
        let (entry, len) = match (level, chosen) {
            (0, _) => {
                ([FIRST_DATA_BLOCK + u32::from(next()) % BLOCKS, 0, 0], u32::from(next()) % 8)
            }
            (_, Some(Made { block, crc, count, blocks, .. })) => ([*block, *crc, *count], *blocks),
            (_, None) => continue,
        };
        // Now and then an entry says another length than its child has.
        let len = if next() == 0xff { len / 2 } else { len };
        let [block, crc, count] = entry.map(Into::into);
        entries.push(ChildEntry { at: blocks.into(), block, crc, count });
        blocks += len;
    }
    let mut header = NodeHeader::new_zeroed();
    (header.magic, header.level) = (NodeHeader::MAGIC, level);
    (header.count, header.blocks) = ((entries.len() as u16).into(), blocks.into());
    let mut bytes = header.as_bytes().to_vec();
    let len = if level == 0 { 8 } else { 16 };
    entries.iter().for_each(|entry| bytes.extend_from_slice(&entry.as_bytes()[..len]));
    bytes.resize(BLOCK, 0);
    disk.bytes[block as usize * BLOCK..][..BLOCK].copy_from_slice(&bytes);
    Made { block, crc: crc32c(&bytes), count: entries.len() as u32, level, blocks }
}

/// Makes checkpoints with these roots, from 1 on.
fn catalog(disk: &mut RamDisk, roots: &[Made]) {
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
}
