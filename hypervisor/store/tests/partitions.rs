//! Partition tables: whole, damaged, forged, of others.

use stasis_store::gpt::{self, Fault, Guid, NewPartition};
use stasis_store::mbr::{self, Mbr};
use stasis_store::{BlockDevice, Error, Partition, PartitionFault, RamDisk, Store, partition};

const DISK: u64 = 8192;
const UNIQUE: Guid = Guid([7; 16]);
const LINUX: Guid =
    Guid::new(0x0fc63daf, 0x8483, 0x4772, [0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4]);

type Error_ = Error<stasis_store::block::BeyondEnd>;

fn linux(first: u64, last: u64) -> NewPartition<'static> {
    NewPartition { kind: LINUX, unique: UNIQUE, first, last, name: "boot" }
}

fn with_gpt() -> RamDisk {
    let mut disk = RamDisk::new(DISK);
    let partitions = [linux(2048, 4095), NewPartition::stasis(UNIQUE, Some(4096), DISK)];
    gpt::create(&mut disk, UNIQUE, &partitions).unwrap();
    disk
}

fn with_mbr(partitions: &[(u8, u32, u32)]) -> RamDisk {
    let mut disk = RamDisk::new(DISK);
    disk.bytes[..512].copy_from_slice(&Mbr::new(partitions).to_bytes());
    disk
}

fn find(mut disk: RamDisk) -> Result<(u64, u64), Error_> {
    partition::find(&mut disk).map(|found| (found.first(), found.sectors()))
}

/// Flips a bit of the byte at `at` in sector `lba`.
fn flip(disk: &mut RamDisk, lba: u64, at: usize) {
    disk.bytes[lba as usize * 512 + at] ^= 1;
}

const FOUND: (u64, u64) = (4096, DISK - 34 - 4096 + 1);

#[test]
fn the_type_of_a_stasis_partition_reads_as_documented() {
    let text = gpt::STASIS_TYPE.to_string();
    assert_eq!(text, "d77d842f-e184-404d-a3c7-44157384538c");
}

#[test]
fn a_stasis_partition_is_found_in_a_gpt() {
    assert_eq!(find(with_gpt()).unwrap(), FOUND);
}

#[test]
fn the_backup_is_used_when_the_primary_is_damaged() {
    for (lba, at) in [(1, 0), (1, 40), (1, 72), (2, 3), (2, 128 + 32), (33, 511)] {
        let mut disk = with_gpt();
        flip(&mut disk, lba, at);
        assert_eq!(find(disk).unwrap(), FOUND, "byte {at} of sector {lba}");
    }
    let mut disk = with_gpt();
    disk.bytes[..34 * 512].fill(0);
    assert_eq!(find(disk).unwrap(), FOUND);
}

#[test]
fn a_damaged_backup_does_not_matter_while_the_primary_is_whole() {
    let mut disk = with_gpt();
    disk.bytes[(DISK as usize - 33) * 512..].fill(0);
    assert_eq!(find(disk).unwrap(), FOUND);
}

#[test]
fn a_gpt_with_both_copies_damaged_is_named_so() {
    let mut disk = with_gpt();
    flip(&mut disk, 1, 30);
    flip(&mut disk, DISK - 33, 5);
    let error = find(disk).unwrap_err();
    assert_eq!(
        error,
        Error::Partition(PartitionFault::GptDamaged {
            primary: Fault::HeaderChecksum { lba: 1 },
            backup: Fault::EntriesChecksum { lba: DISK - 33 },
        })
    );
    assert_eq!(
        error.to_string(),
        "the disk's GPT is damaged: the GPT header in sector 1 has a wrong checksum, \
         and the GPT entries in sector 8159 have a wrong checksum"
    );
}

#[test]
fn a_stasis_partition_is_found_in_an_mbr() {
    let disk = with_mbr(&[(0x0c, 2048, 2048), (mbr::STASIS_TYPE, 4096, 1000)]);
    assert_eq!(find(disk).unwrap(), (4096, 1000));
}

