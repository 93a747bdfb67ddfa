//! Requests of drivers that do nothing wrong.

use super::*;
use crate::virtio::block::{NotMoved, Outcome, Request, Transfer, Turn, What};
use crate::virtio::chain::Bytes;
use crate::virtio::volume::{Volume, VolumeError};

/// A volume in a vector, which notes what it is asked for.
#[derive(Default)]
pub struct Fake {
    pub bytes: Vec<u8>,
    pub log: Vec<&'static str>,
    /// Pieces that the device has taken.
    pub taken: usize,
    pub fails: Option<VolumeError>,
}

impl Fake {
    fn done(&mut self, what: &'static str) -> Result<(), VolumeError> {
        self.log.push(what);
        self.fails.map_or(Ok(()), Err)
    }
}

impl Volume for Fake {
    fn read(
        &mut self,
        offset: u64,
        len: u64,
        take: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(), VolumeError> {
        let mut pieces = self.bytes[offset as usize..][..len as usize].chunks(PIECE);
        self.taken += pieces.by_ref().take_while(|piece| take(piece)).count();
        self.done("read")
    }

    fn write(
        &mut self,
        offset: u64,
        len: u64,
        fill: &mut dyn FnMut(&mut [u8]) -> bool,
    ) -> Result<(), VolumeError> {
        let pieces = self.bytes[offset as usize..][..len as usize].chunks_mut(PIECE);
        for piece in pieces {
            // What an older request has left.
            let mut filled = vec![0xdb; piece.len()];
            if !fill(&mut filled) {
                break;
            }
            piece.copy_from_slice(&filled);
        }
        self.done("write")
    }

    fn flush(&mut self) -> Result<(), VolumeError> {
        self.done("flush")
    }

    fn discard(&mut self, _: u64, _: u64) -> Result<(), VolumeError> {
        self.done("discard")
    }

    fn write_zeroes(&mut self, offset: u64, len: u64) -> Result<(), VolumeError> {
        self.bytes[offset as usize..][..len as usize].fill(0);
        self.done("zeroes")
    }
}

/// Bytes of a piece of data that the volume moves at once.
const PIECE: usize = 4096;

/// The guest's side, without a lock.
struct Direct<'a>(&'a mut Driver, Request, Bytes);

impl Transfer for Direct<'_> {
    fn from_guest(&mut self, into: &mut [u8]) -> Result<(), NotMoved> {
        let (slots, memory) = self.0.memory();
        slots.disk_from_guest(&memory, &self.1, &mut self.2, into)
    }

    fn to_guest(&mut self, from: &[u8]) -> Result<(), NotMoved> {
        let (slots, mut memory) = self.0.memory();
        slots.disk_to_guest(&mut memory, &self.1, &mut self.2, from)
    }
}

const SECTORS: u64 = 256;

pub fn disk() -> Driver {
    Driver::of(&[Fitting::Disk { volume: "root", sectors: SECTORS }])
}

pub fn volume() -> Fake {
    let bytes = (0..SECTORS * 512).map(|n| (n / 512 + n % 7) as u8).collect();
    Fake { bytes, ..Fake::default() }
}

const HEADER: u64 = BUFFERS - 0x1000;
pub const STATUS: u64 = BUFFERS - 0x800;

/// Publishes a request of type `kind` about `sector`, with data in the buffers `data`.
pub fn ask(driver: &mut Driver, kind: u32, sector: u64, data: &[(u64, u32)], flags: u16) {
    let mut header = [0; 16];
    header[..4].copy_from_slice(&kind.to_le_bytes());
    header[8..].copy_from_slice(&sector.to_le_bytes());
    driver.store(HEADER, &header);
    driver.store(STATUS, &[0xaa]);
    let table = DESC + driver.rings();
    driver.describe(table, 0, (HEADER, 16), NEXT);
    let mut n = 1;
    for piece in data {
        driver.describe(table, n, *piece, NEXT | flags);
        n += 1;
    }
    driver.describe(table, n, (STATUS, 1), WRITE);
    driver.publish(0);
}

pub fn take(driver: &mut Driver) -> Option<Request> {
    let (slots, memory) = driver.memory();
    slots.disk_request(&memory).and_then(|(_, request)| request)
}

