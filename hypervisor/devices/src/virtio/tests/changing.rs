//! Drivers that change what a device reads while the device reads it: each byte that is read a
//! second time within a step may be another one.

use core::cell::RefCell;
use core::ops::Range;
use std::collections::HashMap;

use proptest::prelude::*;
use stasis_memory::{AccessError, GuestMemory};
use stasis_state::OutOfRange;
use stasis_state::devices::DeviceRecord;

use super::*;
use crate::virtio::block::{NotMoved, Request, Transfer, Turn};
use crate::virtio::chain::Bytes;
use crate::virtio::console::MOST_TEXT;
use crate::virtio::net::MAX_FRAME;
use crate::virtio::volume::{Volume, VolumeError};

/// Sectors of the disk.
const SECTORS: u64 = 64;

/// Memory that others write between two reads.
#[derive(Debug)]
struct Changing<'r> {
    ram: &'r mut FakeRam,
    seed: u64,
    /// How often each byte was read.
    reads: RefCell<HashMap<usize, u64>>,
}

impl Changing<'_> {
    /// Makes bytes what they are now, if they were read before.
    fn change(&self, offset: usize, bytes: &mut [u8]) {
        let mut reads = self.reads.borrow_mut();
        for (at, byte) in (offset..).zip(bytes) {
            let times = reads.entry(at).or_default();
            if *times > 0 {
                *byte ^= noise(self.seed ^ (at as u64) << 20 ^ *times);
            }
            *times += 1;
        }
    }

    fn changed<const N: usize>(&self, offset: usize, mut bytes: [u8; N]) -> [u8; N] {
        self.change(offset, &mut bytes);
        bytes
    }
}

/// Returns bits that are flipped: mostly none, so that what is read stays possible.
fn noise(seed: u64) -> u8 {
    let mixed = (seed ^ seed >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    if mixed & 3 == 0 { (mixed >> 40) as u8 } else { 0 }
}

impl ReadRam for Changing<'_> {
    fn len(&self) -> usize {
        self.ram.len()
    }

    fn next_content(&self, offset: usize) -> Option<usize> {
        self.ram.next_content(offset)
    }

    fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfRange> {
        self.ram.read(offset, into)?;
        self.change(offset, into);
        Ok(())
    }

    fn crc32c(&self, crc: u32, bytes: Range<usize>) -> Result<u32, OutOfRange> {
        self.ram.crc32c(crc, bytes)
    }

    fn pages_with_content(&self, offset: usize, count: usize) -> Result<u64, OutOfRange> {
        self.ram.pages_with_content(offset, count)
    }
}

impl WriteRam for Changing<'_> {
    fn write(&mut self, offset: usize, from: &[u8]) -> Result<(), OutOfRange> {
        self.ram.write(offset, from)
    }

    fn zero(&mut self, bytes: Range<usize>) -> Result<(), OutOfRange> {
        self.ram.zero(bytes)
    }
}

impl GuestMemory for Changing<'_> {
    fn load_u16(&self, offset: usize) -> Result<u16, AccessError> {
        let value = self.ram.load_u16(offset)?;
        Ok(u16::from_le_bytes(self.changed(offset, value.to_le_bytes())))
    }

    fn load_u32(&self, offset: usize) -> Result<u32, AccessError> {
        let value = self.ram.load_u32(offset)?;
        Ok(u32::from_le_bytes(self.changed(offset, value.to_le_bytes())))
    }

    fn load_u64(&self, offset: usize) -> Result<u64, AccessError> {
        let value = self.ram.load_u64(offset)?;
        Ok(u64::from_le_bytes(self.changed(offset, value.to_le_bytes())))
    }

    fn store_u16(&mut self, offset: usize, value: u16) -> Result<(), AccessError> {
        self.ram.store_u16(offset, value)
    }

    fn store_u32(&mut self, offset: usize, value: u32) -> Result<(), AccessError> {
        self.ram.store_u32(offset, value)
    }

    fn store_u64(&mut self, offset: usize, value: u64) -> Result<(), AccessError> {
        self.ram.store_u64(offset, value)
    }
}

/// A volume that is asked for nothing that the disk does not have.
struct Strict;

impl Strict {
    fn check(offset: u64, len: u64) {
        assert!(offset.is_multiple_of(512) && len.is_multiple_of(512), "{offset:#x} {len:#x}");
        let end = offset.checked_add(len);
        assert!(end.is_some_and(|end| end <= SECTORS * 512), "{offset:#x} {len:#x}");
    }
}

impl Volume for Strict {
    fn read(
        &mut self,
        offset: u64,
        len: u64,
        take: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(), VolumeError> {
        Self::check(offset, len);
        take(&vec![0x5a; len as usize]);
        Ok(())
    }

    fn write(
        &mut self,
        offset: u64,
        len: u64,
        fill: &mut dyn FnMut(&mut [u8]) -> bool,
    ) -> Result<(), VolumeError> {
        Self::check(offset, len);
        fill(&mut vec![0; len as usize]);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), VolumeError> {
        Ok(())
    }

    fn discard(&mut self, offset: u64, len: u64) -> Result<(), VolumeError> {
        Self::check(offset, len);
        Ok(())
    }

    fn write_zeroes(&mut self, offset: u64, len: u64) -> Result<(), VolumeError> {
        Self::check(offset, len);
        Ok(())
    }
}

/// A network and a terminal that are given nothing that is too long.
#[derive(Default)]
struct Bounded {
    place: Vec<u8>,
}

impl Outward for Bounded {
    fn random(&mut self, into: &mut [u8]) -> bool {
        into.fill(0x5a);
        true
    }