#[test]
fn a_protective_mbr_is_no_hit() {
    let disk =
        with_mbr(&[(mbr::PROTECTIVE_TYPE, 1, DISK as u32 - 1), (mbr::STASIS_TYPE, 4096, 1000)]);
    assert!(matches!(find(disk), Err(Error::Partition(PartitionFault::GptDamaged { .. }))));
}

#[test]
fn the_gpt_that_an_mbr_replaced_is_not_looked_at() {
    let mut disk = with_gpt();
    disk.bytes[..512].copy_from_slice(&Mbr::new(&[(0x83, 2048, 100)]).to_bytes());
    assert_eq!(find(disk), Err(Error::Partition(PartitionFault::NoStasisPartition)));
}

#[test]
fn a_disk_without_partition_table_is_named_so() {
    for disk in [RamDisk::new(DISK), RamDisk::new(1), RamDisk::new(0)] {
        assert_eq!(find(disk), Err(Error::Partition(PartitionFault::NoTable)));
    }
    let mut noise = RamDisk::new(DISK);
    noise.bytes.fill(0x5a);
    let error = find(noise).unwrap_err();
    assert_eq!(error.to_string(), "the disk has no partition table (neither a GPT nor an MBR)");
}

#[test]
fn a_table_without_a_stasis_partition_is_named_so() {
    let mut disk = RamDisk::new(DISK);
    gpt::create(&mut disk, UNIQUE, &[linux(2048, 4095)]).unwrap();
    let error = find(disk).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the disk has no Stasis partition \
         (GPT type d77d842f-e184-404d-a3c7-44157384538c, MBR type 0x7f)"
    );
    let disk = with_mbr(&[(0x83, 2048, 100)]);
    assert_eq!(find(disk), Err(Error::Partition(PartitionFault::NoStasisPartition)));
}

#[test]
fn a_partition_beyond_the_disk_is_refused() {
    let disk = with_mbr(&[(mbr::STASIS_TYPE, 8000, 193)]);
    let error = find(disk).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the Stasis partition (sectors 8000..=8192) does not lie on the disk of 8192 sectors"
    );
    for (first, sectors) in [(u32::MAX, u32::MAX), (0, 100)] {
        let disk = with_mbr(&[(mbr::STASIS_TYPE, first, sectors)]);
        assert!(matches!(find(disk), Err(Error::Partition(PartitionFault::OutsideDisk { .. }))));
    }
}

/// Forges the primary header: 4 bytes at `at`, and the checksum put right. The backup is gone.
fn forged(at: usize, value: u32) -> RamDisk {
    let mut disk = with_gpt();
    disk.bytes[(DISK as usize - 1) * 512..].fill(0);
    let header = &mut disk.bytes[512..1024];
    header[at..at + 4].copy_from_slice(&value.to_le_bytes());
    header[16..20].fill(0);
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(&header[..92]);
    header[16..20].copy_from_slice(&crc.to_le_bytes());
    disk
}

#[test]
fn a_forged_gpt_header_costs_neither_time_nor_memory() {
    const ENTRIES_LBA: usize = 72;
    const ENTRY_COUNT: usize = 80;
    const ENTRY_SIZE: usize = 84;
    for (at, value) in [
        (ENTRY_COUNT, u32::MAX),
        (ENTRY_COUNT, 8193),
        (ENTRY_SIZE, 0),
        (ENTRY_SIZE, 127),
        (ENTRY_SIZE, 129),
        (ENTRY_SIZE, 384),
        (ENTRY_SIZE, u32::MAX),
        (ENTRIES_LBA, DISK as u32 - 31),
        (ENTRIES_LBA + 4, u32::MAX),
        (24, 2),
        (12, 93),
        (12, u32::MAX),
    ] {
        let error = find(forged(at, value)).unwrap_err();
        assert!(
            matches!(error, Error::Partition(PartitionFault::GptDamaged { .. })),
            "{value} at {at}: {error}"
        );
    }
}

