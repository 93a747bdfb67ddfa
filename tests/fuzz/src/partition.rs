//! Bytes as the partition tables of a disk, as they are and with a GPT's checksums right. What is
//! found lies on the disk.

use stasis_store::gpt::{self, Guid, NewPartition};
use stasis_store::{RamDisk, SECTOR, partition};

/// Sectors of the disk: both copies of a GPT, and a little between them.
const SECTORS: usize = 128;

/// The bytes are the first half and the second half of the disk, each from its own end.
pub fn run(data: &[u8]) {
    let mut disk = disk(data);
    find(&mut disk);
    for header in [1, SECTORS - 1] {
        sign(&mut disk.bytes, header * SECTOR);
    }
    find(&mut disk);
}

fn find(disk: &mut RamDisk) {
    if let Ok(partition) = partition::find(disk) {
        assert!(partition.first() > 0 && partition.sectors() > 0);
        assert!(partition.first() + partition.sectors() <= SECTORS as u64);
    }
}

fn disk(data: &[u8]) -> RamDisk {
    let mut disk = RamDisk::new(SECTORS as u64);
    let (first, second) = data.split_at(data.len() / 2);
    let half = SECTORS * SECTOR / 2;
    let len = first.len().min(half);
    disk.bytes[..len].copy_from_slice(&first[..len]);
    let len = second.len().min(half);
    let end = disk.bytes.len();
    disk.bytes[end - len..].copy_from_slice(&second[second.len() - len..]);
    disk
}

/// Returns a disk with a GPT, as [`run`] takes it.
pub fn seed() -> Vec<u8> {
    let mut disk = RamDisk::new(SECTORS as u64);
    let stasis = NewPartition::stasis(Guid([7; 16]), Some(40), SECTORS as u64);
    gpt::create(&mut disk, Guid([8; 16]), &[stasis]).expect("a disk that is large enough");
    assert!(partition::find(&mut disk).is_ok());
    disk.bytes
}

/// Makes the checksums of a GPT's header and entries right (UEFI 2.10, 5.3.2).
fn sign(disk: &mut [u8], header: usize) {
    let number = |at: usize, len: usize| {
        disk[header + at..][..len].iter().rev().fold(0, |n, byte| n << 8 | usize::from(*byte))
    };
    let (header_len, count, entry) = (number(12, 4), number(80, 4), number(84, 4));
    let start = number(72, 8).saturating_mul(SECTOR);
    if let Some(entries) = disk.get(start..start.saturating_add(count.saturating_mul(entry))) {
        let crc = crc32(entries);
        disk[header + 88..][..4].copy_from_slice(&crc.to_le_bytes());
    }
    disk[header + 16..][..4].fill(0);
    let crc = crc32(&disk[header..][..header_len.min(SECTOR)]);
    disk[header + 16..][..4].copy_from_slice(&crc.to_le_bytes());
}

/// CRC-32 as Ethernet has it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ ((crc & 1) * 0xedb8_8320))
    })
}
