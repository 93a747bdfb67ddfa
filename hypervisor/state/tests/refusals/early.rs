//! What can be refused early is refused early: of a file that is legal, the registers are enough to
//! know.

use stasis_state::{
    GuestState, LoadError, PAGE_SIZE, RecordType, Routines, Source,
    memory::{Extent, Kind},
    read_if,
};
use zerocopy::IntoBytes;

use crate::{
    common::{edit::Edited, save, state},
    host, refused as is_refused, small,
};

/// Counts the bytes that are read.
struct Counted<'a> {
    file: &'a [u8],
    read: usize,
}

impl Source for Counted<'_> {
    type Error = &'static str;

    fn len(&self) -> u64 {
        self.file.len() as u64
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), &'static str> {
        let offset = offset as usize;
        buf.copy_from_slice(&self.file[offset..offset + buf.len()]);
        self.read += buf.len();
        Ok(())
    }
}

/// Reads a file for a host with a gibibyte. Returns why it is refused, and how many bytes were read
/// until then.
fn refused(file: &[u8]) -> (String, usize) {
    let mut source = Counted { file, read: 0 };
    let admits = &mut |guest: &GuestState| host().check(guest).map_err(|_| "there is no room");
    let error = read_if(&mut source, Routines::default(), admits, &mut |_, _| ()).unwrap_err();
    (error.to_string(), source.read)
}

#[test]
fn a_guest_that_the_host_can_not_have_is_refused_before_its_memory_is_read() {
    let memory = vec![1; 1024 * PAGE_SIZE];
    let mut guest = state(1, memory.len());
    *guest.distributor.dist_base = 0x0900_0000;
    *guest.distributor.cpu_base = 0x0901_0000;
    let (why, read) = refused(&save(&guest, &memory).0);
    assert_eq!(why, "there is no room");
    assert!(read <= 256 << 10, "{read} bytes were read of 4 MiB");
}

#[test]
fn a_ram_of_more_extents_than_the_host_has_pages_is_refused_before_they_are_read() {
    const EXTENTS: u32 = 1 << 19;
    let memory = vec![0; PAGE_SIZE];
    let file = Edited::from_file(&save(&state(1, memory.len()), &memory).0);
    let mut file = Edited::from_file(&file.into_older_file(0, &[(0x4000_0000, &memory)]));
    let ram_size = u64::from(EXTENTS) * PAGE_SIZE as u64;
    let guest = &mut file.record(RecordType::Guest, 0).body;
    let at = guest.windows(8).position(|bytes| bytes == (PAGE_SIZE as u64).to_le_bytes()).unwrap();
    guest[at..at + 8].copy_from_slice(&ram_size.to_le_bytes());
    let end = file.position(RecordType::End, 0);
    let rest = (1..EXTENTS).map(|page| {
        let address = 0x4000_0000 + u64::from(page) * PAGE_SIZE as u64;
        let extent = Extent { address, pages: 1, kind: Kind::Zero as u32 };
        let mut record = file.records[end - 1].clone();
        record.body = extent.as_bytes().to_vec();
        record
    });
    let rest: Vec<_> = rest.collect();
    file.records.splice(end..end, rest);
    let (why, read) = refused(&file.to_file());
    assert_eq!(why, "there is no room");
    assert!(read <= 256 << 10, "{read} bytes were read of 16 MiB");
}

#[test]
fn memory_in_front_of_the_registers_is_read_before_anybody_is_asked() {
    let page = [1; PAGE_SIZE];
    let file = Edited::from_file(&save(&state(1, PAGE_SIZE), &page).0);
    let mut file = Edited::from_file(&file.into_older_file(0, &[(0x4000_0000, &page)]));
    let memory = file.position(RecordType::Memory, 0);
    file.records[..=memory].rotate_right(1);
    let file = file.to_file();
    let mut source = Counted { file: &file, read: 0 };
    let admits = &mut |_: &GuestState| Err("it was asked too early, and lacks registers");
    read_if(&mut source, Routines::default(), admits, &mut |_, _| ()).unwrap();
}

#[test]
fn a_refusal_is_not_taken_for_a_fault_of_the_file() {
    let (file, _) = save(&state(1, PAGE_SIZE), &[1; PAGE_SIZE]);
    let mut source = Counted { file: &file, read: 0 };
    let admits = &mut |_: &GuestState| Err("not here");
    let error = read_if(&mut source, Routines::default(), admits, &mut |_, _| ()).unwrap_err();
    assert_eq!(error, LoadError::Refused("not here"));
}

#[test]
fn blocks_in_front_of_the_registers_are_refused() {
    let mut file = Edited::from_file(&small());
    let pad = file.position(RecordType::Pad, 0);
    let (first, memory) = (file.position(RecordType::VcpuCore, 0), file.records.len() - 1);
    file.records[first..memory].rotate_left(pad - first);
    is_refused(&file.to_file(), "there is no record VGIC_CPU, vCPU 0");
    let mut file = Edited::from_file(&small());
    file.insert(memory, RecordType::GuestPower as u16, 0, &[]);
    is_refused(&file.to_file(), "record 16 (GUEST_POWER) stands behind the guest's memory");
}
