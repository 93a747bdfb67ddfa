//! Requests of disks that take several turns.

use super::ahead::{alone, ask_to_read, is_served, read};
use super::requests::{Fake, STATUS, ask, disk, finish, status, take, turn, volume};
use super::*;
use crate::virtio::block::{NotMoved, Outcome, Request, Transfer, Turn};

/// Bytes of a turn.
const TURN: usize = 1 << 20;
/// Bytes of the request, which takes three turns.
const LARGE: usize = 2 * TURN + 4096;
/// Bytes of the RAM of a guest that makes one.
const LARGE_RAM: usize = 4 << 20;
const SECTORS: u64 = LARGE as u64 / 512;

fn driver_of(sectors: u64) -> Driver {
    let mut driver = Driver::of(&[Fitting::Disk { volume: "root", sectors }]);
    driver.moment.ram = FakeRam::new(LARGE_RAM);
    driver.set_up();
    driver
}

fn large() -> (Driver, Fake) {
    let bytes = (0..LARGE).map(|n| (n / 4096 + n % 7) as u8).collect();
    (driver_of(SECTORS), Fake { bytes, ..Fake::default() })
}

/// Publishes a request about the whole disk, whose data stand in two buffers.
fn ask_large(driver: &mut Driver, kind: u32, flags: u16) {
    let (first, second) = (TURN as u32 + 512, (LARGE - TURN - 512) as u32);
    let data = [(BUFFERS, first), (BUFFERS + u64::from(first), second)];
    ask(driver, kind, 0, &data, flags);
}

fn bytes(driver: &Driver) -> Vec<u8> {
    let mut bytes = vec![0; LARGE];
    driver.moment.ram.read((BUFFERS - RAM_BASE) as usize, &mut bytes).unwrap();
    bytes
}

fn next_turn(driver: &mut Driver, volume: &mut Fake) -> Turn {
    let request = take(driver).expect("a request is left");
    turn(driver, &request, volume)
}

#[test]
fn another_guest_is_served_between_two_turns_of_a_large_request() {
    let ((mut large, mut large_volume), (mut small, mut small_volume)) =
        (large(), (disk(), volume()));
    ask_large(&mut large, 0, WRITE);
    ask(&mut small, 0, 3, &[(BUFFERS, 4096)], WRITE);
    assert_eq!(next_turn(&mut large, &mut large_volume), Turn::Part(TURN as u64));
    assert_eq!(next_turn(&mut small, &mut small_volume), Turn::Ended(Outcome::Done));
    assert_eq!((large.used().0, small.used().0), (0, 1));
    assert_eq!(next_turn(&mut large, &mut large_volume), Turn::Part(2 * TURN as u64));
    assert_eq!((large.used().0, status(&large)), (0, 0xaa), "the driver is told at the end");
    assert_eq!(next_turn(&mut large, &mut large_volume), Turn::Ended(Outcome::Done));
    assert_eq!((large.used(), status(&large)), ((1, 0, LARGE as u32 + 1), 0));
    assert_eq!(bytes(&large), large_volume.bytes);
    assert!(take(&mut large).is_none());
}

#[test]
fn a_large_write_is_whole_and_is_flushed_behind_its_last_turn() {
    let (mut driver, mut volume) = large();
    let written: Vec<u8> = (0..LARGE).map(|n| (n / 512 * 3 + n % 11) as u8).collect();
    driver.moment.ram.write((BUFFERS - RAM_BASE) as usize, &written).unwrap();
    // Without FLUSH.
    driver.slots.record.driver_features[0] = VERSION_1;
    ask_large(&mut driver, 1, 0);
    while !matches!(next_turn(&mut driver, &mut volume), Turn::Ended(Outcome::Done)) {}
    assert_eq!(volume.log, ["write", "write", "write", "flush"]);
    assert!(volume.bytes == written);
    assert_eq!(driver.used(), (1, 0, 1));
}

#[test]
fn a_large_discard_takes_turns() {
    let mut driver = driver_of(1 << 22);
    let (mut volume, mut range) = (Fake::default(), [0; 16]);
    range[8..12].copy_from_slice(&(3_u32 << 17).to_le_bytes());
    driver.store(BUFFERS, &range);
    ask(&mut driver, 11, 0, &[(BUFFERS, 16)], 0);
    for done in [64 << 20, 128 << 20] {
        assert_eq!(next_turn(&mut driver, &mut volume), Turn::Part(done));
    }
    assert_eq!(next_turn(&mut driver, &mut volume), Turn::Ended(Outcome::Done));
    assert_eq!(volume.log, ["discard"; 3]);
}

