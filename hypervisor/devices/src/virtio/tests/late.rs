//! Small writes of a disk, one behind the other: what is completed before the volume has it.

use std::sync::Arc;

use super::ahead::{alone, ask_to_read, is_served, read};
use super::requests::{Fake, ask, disk, finish, status, take, volume};
use super::*;
use crate::virtio::ahead::SMALL;
use crate::virtio::block::{Outcome, SECTOR, What};
use crate::virtio::late::{Late, MOST_LATE};
use crate::virtio::volume::Volume;

/// Sectors of a write.
const COUNT: u64 = 8;
const BYTES: usize = (COUNT * SECTOR) as usize;
const WRITES: u32 = 1;

/// Publishes a write of bytes that the sector tells.
pub fn ask_to_write(driver: &mut Driver, sector: u64) {
    driver.store(BUFFERS, &[sector as u8; BYTES]);
    ask(driver, WRITES, sector, &[(BUFFERS, BYTES as u32)], 0);
}

/// Does a request as whoever serves the disk does, who lets late writes begin. Returns their place,
/// if they have.
fn serve(driver: &mut Driver, volume: &mut Fake) -> Option<Arc<Late>> {
    let request = take(driver).unwrap();
    if !request.begins_late() {
        assert_eq!(finish(driver, &request, volume), Outcome::Done);
        return None;
    }
    let late = driver.slots.begin_late(&request).unwrap();
    write_kept(&late, volume);
    let What::Write { offset, .. } = request.what() else { unreachable!() };
    late.begin(offset);
    let (slots, mut memory) = driver.memory();
    assert!(slots.disk_late(&mut memory, &request));
    Some(late)
}

/// Writes what is kept, as a store does.
fn write_kept(late: &Late, volume: &mut Fake) {
    let (offset, len, buffer) = late.take();
    let mut rest = &buffer[..len];
    let fill = &mut |piece: &mut [u8]| {
        let (now, later) = rest.split_at(piece.len());
        piece.copy_from_slice(now);
        rest = later;
        true
    };
    volume.write(offset, len as u64, fill).unwrap();
    late.put_back((offset, 0, buffer));
}

/// Returns a disk that has written from sector 8 to 24, the second half of that late.
pub fn begun() -> (Driver, Fake, Arc<Late>) {
    let (mut driver, mut volume) = (disk(), volume());
    ask_to_write(&mut driver, 8);
    assert!(!is_served(&mut driver));
    assert!(serve(&mut driver, &mut volume).is_none(), "nobody knows what comes next");
    ask_to_write(&mut driver, 16);
    assert!(!is_served(&mut driver));
    let late = serve(&mut driver, &mut volume).unwrap();
    (driver, volume, late)
}

#[test]
fn writes_that_follow_each_other_are_completed_at_once_until_there_is_no_more_place() {
    let _alone = alone();
    let (mut driver, mut volume, late) = begun();
    let end = 16 + MOST_LATE as u64 / SECTOR;
    for (n, sector) in (24..end).step_by(COUNT as usize).enumerate() {
        ask_to_write(&mut driver, sector);
        assert!(is_served(&mut driver) && !driver.slots.has_work(), "{sector}");
        assert_eq!(driver.used(), (n as u16 + 3, 0, 1));
        assert_eq!((status(&driver), driver.read(0x60)), (0, 1));
    }
    assert_eq!(volume.log, ["write", "write"], "the second has found nothing that was kept");
    ask_to_write(&mut driver, end);
    assert!(!is_served(&mut driver), "there is no place");
    let again = serve(&mut driver, &mut volume).unwrap();
    assert!(Arc::ptr_eq(&late, &again), "the place is used again");
    for sector in (8..end).step_by(COUNT as usize) {
        let from = (sector * SECTOR) as usize;
        assert!(volume.bytes[from..from + BYTES] == [sector as u8; BYTES], "{sector}");
    }
    assert_ne!(volume.bytes[(end * SECTOR) as usize], end as u8, "it is late");
    ask_to_write(&mut driver, end + COUNT);
    assert!(is_served(&mut driver));
}

#[test]
fn what_is_kept_can_be_written_again() {
    let _alone = alone();
    let (mut driver, mut volume, late) = begun();
    ask_to_write(&mut driver, 24);
    assert!(is_served(&mut driver));
    driver.store(BUFFERS, &[0xee; BYTES]);
    ask(&mut driver, WRITES, 20, &[(BUFFERS, BYTES as u32)], 0);
    assert!(is_served(&mut driver));
    write_kept(&late, &mut volume);
    let (from, bytes) = (20 * SECTOR as usize, &volume.bytes);
    assert!(bytes[from - 2048..from] == [16; 2048] && bytes[from + BYTES..][..2048] == [24; 2048]);
    assert!(bytes[from..from + BYTES] == [0xee; BYTES]);
}

#[test]
fn a_large_write_and_one_elsewhere_wait_for_whoever_serves_the_disk() {
    let _alone = alone();
    let large = SMALL as u32 + SECTOR as u32;
    for (sector, len) in [(24, large), (25, 512), (15, 512)] {
        let (mut driver, mut volume, _) = begun();
        ask(&mut driver, WRITES, sector, &[(BUFFERS, len)], 0);
        assert!(!is_served(&mut driver), "{sector}");
        assert!(serve(&mut driver, &mut volume).is_none());
        ask_to_write(&mut driver, 24);
        assert!(!is_served(&mut driver), "no place is kept for it");
    }
}