/// Does a request's next turn, and completes it if nothing is left.
pub fn turn(driver: &mut Driver, request: &Request, volume: &mut Fake) -> Turn {
    let mut transfer = Direct(driver, request.clone(), request.data());
    let turn = request.perform(volume, &mut transfer);
    let data = transfer.2;
    let (slots, mut memory) = driver.memory();
    match turn {
        Turn::Ended(outcome) => slots.disk_done(&mut memory, request, outcome),
        Turn::Part(done) => slots.disk_goes_on(request, done, data),
        Turn::Starved => {}
    }
    turn
}

/// Does a request that takes one turn.
pub fn finish(driver: &mut Driver, request: &Request, volume: &mut Fake) -> Outcome {
    match turn(driver, request, volume) {
        Turn::Ended(outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

pub fn status(driver: &Driver) -> u8 {
    driver.load::<1>(STATUS)[0]
}

#[test]
fn the_entropy_device_fills_what_it_is_given_256_bytes_at_the_most() {
    let mut driver = Driver::of(&[Fitting::Entropy]);
    driver.describe(DESC, 0, (BUFFERS, 3), WRITE | NEXT);
    driver.describe(DESC, 1, (BUFFERS + 0x100, 1000), WRITE);
    driver.publish(0);
    driver.serve(Some(1));
    assert_eq!(driver.used(), (1, 0, 256));
    assert_eq!(driver.load(BUFFERS), [1, 2, 3, 0]);
    assert_eq!(driver.load(BUFFERS + 0x100), [4, 5]);
    assert_eq!(driver.load(BUFFERS + 0x100 + 252), [0, 0], "256 bytes are not 0 alone");
}

#[test]
fn a_request_that_no_source_serves_waits_for_one() {
    let mut driver = Driver::of(&[Fitting::Entropy]);
    driver.describe(DESC, 0, (BUFFERS, 8), WRITE);
    driver.publish(0);
    driver.serve(None);
    assert_eq!(driver.used().0, 0);
    assert!(!driver.slots.has_work());
    // After a resume each queue is looked at.
    driver.slots = Slots::restored(driver.slots.record().clone(), 0);
    driver.serve(Some(1));
    assert_eq!(driver.used(), (1, 0, 8));
}

#[test]
fn a_disk_reads_into_many_buffers_and_writes_from_them() {
    let (mut driver, mut volume) = (disk(), volume());
    let pieces = [(BUFFERS, 1000), (BUFFERS + 0x2000, 24), (BUFFERS + 0x4000, 8192 - 1024)];
    ask(&mut driver, 0, 3, &pieces, WRITE);
    let request = take(&mut driver).unwrap();
    assert_eq!(request.what(), What::Read { offset: 3 * 512, len: 8192 });
    assert_eq!(finish(&mut driver, &request, &mut volume), Outcome::Done);
    assert_eq!(driver.used(), (1, 0, 8193));
    assert_eq!(status(&driver), 0);
    assert_eq!(driver.load::<1000>(BUFFERS)[..], volume.bytes[1536..2536]);
    assert_eq!(driver.load::<24>(BUFFERS + 0x2000)[..], volume.bytes[2536..2560]);
    assert_eq!(driver.load::<7168>(BUFFERS + 0x4000)[..], volume.bytes[2560..9728]);

    driver.store(BUFFERS, &[0x5a; 1000]);
    ask(&mut driver, 1, 100, &pieces, 0);
    let request = take(&mut driver).unwrap();
    assert_eq!(finish(&mut driver, &request, &mut volume), Outcome::Done);
    assert_eq!(driver.used(), (2, 0, 1));
    assert_eq!(volume.bytes[51200..52200], [0x5a; 1000]);
    assert_eq!(volume.bytes[52200..52224], volume.bytes[2536..2560]);
    assert_eq!(volume.log, ["read", "write"]);
}

#[test]
fn a_write_that_has_a_buffer_in_no_ram_leaves_the_disk_as_it_was_from_there_on() {
    let (mut driver, mut volume) = (disk(), volume());
    let before = volume.bytes.clone();
    driver.store(BUFFERS, &[0x5a; 2 * PIECE]);
    ask(&mut driver, 1, 8, &[(BUFFERS, 2 * PIECE as u32), (0, PIECE as u32)], 0);
    let request = take(&mut driver).unwrap();
    assert_eq!(finish(&mut driver, &request, &mut volume), Outcome::Error);
    assert_eq!(status(&driver), 1);
    let written = 8 * 512..8 * 512 + 2 * PIECE;
    assert!(volume.bytes[written.clone()] == [0x5a; 2 * PIECE]);
    assert!(volume.bytes[written.end..] == before[written.end..]);
}

#[test]
fn a_table_of_indirect_descriptors_is_a_request_like_others() {
    let (mut driver, mut volume) = (disk(), volume());
    ask(&mut driver, 0, 1, &[(BUFFERS, 512)], WRITE);
    take(&mut driver);
    let table = BUFFERS + 0x8000;
    driver.describe(table, 0, (HEADER, 16), NEXT);
    driver.describe(table, 1, (BUFFERS, 512), NEXT | WRITE);
    driver.describe(table, 2, (STATUS, 1), WRITE);
    driver.describe(DESC, 0, (table, 48), INDIRECT);
    let request = take(&mut driver).unwrap();
    assert_eq!(finish(&mut driver, &request, &mut volume), Outcome::Done);
    assert_eq!(driver.load::<512>(BUFFERS)[..], volume.bytes[512..1024]);
}

#[test]
fn requests_beyond_the_end_and_unknown_ones_are_refused() {
    for (kind, sector, len, flags, outcome) in [
        (0, SECTORS, 512, WRITE, Outcome::Error),
        (0, SECTORS - 1, 1024, WRITE, Outcome::Error),
        (1, u64::MAX, 512, 0, Outcome::Error),
        (1, u64::MAX / 512, 512, 0, Outcome::Error),
        (0, 0, 511, WRITE, Outcome::Error),
        (2, 0, 512, WRITE, Outcome::Unsupported),
        (u32::MAX, 0, 512, WRITE, Outcome::Unsupported),
        (11, 0, 8, 0, Outcome::Error),
    ] {
        let (mut driver, mut volume) = (disk(), volume());
        ask(&mut driver, kind, sector, &[(BUFFERS, len)], flags);
        let request = take(&mut driver).unwrap();
        assert_eq!(finish(&mut driver, &request, &mut volume), outcome, "{kind} {sector}");
        assert_eq!(volume.log, [""; 0], "the volume is not asked");
        assert_eq!((status(&driver), driver.used()), (outcome as u8, (1, 0, 1)));
    }
}

#[test]
fn discard_and_write_zeroes_take_one_range() {
    let (mut driver, mut volume) = (disk(), volume());
    for (kind, count, range_flags, outcome) in [
        (11, 8, 0, Outcome::Done),
        (13, 8, 1, Outcome::Done),
        (13, 8, 2, Outcome::Unsupported),
        (11, 8, 1, Outcome::Unsupported),
        (13, 300, 0, Outcome::Error),
        (13, u32::MAX, 0, Outcome::Error),
    ] {
        let mut range = [0; 16];
        range[..8].copy_from_slice(&16u64.to_le_bytes());
        range[8..12].copy_from_slice(&u32::to_le_bytes(count));
        range[12..].copy_from_slice(&u32::to_le_bytes(range_flags));
        driver.store(BUFFERS, &range);
        ask(&mut driver, kind, 0, &[(BUFFERS, 16)], 0);
        let request = take(&mut driver).unwrap();
        assert_eq!(finish(&mut driver, &request, &mut volume), outcome, "{kind} {count}");
    }
    assert_eq!(volume.bytes[16 * 512..24 * 512], [0; 4096]);
    assert_eq!(volume.log, ["discard", "zeroes"]);
}

#[test]
fn a_driver_without_flush_has_each_write_flushed() {
    let (mut driver, mut volume) = (disk(), volume());
    driver.write(0x70, 0);
    driver.write(0x24, 1);
    driver.write(0x20, 1);
    for status in [2, 0xa] {
        driver.write(0x70, status);
    }
    driver.write(0x38, NUM.into());
    for (offset, address) in [(0x80, DESC), (0x90, AVAIL), (0xa0, USED)] {
        driver.write(offset, address as u32);
    }
    driver.write(0x44, 1);
    driver.write(0x70, 0xe);
    ask(&mut driver, 1, 0, &[(BUFFERS, 512)], 0);
    let request = take(&mut driver).unwrap();
    finish(&mut driver, &request, &mut volume);
    assert_eq!(volume.log, ["write", "flush"]);
}

#[test]
fn the_serial_number_is_the_volumes_name() {
    let (mut driver, mut volume) = (disk(), volume());
    driver.store(BUFFERS, &[0xff; 20]);
    ask(&mut driver, 8, 0, &[(BUFFERS, 20)], WRITE);
    let request = take(&mut driver).unwrap();
    finish(&mut driver, &request, &mut volume);
    assert_eq!(&driver.load::<20>(BUFFERS), b"root\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
}

#[test]
fn a_request_with_more_data_than_the_guest_has_ram_is_refused() {
    const HALF: u32 = (RAM / 2) as u32;
    let sectors = 4 * RAM as u64 / 512;
    for (kind, flags) in [(0, WRITE), (1, 0)] {
        let mut driver = Driver::of(&[Fitting::Disk { volume: "root", sectors }]);
        ask(&mut driver, kind, 0, &[(RAM_BASE, HALF), (RAM_BASE, HALF)], flags);
        let whole = take(&mut driver).unwrap().what();
        assert!(matches!(whole, What::Read { .. } | What::Write { .. }), "{whole:?}");
        let mut driver = Driver::of(&[Fitting::Disk { volume: "root", sectors }]);
        ask(&mut driver, kind, 0, &[(RAM_BASE, HALF), (RAM_BASE, HALF), (RAM_BASE, 512)], flags);
        assert_eq!(take(&mut driver).unwrap().what(), What::Refuse(Outcome::Error));
    }
}

#[test]
fn a_volume_that_fails_gives_an_io_error() {
    let (mut driver, mut volume) = (disk(), volume());
    volume.fails = Some(VolumeError::NoRoom);
    ask(&mut driver, 1, 0, &[(BUFFERS, 512)], 0);
    let request = take(&mut driver).unwrap();
    assert_eq!(finish(&mut driver, &request, &mut volume), Outcome::Error);
    assert_eq!(status(&driver), 1);
}

#[test]
fn a_request_whose_device_was_reset_meanwhile_is_neither_done_nor_completed() {
    let (mut driver, mut volume) = (disk(), volume());
    let data = [(BUFFERS, 2 * PIECE as u32)];
    ask(&mut driver, 0, 0, &data, WRITE);
    let request = take(&mut driver).unwrap();
    driver.set_up();
    assert_eq!(finish(&mut driver, &request, &mut volume), Outcome::Error);
    assert_eq!(volume.taken, 0, "nobody wants the first piece, so there is no second one");
    assert_eq!((driver.used().0, status(&driver)), (0, 0xaa));
    assert_eq!(driver.load(BUFFERS), [0; 4]);
}

#[test]
fn a_request_that_was_not_completed_is_taken_again_after_a_resume() {
    let (mut driver, mut volume) = (disk(), volume());
    ask(&mut driver, 1, 0, &[(BUFFERS, 512)], 0);
    let first = take(&mut driver).unwrap();
    let record = driver.slots.record().clone();
    // The request was done on the disk, but the instant was before its completion.
    finish(&mut driver, &first, &mut volume);
    driver.store(USED, &[0; 4]);
    driver.slots = Slots::restored(record, 0);
    assert!(driver.slots.has_disk_work());
    let again = take(&mut driver).unwrap();
    assert_eq!(again.what(), first.what());
    assert_eq!(finish(&mut driver, &again, &mut volume), Outcome::Done);
    assert_eq!(driver.used(), (1, 0, 1));
    assert!(take(&mut driver).is_none(), "it is done once");
}

#[test]
fn a_driver_that_wants_no_interrupt_gets_none() {
    let (mut driver, mut volume) = (disk(), volume());
    driver.store(AVAIL, &[1, 0]);
    ask(&mut driver, 4, 0, &[], 0);
    let request = take(&mut driver).unwrap();
    finish(&mut driver, &request, &mut volume);
    assert_eq!((driver.read(0x60), driver.used().0), (0, 1));
}