#[test]
fn a_reset_between_two_turns_ends_a_request() {
    let (mut driver, mut volume) = large();
    ask_large(&mut driver, 0, WRITE);
    next_turn(&mut driver, &mut volume);
    let begun = take(&mut driver).unwrap();
    driver.set_up();
    assert!(take(&mut driver).is_none());
    // Whoever was at it meanwhile changes nothing.
    assert_eq!(turn(&mut driver, &begun, &mut volume), Turn::Ended(Outcome::Error));
    driver.slots.disk_goes_on(&begun, 2 * TURN as u64, begun.data());
    ask(&mut driver, 0, 0, &[(BUFFERS, 512)], WRITE);
    let request = take(&mut driver).unwrap();
    assert_eq!(finish(&mut driver, &request, &mut volume), Outcome::Done);
    assert_eq!(driver.used(), (1, 0, 513));
}

#[test]
fn a_request_that_was_begun_at_the_instant_is_done_whole_after_the_resume_and_once() {
    let (mut driver, mut volume) = large();
    ask_large(&mut driver, 0, WRITE);
    next_turn(&mut driver, &mut volume);
    let record = driver.slots.record().clone();
    // The guest goes on in its place: its slots have had no reset, as those of before.
    driver.slots = Slots::restored(record.clone(), 0);
    driver.store(BUFFERS, &[0; 512]);
    assert_eq!(next_turn(&mut driver, &mut volume), Turn::Part(TURN as u64));
    while next_turn(&mut driver, &mut volume) != Turn::Ended(Outcome::Done) {}
    assert!(bytes(&driver) == volume.bytes);
    assert_eq!(driver.used(), (1, 0, LARGE as u32 + 1));
    assert!(take(&mut driver).is_none(), "it is done once");
    assert_eq!(record.queue_next_avail[0], 0, "the checkpoint has it as not done");
}

/// A guest for which no frame is free.
struct Starved;

impl Transfer for Starved {
    fn from_guest(&mut self, _: &mut [u8]) -> Result<(), NotMoved> {
        Err(NotMoved::NotYet)
    }

    fn to_guest(&mut self, _: &[u8]) -> Result<(), NotMoved> {
        Err(NotMoved::NotYet)
    }
}

#[test]
fn a_turn_that_lacks_a_frame_is_done_again_and_those_before_are_not() {
    let (mut driver, mut volume) = large();
    ask_large(&mut driver, 0, WRITE);
    next_turn(&mut driver, &mut volume);
    let request: Request = take(&mut driver).unwrap();
    assert_eq!(request.perform(&mut volume, &mut Starved), Turn::Starved);
    driver.store(BUFFERS, &[0xee; 512]);
    assert_eq!(next_turn(&mut driver, &mut volume), Turn::Part(2 * TURN as u64));
    assert_eq!(next_turn(&mut driver, &mut volume), Turn::Ended(Outcome::Done));
    assert_eq!(driver.load(BUFFERS), [0xee; 512], "the first turn is not done again");
    assert!(bytes(&driver)[512..] == volume.bytes[512..]);
    assert_eq!(driver.load::<1>(STATUS), [0]);
}

#[test]
fn a_read_of_what_was_read_ahead_of_one_disk_leaves_the_turns_of_another_as_they_are() {
    let _alone = alone();
    let fittings = [("root", SECTORS), ("data", 256)]
        .map(|(volume, sectors)| Fitting::Disk { volume, sectors });
    let mut driver = Driver::of(&fittings);
    driver.moment.ram = FakeRam::new(LARGE_RAM);
    driver.set_up();
    assert!(take(&mut driver).is_none());
    let (_, mut root) = large();
    let mut data = volume();
    driver.slot = 1;
    driver.set_up();
    read(&mut driver, &mut data, 8);
    assert_ne!(read(&mut driver, &mut data, 16), 0);
    let behind = driver.published;
    (driver.slot, driver.published) = (0, 0);
    ask_large(&mut driver, 0, WRITE);
    assert_eq!(next_turn(&mut driver, &mut root), Turn::Part(TURN as u64));
    // Below the part of the buffers that comes next.
    (driver.slot, driver.published) = (1, behind);
    ask_to_read(&mut driver, 24);
    assert!(is_served(&mut driver), "nobody is at a request of this disk");
    assert_eq!((driver.used(), driver.read(0x60)), ((3, 0, 4097), 1));
    assert!(driver.load::<4096>(BUFFERS)[..] == data.bytes[24 * 512..32 * 512]);
    assert!(!is_served(&mut driver));
    driver.slot = 0;
    assert_eq!((driver.used().0, driver.read(0x60)), (0, 0));
    assert_eq!(next_turn(&mut driver, &mut root), Turn::Part(2 * TURN as u64));
    assert_eq!(next_turn(&mut driver, &mut root), Turn::Ended(Outcome::Done));
    assert_eq!((driver.used(), status(&driver)), ((1, 0, LARGE as u32 + 1), 0));
    // The other disk's read has overwritten what the first turn had read.
    assert!(bytes(&driver)[4096..] == root.bytes[4096..]);
    assert!(take(&mut driver).is_none());
}
