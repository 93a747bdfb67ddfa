//! Devices of a guest that has no memory for what they write.

use core::ops::Range;

use super::ahead::{alone, is_served};
use super::late::{ask_to_write, begun};
use super::requests::{ask, disk, finish, status, take, volume};
use super::*;
use crate::virtio::block::{NotMoved, Outcome, Transfer, Turn};
use stasis_memory::{AccessError, GuestMemory};
use stasis_state::OutOfRange;

/// Memory in which no page can be written, as no frame is free for it.
#[derive(Debug)]
pub struct Full<'r>(pub &'r mut FakeRam);

impl ReadRam for Full<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn next_content(&self, offset: usize) -> Option<usize> {
        self.0.next_content(offset)
    }

    fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfRange> {
        self.0.read(offset, into)
    }

    fn crc32c(&self, crc: u32, bytes: Range<usize>) -> Result<u32, OutOfRange> {
        self.0.crc32c(crc, bytes)
    }

    fn pages_with_content(&self, offset: usize, count: usize) -> Result<u64, OutOfRange> {
        self.0.pages_with_content(offset, count)
    }
}

impl Full<'_> {
    fn refuse<T>(&self, start: usize) -> Result<T, OutOfRange> {
        Err(OutOfRange { start, end: start, size: self.len() })
    }
}

impl WriteRam for Full<'_> {
    fn write(&mut self, offset: usize, _: &[u8]) -> Result<(), OutOfRange> {
        self.refuse(offset)
    }

    fn zero(&mut self, bytes: Range<usize>) -> Result<(), OutOfRange> {
        self.refuse(bytes.start)
    }
}

impl GuestMemory for Full<'_> {
    fn lacks_frame(&self) -> bool {
        true
    }

    fn load_u16(&self, offset: usize) -> Result<u16, AccessError> {
        self.0.load_u16(offset)
    }

    fn load_u32(&self, offset: usize) -> Result<u32, AccessError> {
        self.0.load_u32(offset)
    }

    fn load_u64(&self, offset: usize) -> Result<u64, AccessError> {
        self.0.load_u64(offset)
    }

    fn store_u16(&mut self, offset: usize, _: u16) -> Result<(), AccessError> {
        Ok(self.refuse(offset)?)
    }

    fn store_u32(&mut self, offset: usize, _: u32) -> Result<(), AccessError> {
        Ok(self.refuse(offset)?)
    }

    fn store_u64(&mut self, offset: usize, _: u64) -> Result<(), AccessError> {
        Ok(self.refuse(offset)?)
    }
}

/// A guest for which no frame is free at first, and then there is one.
struct Late(bool);

impl Transfer for Late {
    fn from_guest(&mut self, _: &mut [u8]) -> Result<(), NotMoved> {
        Ok(())
    }

    fn to_guest(&mut self, _: &[u8]) -> Result<(), NotMoved> {
        let is_late = core::mem::replace(&mut self.0, true);
        if is_late { Ok(()) } else { Err(NotMoved::NotYet) }
    }
}

#[test]
fn a_read_that_has_lacked_a_frame_has_no_outcome_whatever_comes_behind() {
    let mut driver = disk();
    ask(&mut driver, 0, 3, &[(BUFFERS, 8192)], WRITE);
    let request = take(&mut driver).unwrap();
    assert_eq!(request.perform(&mut volume(), &mut Late(false)), Turn::Starved);
    assert_eq!(request.perform(&mut volume(), &mut Late(true)), Turn::Ended(Outcome::Done));
}