#[test]
fn a_driver_without_flush_has_no_late_writes() {
    let _alone = alone();
    let (mut driver, mut volume) = (disk(), volume());
    driver.slots.record.driver_features[0] = VERSION_1;
    for sector in [8, 16, 24] {
        ask_to_write(&mut driver, sector);
        assert!(!is_served(&mut driver) && serve(&mut driver, &mut volume).is_none());
    }
    assert_eq!(volume.log, ["write", "flush"].repeat(3));
}

#[test]
fn writes_wait_once_late_ones_have_ended_and_behind_one_that_was_taken() {
    let _alone = alone();
    let (mut driver, mut volume, late) = begun();
    const FLUSH: u32 = 4;
    ask(&mut driver, FLUSH, 0, &[], 0);
    let flush = take(&mut driver).unwrap();
    ask_to_write(&mut driver, 24);
    assert!(!is_served(&mut driver), "the flush has not ended");
    assert_eq!(finish(&mut driver, &flush, &mut volume), Outcome::Done);
    assert!(!is_served(&mut driver));
    let (mut driver, _, other) = begun();
    driver.slots.end_late();
    assert!(other.end() && late.end(), "they are kept");
    ask_to_write(&mut driver, 24);
    assert!(!is_served(&mut driver));
}

#[test]
fn a_reset_and_a_copy_of_the_devices_end_late_writes() {
    let _alone = alone();
    let reset = |driver: &mut Driver| driver.set_up();
    let another_queue = |driver: &mut Driver| {
        driver.write(0x44, 0);
        driver.write(0x44, 1);
        driver.published = 0;
        driver.store(AVAIL, &[0; 4]);
    };
    let copy = |driver: &mut Driver| driver.slots = driver.slots.clone();
    for change in [reset, another_queue, copy] {
        let (mut driver, _, late) = begun();
        change(&mut driver);
        ask_to_write(&mut driver, 24);
        assert!(!is_served(&mut driver));
        assert!(late.end(), "what was completed is kept");
    }
}

#[test]
fn a_late_write_drops_what_was_read_ahead_and_what_is_being_read() {
    let _alone = alone();
    let (mut driver, mut volume, late) = begun();
    write_kept(&late, &mut volume);
    late.begin(24 * SECTOR);
    // Whoever serves the disk reads ahead, and the guest writes there meanwhile.
    driver.slots.ahead[0].note_read(0, 16 * SECTOR, 256 * SECTOR);
    ask_to_read(&mut driver, 16);
    let request = take(&mut driver).unwrap();
    assert!(!request.ahead().is_empty());
    assert_eq!(finish(&mut driver, &request, &mut volume), Outcome::Done);
    driver.slots.writes[0] = late_writes(&late);
    let mut buffer = driver.slots.begin_ahead(&request).unwrap();
    assert!(buffer.add(&[0x5a; 4096]));
    ask_to_write(&mut driver, 24);
    assert!(is_served(&mut driver));
    driver.slots.end_ahead(&request, buffer);
    ask_to_read(&mut driver, 24);
    assert!(!is_served(&mut driver), "what was read is older");
    let request = take(&mut driver).unwrap();
    write_kept(&late, &mut volume);
    assert_eq!(finish(&mut driver, &request, &mut volume), Outcome::Done);
    assert!(driver.load::<BYTES>(BUFFERS) == [24; BYTES]);
    let (mut driver, mut volume) = (disk(), requests::volume());
    read(&mut driver, &mut volume, 8);
    read(&mut driver, &mut volume, 16);
    late.begin(40 * SECTOR);
    driver.slots.writes[0] = late_writes(&late);
    ask_to_write(&mut driver, 40);
    assert!(is_served(&mut driver));
    ask_to_read(&mut driver, 24);
    assert!(!is_served(&mut driver));
}

/// Returns how a disk is written that has this place of late writes.
fn late_writes(late: &Arc<Late>) -> Writes {
    Writes::of(late.clone())
}

#[test]
fn a_write_from_no_ram_is_left_to_whoever_serves_the_disk() {
    let _alone = alone();
    let (mut driver, mut volume, late) = begun();
    let pieces = [(BUFFERS, 512), (0, 512)];
    ask(&mut driver, WRITES, 24, &pieces, 0);
    assert!(!is_served(&mut driver) && driver.used().0 == 2);
    assert_eq!(late.take().1, BYTES, "no part of it is kept");
    let request = take(&mut driver).unwrap();
    assert_eq!(finish(&mut driver, &request, &mut volume), Outcome::Error);
}

#[test]
fn a_place_that_is_taken_at_the_moment_is_none() {
    let _alone = alone();
    let (mut driver, _, late) = begun();
    let (offset, len, buffer) = late.take();
    late.begin(24 * SECTOR);
    ask_to_write(&mut driver, 24);
    assert!(!is_served(&mut driver));
    late.put_back((offset, len, buffer));
    assert!(late.end() && !is_served(&mut driver), "it was not written");
}
