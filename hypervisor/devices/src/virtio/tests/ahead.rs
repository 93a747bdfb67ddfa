//! Small reads of a disk, one behind the other: what is done with what was read ahead.

use super::requests::{Fake, ask, disk, finish, status, take, volume};
use super::*;
use crate::virtio::ahead::{AHEAD, MOST_BUFFERS, SMALL};
use crate::virtio::block::{Outcome, SECTOR};
use crate::virtio::volume::Volume;

/// Returns a guard: the tests of one process have all buffers in common.
pub fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Sectors of a read.
const COUNT: u64 = 8;
const READ: u32 = 0;
const WRITES: u32 = 1;

pub fn ask_to_read(driver: &mut Driver, sector: u64) {
    ask(driver, READ, sector, &[(BUFFERS, (COUNT * SECTOR) as u32)], WRITE);
}

/// Returns whether the next request was done as at an exit.
pub fn is_served(driver: &mut Driver) -> bool {
    let (slots, mut memory) = driver.memory();
    slots.serve_small(&mut memory).is_some()
}

/// Reads from a sector on as whoever serves the disk does, and reads ahead. Returns how many bytes.
pub fn read(driver: &mut Driver, volume: &mut Fake, sector: u64) -> u64 {
    ask_to_read(driver, sector);
    assert!(!is_served(driver));
    let request = take(driver).unwrap();
    assert_eq!(finish(driver, &request, volume), Outcome::Done);
    let ahead = request.ahead();
    if ahead.is_empty() {
        return 0;
    }
    let mut buffer = driver.slots.begin_ahead(&request).unwrap();
    let len = ahead.end - ahead.start;
    volume.read(ahead.start, len, &mut |piece| buffer.add(piece)).unwrap();
    driver.slots.end_ahead(&request, buffer);
    len
}

/// Returns a disk that has read from sector 8 to 24, and what is behind that ahead.
fn read_ahead() -> (Driver, Fake) {
    let (mut driver, mut volume) = (disk(), volume());
    assert_eq!(read(&mut driver, &mut volume, 8), 0, "nobody knows what comes next");
    assert_eq!(read(&mut driver, &mut volume, 16), AHEAD as u64);
    (driver, volume)
}

#[test]
fn reads_that_follow_each_other_are_done_with_what_was_read_ahead() {
    let _alone = alone();
    let (mut driver, volume) = read_ahead();
    for (n, sector) in (24..24 + AHEAD as u64 / SECTOR).step_by(COUNT as usize).enumerate() {
        ask_to_read(&mut driver, sector);
        assert!(is_served(&mut driver) && !driver.slots.has_work(), "{sector}");
        assert_eq!(driver.used(), (n as u16 + 3, 0, (COUNT * SECTOR) as u32 + 1));
        assert_eq!((status(&driver), driver.read(0x60)), (0, 1));
        let from = (sector * SECTOR) as usize;
        assert!(driver.load::<4096>(BUFFERS)[..] == volume.bytes[from..from + 4096], "{sector}");
    }
    ask_to_read(&mut driver, 24 + AHEAD as u64 / SECTOR);
    assert!(!is_served(&mut driver), "it was not read");
    assert_eq!(take(&mut driver).unwrap().ahead().start, 32 * SECTOR + AHEAD as u64);
}

#[test]
fn a_large_read_and_one_that_is_partly_there_wait_for_whoever_serves_the_disk() {
    let _alone = alone();
    let (mut driver, mut volume) = read_ahead();
    let large = SMALL as u32 + SECTOR as u32;
    for (sector, len) in [(24, large), (24 + AHEAD as u64 / SECTOR - 1, 1024), (23, 1024)] {
        ask(&mut driver, READ, sector, &[(BUFFERS, len)], WRITE);
        assert!(!is_served(&mut driver));
        let request = take(&mut driver).unwrap();
        assert_eq!(finish(&mut driver, &request, &mut volume), Outcome::Done);
    }
}