#[test]
fn a_request_for_which_no_memory_is_free_is_done_when_there_is_some() {
    let mut driver = disk();
    ask(&mut driver, 0, 3, &[(BUFFERS, 512)], WRITE);
    let request = take(&mut driver).unwrap();
    let Driver { slots, moment, .. } = &mut driver;
    let mut full = Full(&mut moment.ram);
    let memory = &mut Memory { base: RAM_BASE, ram: &mut full };
    assert_eq!(
        slots.disk_to_guest(memory, &request, &mut request.data(), &[1; 512]),
        Err(NotMoved::NotYet)
    );
    slots.disk_done(memory, &request, Outcome::Error);
    assert_eq!(driver.read(0x70), 0xf, "the driver has done nothing wrong");
    assert_eq!((driver.used().0, driver.read(0x60)), (0, 0));
    let request = take(&mut driver).expect("it is still to be done");
    assert_eq!(finish(&mut driver, &request, &mut volume()), Outcome::Done);
    assert_eq!((driver.used().0, status(&driver)), (1, 0));

    let mut driver = Driver::of(&[Fitting::Entropy]);
    driver.describe(DESC, 0, (BUFFERS, 8), WRITE);
    driver.publish(0);
    let Driver { slots, moment, .. } = &mut driver;
    let mut full = Full(&mut moment.ram);
    let memory = &mut Memory { base: RAM_BASE, ram: &mut full };
    assert_eq!(slots.serve(memory, &mut Counting::new(Some(1))), Some(0));
    assert!(slots.has_work());
    driver.serve(Some(1));
    assert_eq!(driver.used(), (1, 0, 8));
}

#[test]
fn a_frame_is_sent_once_and_not_before_its_request_is_completed() {
    let mut driver = Driver::of_queue(&[Fitting::Card { network: "lan", address: [2; 6] }], 1);
    driver.store(BUFFERS, &[7; 72]);
    driver.describe(DESC, 0, (BUFFERS, 72), 0);
    driver.publish(0);
    let Driver { slots, moment, .. } = &mut driver;
    let mut full = Full(&mut moment.ram);
    let mut outward = Counting::default();
    slots.serve(&mut Memory { base: RAM_BASE, ram: &mut full }, &mut outward);
    assert!(outward.sent.is_empty(), "it is sent again when there is memory");
    driver.serve(None);
    assert_eq!((driver.frame.as_slice(), driver.used().0), (&[7; 60][..], 1));
    assert_eq!(driver.slots.cards().next().map(|card| card.traffic.sent), Some(1));
    // A buffer that is not in RAM sends nothing, and nothing of the frame before.
    driver.describe(DESC, 0, (BUFFERS, 40), NEXT);
    driver.describe(DESC, 1, (0, 40), 0);
    driver.publish(0);
    driver.serve(None);
    assert!(driver.frame.is_empty());
    assert_eq!(driver.read(0x70), 0x4f);
}

#[test]
fn a_text_is_printed_once_and_not_before_its_request_is_completed() {
    let mut driver = Driver::of_queue(&[Fitting::Terminal], 1);
    driver.store(BUFFERS, b"text");
    driver.describe(DESC, 0, (BUFFERS, 4), 0);
    driver.publish(0);
    let Driver { slots, moment, .. } = &mut driver;
    let mut full = Full(&mut moment.ram);
    let mut outward = Counting::default();
    slots.serve(&mut Memory { base: RAM_BASE, ram: &mut full }, &mut outward);
    assert!(outward.said.is_empty(), "it is printed when there is memory");
    driver.serve(None);
    assert_eq!((driver.said.as_slice(), driver.used().0), (&b"text"[..], 1));
}

#[test]
fn a_late_write_that_is_not_completed_for_want_of_memory_is_done_when_there_is_some() {
    let _alone = alone();
    let (mut driver, ..) = begun();
    ask_to_write(&mut driver, 24);
    let Driver { slots, moment, .. } = &mut driver;
    let mut full = Full(&mut moment.ram);
    slots.serve_small(&mut Memory { base: RAM_BASE, ram: &mut full });
    assert!(slots.has_work(), "it is still to be done");
    assert_eq!(driver.used().0, 2);
    assert!(is_served(&mut driver) && !driver.slots.has_work());
    assert_eq!((driver.used().0, status(&driver)), (3, 0));
}