    fn frame(&mut self, len: usize) -> &mut [u8] {
        assert!(len <= MAX_FRAME, "{len}");
        self.place = vec![0; len];
        &mut self.place
    }

    fn send(&mut self, _: u8, len: usize) {
        assert!(len <= self.place.len(), "{len}");
    }

    fn text(&mut self, len: usize) -> &mut [u8] {
        assert!(len <= MOST_TEXT, "{len}");
        self.place = vec![0; len];
        &mut self.place
    }

    fn print(&mut self, len: usize) {
        assert!(len <= self.place.len(), "{len}");
    }

    fn typed(&mut self, into: &mut [u8]) -> usize {
        into.fill(b'x');
        into.len()
    }

    fn take_typed(&mut self, _: usize) {}
}

/// The guest's side of a request.
struct Guest<'a, 'm> {
    slots: &'a Slots,
    memory: &'a mut Memory<'m>,
    request: &'a Request,
    data: Bytes,
}

impl Transfer for Guest<'_, '_> {
    fn from_guest(&mut self, into: &mut [u8]) -> Result<(), NotMoved> {
        self.slots.disk_from_guest(self.memory, self.request, &mut self.data, into)
    }

    fn to_guest(&mut self, from: &[u8]) -> Result<(), NotMoved> {
        self.slots.disk_to_guest(self.memory, self.request, &mut self.data, from)
    }
}

/// Does the next step of the devices, during which memory changes as `seed` says. Returns whether
/// there may be more.
fn step(driver: &mut Driver, seed: u64) -> bool {
    let Driver { slots, moment, .. } = driver;
    let reads = RefCell::default();
    let mut ram = Changing { ram: &mut moment.ram, seed, reads };
    let memory = &mut Memory { base: RAM_BASE, ram: &mut ram };
    if slots.serve(memory, &mut Bounded::default()).is_some() {
        return true;
    }
    let Some((_, request)) = slots.disk_request(memory) else { return false };
    let Some(request) = request else { return true };
    let mut guest = Guest { slots, memory, request: &request, data: request.data() };
    let turn = request.perform(&mut Strict, &mut guest);
    let data = guest.data;
    match turn {
        Turn::Ended(outcome) => slots.disk_done(memory, &request, outcome),
        Turn::Part(done) => slots.disk_goes_on(&request, done, data),
        Turn::Starved => panic!("memory is free"),
    }
    true
}

/// Publishes requests of three buffers each, whose lengths are these, and whose first one begins
/// as a disk's does.
fn publish(driver: &mut Driver, flags: [u16; 3], requests: &[(u32, u8, [u32; 3])]) {
    for (n, (kind, sector, lens)) in (0..).zip(requests) {
        let place = |buffer: u64| BUFFERS + (u64::from(n) * 3 + buffer) * 0x4000;
        driver.store(place(0), &kind.to_le_bytes());
        driver.store(place(0) + 8, &u64::from(*sector).to_le_bytes());
        let head = n * 3;
        for (nth, (len, flags)) in (0..).zip(lens.iter().zip(flags)) {
            driver.describe(DESC, head + nth, (place(nth.into()), *len), flags);
        }
        driver.publish(head);
    }
}

/// Lengths of a header, or something near, of whole sectors, or nearly, and of a status.
fn lengths() -> impl Strategy<Value = [u32; 3]> {
    let header = prop_oneof![4 => Just(16), 1 => 0_u32..2000];
    let data = prop_oneof![4 => (0_u32..16).prop_map(|n| n * 512), 1 => 0_u32..8192];
    let status = prop_oneof![4 => Just(1), 1 => 0_u32..16];
    (header, data, status).prop_map(|(header, data, status)| [header, data, status])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]

    /// Whatever changes while it is read, nothing is asked for that was not checked: of the disk,
    /// of the network, of the terminal. Each step ends, and the record keeps the format's rules.
    #[test]
    fn what_changes_between_two_reads_is_used_as_it_was_checked(
        seed: u64,
        device in 0_usize..4,
        requests in prop::collection::vec(
            (prop_oneof![Just(0_u32), Just(1), Just(8), Just(11), Just(13)], 0_u8..80, lengths()),
            1..5,
        ),
    ) {
        let card = Fitting::Card { network: "lan", address: [2; 6] };
        let disk = Fitting::Disk { volume: "root", sectors: SECTORS };
        let reads = requests.iter().all(|(kind, ..)| matches!(kind, 0 | 8));
        let (first, queue, flags) = [
            (disk, 0, [NEXT, NEXT | if reads { WRITE } else { 0 }, WRITE]),
            (card, 1, [NEXT, NEXT, 0]),
            (card, 0, [NEXT | WRITE, NEXT | WRITE, WRITE]),
            (Fitting::Terminal, 1, [NEXT, NEXT, 0]),
        ][device];
        let mut driver = Driver::of_queue(&[first], queue);
        publish(&mut driver, flags, &requests);
        let mut left = 64;
        while step(&mut driver, seed.wrapping_add(left)) {
            left -= 1;
            prop_assert!(left > 0, "the device works for ever");
            if device == 2 {
                let Driver { slots, moment, .. } = &mut driver;
                let mut ram = Changing { ram: &mut moment.ram, seed, reads: RefCell::default() };
                let memory = &mut Memory { base: RAM_BASE, ram: &mut ram };
                slots.receive(0, memory, &[7; 60]);
            }
            let guest = stasis_state::guest::Guest::default();
            prop_assert_eq!(driver.slots.record().check(&guest), Ok(()));
        }
    }
}