#[test]
fn whatever_may_change_the_volume_drops_what_was_read_ahead() {
    let _alone = alone();
    const DISCARD: u32 = 11;
    const ZEROES: u32 = 13;
    for kind in [WRITES, DISCARD, ZEROES] {
        let (mut driver, mut volume) = read_ahead();
        let mut range = [0; 16];
        (range[0], range[8]) = (200, 1);
        driver.store(BUFFERS, &range);
        let len = if kind == WRITES { 512 } else { 16 };
        ask(&mut driver, kind, 200, &[(BUFFERS, len)], 0);
        assert!(!is_served(&mut driver));
        let request = take(&mut driver).unwrap();
        assert_eq!(finish(&mut driver, &request, &mut volume), Outcome::Done);
        ask_to_read(&mut driver, 24);
        assert!(!is_served(&mut driver), "{kind}");
    }
}

#[test]
fn a_reset_drops_what_was_read_ahead_and_what_is_being_read() {
    let _alone = alone();
    let (mut driver, _) = read_ahead();
    driver.set_up();
    ask_to_read(&mut driver, 24);
    assert!(!is_served(&mut driver));
    let request = take(&mut driver).unwrap();
    assert!(!request.ahead().is_empty());
    let mut buffer = driver.slots.begin_ahead(&request).unwrap();
    assert!(buffer.add(&[0x5a; 4096]));
    driver.set_up();
    driver.slots.end_ahead(&request, buffer);
    ask_to_read(&mut driver, 32);
    assert!(!is_served(&mut driver));
}

#[test]
fn a_request_behind_one_that_was_taken_waits() {
    let _alone = alone();
    let (mut driver, mut volume) = read_ahead();
    ask(&mut driver, 4, 0, &[], 0);
    let flush = take(&mut driver).unwrap();
    assert!(!is_served(&mut driver), "it is the first one still");
    assert_eq!(finish(&mut driver, &flush, &mut volume), Outcome::Done);
    ask_to_read(&mut driver, 24);
    assert!(is_served(&mut driver));
}

#[test]
fn a_request_that_fails_drops_what_was_read_ahead() {
    let _alone = alone();
    let (mut driver, _) = read_ahead();
    ask(&mut driver, 4, 0, &[], 0);
    let flush = take(&mut driver).unwrap();
    let (slots, mut memory) = driver.memory();
    slots.disk_done(&mut memory, &flush, Outcome::Error);
    ask_to_read(&mut driver, 24);
    assert!(!is_served(&mut driver));
}

#[test]
fn a_copy_of_the_devices_has_nothing_of_what_was_read_ahead() {
    let _alone = alone();
    let (mut driver, _) = read_ahead();
    driver.slots = driver.slots.clone();
    ask_to_read(&mut driver, 24);
    assert!(!is_served(&mut driver));
}

#[test]
fn a_read_into_no_ram_is_left_to_whoever_serves_the_disk() {
    let _alone = alone();
    let (mut driver, mut volume) = read_ahead();
    ask(&mut driver, READ, 24, &[(0, 4096)], WRITE);
    assert!(!is_served(&mut driver) && driver.used().0 == 2);
    let request = take(&mut driver).unwrap();
    assert_eq!(finish(&mut driver, &request, &mut volume), Outcome::Error);
}

#[test]
fn a_disk_that_is_written_leaves_its_buffer_to_others() {
    let _alone = alone();
    let mut others: Vec<(Driver, Fake)> = (0..MOST_BUFFERS).map(|_| read_ahead()).collect();
    let (mut driver, mut volume) = (disk(), volume());
    read(&mut driver, &mut volume, 8);
    ask_to_read(&mut driver, 16);
    let request = take(&mut driver).unwrap();
    assert_eq!(finish(&mut driver, &request, &mut volume), Outcome::Done);
    assert!(driver.slots.begin_ahead(&request).is_none(), "all are in use");
    let (other, _) = &mut others[0];
    ask(other, WRITES, 200, &[(BUFFERS, 512)], 0);
    take(other).unwrap();
    assert!(driver.slots.begin_ahead(&request).is_some());
}