#[test]
fn partitions_that_do_not_fit_are_not_made() {
    let mut disk = RamDisk::new(DISK);
    for (first, last) in [(33, 100), (100, DISK - 33), (100, 99)] {
        let error = gpt::create(&mut disk, UNIQUE, &[linux(first, last)]).unwrap_err();
        assert!(matches!(error, Error::Partition(PartitionFault::NoRoom { index: 0, .. })));
    }
    let overlapping = [linux(100, 200), linux(200, 300)];
    let error = gpt::create(&mut disk, UNIQUE, &overlapping).unwrap_err();
    assert_eq!(error.to_string(), "partitions 1 and 0 overlap");
    for sectors in 0..68 {
        gpt::create(&mut RamDisk::new(sectors), UNIQUE, &[]).unwrap_err();
    }
    assert_eq!(disk, RamDisk::new(DISK));
    assert_eq!(disk.block_count(), DISK);
}

#[test]
fn a_partition_that_shares_a_block_of_the_disk_is_refused_when_a_store_is_made() {
    let mut disk = RamDisk::new(2000);
    let partition = Partition::checked::<String>(1001, 1999, 2000).unwrap();
    assert!(!partition.is_aligned());
    let error = Store::format(&mut disk, partition).unwrap_err().to_string();
    assert!(
        error.starts_with("the Stasis partition begins at sector 1001, which is no multiple of 8"),
        "{error}"
    );
    assert!(disk == RamDisk::new(2000), "nothing was written");
}

/// Returns a disk whose MBR has these logical partitions, each in a link of its own: type byte,
/// first sector, number of sectors.
fn with_logical(partitions: &[(u8, u32, u32)]) -> RamDisk {
    const CHAIN: u32 = 2048;
    let mut disk = with_mbr(&[(0x83, 64, 100), (0x0f, CHAIN, 6000)]);
    for (n, &(kind, first, sectors)) in partitions.iter().enumerate() {
        let link = CHAIN + 64 * n as u32;
        let mut entries = vec![(kind, first - link, sectors)];
        if n + 1 < partitions.len() {
            entries.push((0x05, 64 * (n as u32 + 1), 6000));
        }
        disk.bytes[link as usize * 512..][..512].copy_from_slice(&Mbr::new(&entries).to_bytes());
    }
    disk
}

#[test]
fn a_logical_partition_is_found() {
    assert_eq!(find(with_logical(&[(0x7f, 4096, 1000)])).unwrap(), (4096, 1000));
    let third = [(0x83, 2100, 8), (0x82, 3000, 8), (0x7f, 4096, 1000)];
    assert_eq!(find(with_logical(&third)).unwrap(), (4096, 1000));
    // A primary one comes first.
    let mut disk = with_logical(&third);
    let primary = Mbr::new(&[(0x0f, 2048, 100), (0x7f, 5000, 500)]);
    disk.bytes[..512].copy_from_slice(&primary.to_bytes());
    assert_eq!(find(disk).unwrap(), (5000, 500));
}

#[test]
fn a_chain_of_logical_partitions_that_leads_nowhere_ends() {
    let none = |disk| {
        assert!(matches!(find(disk), Err(Error::Partition(PartitionFault::NoStasisPartition))))
    };
    none(with_logical(&[(0x83, 2100, 8)]));
    for (first, next) in [(2048, 0), (2048, u32::MAX), (u32::MAX, 0), (0, 0), (2048, 3000)] {
        // In a ring, off the disk, at sector 0, and into what is no table.
        let mut disk = with_mbr(&[(0x05, first, 6000)]);
        let link = Mbr::new(&[(0x83, 10, 10), (0x05, next, 6000)]);
        disk.bytes[2048 * 512..][..512].copy_from_slice(&link.to_bytes());
        none(disk);
    }
    // And one that lies beyond the disk is named.
    let beyond = find(with_logical(&[(0x7f, 8000, 1000)]));
    assert!(matches!(beyond, Err(Error::Partition(PartitionFault::OutsideDisk { .. }))));
}
