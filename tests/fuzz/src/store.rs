//! Bytes as the superblock and the two catalogs of a store, with their checksums right. What opens
//! can be listed, read, changed, and opened again.

use stasis_store::layout::{BLOCK, FIRST_DATA_BLOCK, SLOT_LEN, SLOT_OFFSET, checksum};
use stasis_store::{BlockDevice, Error, Partition, RamDisk, SECTOR, Store};

/// Bytes of a catalog's header, and of an entry.
const ENTRY: usize = 128;
/// Sectors of the disk: the catalogs, and some blocks for data.
const SECTORS: u64 = (FIRST_DATA_BLOCK as u64 + 24) * (BLOCK / SECTOR) as u64;

/// The first sector is the superblock; the rest is halved between the catalogs.
pub fn run(data: &[u8]) {
    let mut disk = disk(data);
    let partition = Partition::whole(&disk);
    let Ok(mut store) = Store::open(&mut disk, partition) else { return };
    let numbers: Vec<u64> = store.list().iter().map(|checkpoint| checkpoint.number).collect();
    for &number in &numbers {
        let mut reader = store.open_checkpoint(number).expect("it is in the list");
        let mut buf = [0; 700];
        let len = reader.length().min(buf.len() as u64);
        let end = reader.length() - len;
        for at in [0, end] {
            match reader.read_at(at, &mut buf[..len as usize]) {
                // The checksum of a map's root is in the catalog.
                Ok(()) | Err(Error::MapDamaged { .. }) => {}
                Err(error) => panic!("{error}: it lies on the disk"),
            }
        }
        assert!(reader.read_at(end, &mut [0; 701]).is_err() || len == 700 && end > 0);
    }
    // Whether there is room or not, and whatever the numbers have come to.
    if let Ok(mut writer) = store.begin("new", 4096, 1)
        && writer.write(&[7; 4096]).is_ok()
    {
        let _ = writer.commit();
    }
    if let Some(&first) = numbers.first() {
        let _ = store.delete(first);
    }
    let list = store.list().to_vec();
    drop(store);
    let again = Store::open(&mut disk, partition).expect("it was just written");
    assert_eq!(again.list(), list);
}

/// Returns the disk that [`run`] makes of the bytes.
pub fn disk(data: &[u8]) -> RamDisk {
    let mut disk = RamDisk::new(SECTORS);
    let (superblock, catalogs) = data.split_at(data.len().min(SECTOR));
    disk.bytes[..superblock.len()].copy_from_slice(superblock);
    disk.bytes[..8].copy_from_slice(b"STASISCP");
    sign(&mut disk.bytes[..SECTOR]);
    let (first, second) = catalogs.split_at(catalogs.len() / 2);
    for (offset, catalog) in SLOT_OFFSET.into_iter().zip([first, second]) {
        let slot = &mut disk.bytes[offset as usize..][..SLOT_LEN];
        let len = catalog.len().min(SLOT_LEN);
        slot[..len].copy_from_slice(&catalog[..len]);
        let count = u32::from_le_bytes([slot[12], slot[13], slot[14], slot[15]]) as usize;
        let end = count.saturating_add(1).saturating_mul(ENTRY).min(SLOT_LEN);
        sign(&mut slot[..end]);
    }
    disk
}

/// Returns what [`run`] takes, of a store that begins a disk.
pub fn seed(disk: &RamDisk) -> Vec<u8> {
    let catalog = |slot: usize| &disk.bytes[SLOT_OFFSET[slot] as usize..][..ENTRY * 4];
    [&disk.bytes[..SECTOR], catalog(0), catalog(1)].concat()
}

/// Returns a disk with a store of three checkpoints, one of them deleted.
pub fn sound_disk() -> RamDisk {
    let mut disk = RamDisk::new(SECTORS);
    let partition = Partition::whole(&disk);
    assert!(disk.block_count() == SECTORS);
    let mut store = Store::format(&mut disk, partition).expect("there is room");
    for number in 0..3u8 {
        let mut writer = store.begin("seed", 5000, 9).expect("there is room");
        writer.write(&[number; 5000]).expect("there is room");
        writer.commit().expect("there is room");
    }
    store.delete(2).expect("it is there");
    drop(store);
    disk
}

fn sign(bytes: &mut [u8]) {
    let crc = checksum(bytes);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
}
