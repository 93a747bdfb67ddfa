//! Bytes as a checkpoint. What is read of it is sound, or it is refused; its memory is read in as
//! much room as it takes.

use stasis_state::device::SharedMemory;
use stasis_state::header::{Header, MAGIC};
use stasis_state::routines::crc32c;
use stasis_state::{
    Error, Extents, Index, LoadError, RecordHeader, RecordType, Routines, Target, invariants,
};

/// RAM that is worth the time to fill it.
const SMALL_RAM: u64 = 4 << 20;

/// Reads bytes as they are, and with all checksums right.
pub fn run(data: &[u8]) {
    read(data);
    read(&sign(data));
}

/// Reads bytes as a checkpoint: its RAM's size if they are one.
pub fn read(data: &[u8]) -> Option<u64> {
    let (mut file, routines) = (data, Routines::default());
    let checkpoint = stasis_state::read(&mut file, routines, &mut |_, _| ()).ok()?;
    let version = checkpoint.header.version();
    assert!(invariants::check_file(&checkpoint.state.records(), version).is_ok());
    let size = *checkpoint.state.guest.ram_size;
    let shared = checkpoint.state.devices.shared.iter().flat_map(SharedMemory::ranges);
    let shared: u64 = shared.map(|range| range.end - range.start).sum();
    let (mut next, mut covered) = (0, 0);
    let again = "it was read before";
    let mut extents = Extents::new(&mut file, &checkpoint, routines).expect(again);
    while let Some(extent) = extents.read_next().expect(again) {
        assert!(extent.address >= next);
        next = extent.address + extent.memory_len();
        covered += extent.memory_len();
    }
    match Index::open(&mut file, routines) {
        Ok((opened, index)) => {
            assert_eq!(opened.state, checkpoint.state);
            for entry in index.entries() {
                assert!(index.piece(&mut file, entry.address).expect(again).is_some());
            }
        }
        // Its memory is in extents.
        Err(LoadError::Format(Error::NoDirectory)) => {}
        Err(error) => panic!("{error}: both readers take the same files"),
    }
    // Of memory in blocks, those without content are left out.
    assert!(covered <= size + shared);
    Some(size)
}

/// Reads a checkpoint with its memory, where that is small.
pub fn read_with_memory(data: &[u8]) {
    let (mut file, routines) = (data, Routines::default());
    let Ok(checkpoint) = stasis_state::read(&mut file, routines, &mut |_, _| ()) else { return };
    let size = *checkpoint.state.guest.ram_size;
    if size <= SMALL_RAM {
        let mut ram = vec![0xa5; size as usize];
        let target = Target { ram: &mut ram, shared: vec![] };
        stasis_state::read_memory(&mut file, &checkpoint, target, routines, &mut |_, _| ())
            .expect("it was read before");
    }
}

/// Returns the bytes with a header that fits them, and checksums that are right as far as there are
/// records.
pub fn sign(data: &[u8]) -> Vec<u8> {
    let mut file = data.to_vec();
    let len = file.len();
    if len < Header::LEN {
        return file;
    }
    file[..8].copy_from_slice(&MAGIC);
    file[32..40].copy_from_slice(&(len as u64).to_le_bytes());
    let header_len = number(&file, 12).clamp(Header::LEN, len);
    file[44..48].fill(0);
    let crc = crc32c(0, &file[..header_len]);
    file[44..48].copy_from_slice(&crc.to_le_bytes());
    let mut at = header_len;
    while at + RecordHeader::LEN <= len {
        let body = at + RecordHeader::LEN;
        let end = body.saturating_add(number(&file, at + 4).next_multiple_of(8));
        if end > len {
            break;
        }
        let head = crc32c(0, &file[at..at + RecordHeader::COVERED]);
        let is_pages = u16::from_le_bytes([file[at], file[at + 1]]) == RecordType::RamPages as u16;
        let crc = if is_pages { head } else { crc32c(head, &file[body..end]) };
        file[at + 12..body].copy_from_slice(&crc.to_le_bytes());
        at = end;
    }
    file
}

fn number(file: &[u8], at: usize) -> usize {
    u32::from_le_bytes([file[at], file[at + 1], file[at + 2], file[at + 3]]) as usize
}
