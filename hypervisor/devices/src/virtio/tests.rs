//! A driver of one slot, the first one if nothing else is said, and what it meets.

mod ahead;
mod cards;
mod changing;
mod console;
mod hostile;
mod late;
mod missing;
mod requests;
mod starved;
mod transport;
mod turns;

use stasis_memory::{FakeRam, ReadRam, WriteRam};
use stasis_state::virtio::MAX_VIRTIO;

use super::fitting::Fitting;
use super::*;
use crate::access::Width;
use crate::device::tests::{Moment, at};
use crate::machine::RAM_BASE;

/// Bytes of RAM.
pub const RAM: usize = 1 << 20;
/// Entries of the queue.
pub const NUM: u16 = 16;
/// Where the driver has its rings, its headers and its buffers.
pub const DESC: u64 = RAM_BASE;
pub const AVAIL: u64 = RAM_BASE + 0x1000;
pub const USED: u64 = RAM_BASE + 0x2000;
pub const BUFFERS: u64 = RAM_BASE + 0x10000;

pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
pub const INDIRECT: u16 = 4;

/// A source of random bytes that counts up, or none, a network that keeps the last frame, and a
/// terminal.
#[derive(Default)]
pub struct Counting {
    random: Option<u8>,
    place: Vec<u8>,
    /// What was sent last.
    pub sent: Vec<u8>,
    /// What was printed.
    pub said: Vec<u8>,
    /// What was typed.
    pub typed: Vec<u8>,
}

impl Counting {
    pub fn new(random: Option<u8>) -> Self {
        Self { random, ..Self::default() }
    }
}

impl Outward for Counting {
    fn random(&mut self, into: &mut [u8]) -> bool {
        let Some(next) = &mut self.random else { return false };
        for byte in into {
            *byte = *next;
            *next = next.wrapping_add(1);
        }
        true
    }

    fn frame(&mut self, len: usize) -> &mut [u8] {
        self.place.resize(len, 0);
        &mut self.place
    }

    fn send(&mut self, _: u8, len: usize) {
        self.sent = self.place[..len].to_vec();
    }

    fn text(&mut self, len: usize) -> &mut [u8] {
        assert!(len <= super::console::MOST_TEXT);
        self.frame(len)
    }

    fn print(&mut self, len: usize) {
        self.said.extend(&self.place[..len]);
    }

    fn typed(&mut self, into: &mut [u8]) -> usize {
        let count = self.typed.len().min(into.len());
        into[..count].copy_from_slice(&self.typed[..count]);
        count
    }

    fn take_typed(&mut self, count: usize) {
        self.typed.drain(..count);
    }
}

/// A guest's slots, its RAM, and how far its driver is.
pub struct Driver {
    pub slots: Slots,
    pub moment: Moment,
    pub published: u16,
    /// The slot that is driven.
    pub slot: u8,
    /// Number of the queue that is used.
    pub queue: u32,
    /// The last frame that was sent.
    pub frame: Vec<u8>,
    /// What was typed at the terminal and is still to be taken.
    pub typed: Vec<u8>,
    /// What was printed at the terminal.
    pub said: Vec<u8>,
}

impl Driver {
    /// Returns a driver that has set up the first queue of the first device.
    pub fn of(fittings: &[Fitting<'_>]) -> Self {
        Self::of_queue(fittings, 0)
    }

    /// Returns a driver that has set up a queue of the first device.
    pub fn of_queue(fittings: &[Fitting<'_>], queue: u32) -> Self {
        let equipment = Equipment { virtio: fittings, ..Equipment::default() };
        let record = Slots::fitted(&equipment).unwrap();
        let moment = Moment { ram: FakeRam::new(RAM), ..at(0) };
        let slots = Slots::restored(record, 0);
        let (frame, typed, said) = Default::default();
        let mut driver = Self { slots, moment, published: 0, slot: 0, queue, frame, typed, said };
        driver.set_up();
        driver
    }

    pub fn set_up(&mut self) {
        self.published = 0;
        self.store(AVAIL + self.rings(), &[0; 4]);
        self.store(USED + self.rings(), &[0; 4]);
        self.write(0x70, 0);
        for status in [1, 3] {
            self.write(0x70, status);
        }
        let features = u64::from(self.features(0)) | u64::from(self.features(1)) << 32;
        self.write(0x24, 0);
        self.write(0x20, features as u32);
        self.write(0x24, 1);
        self.write(0x20, (features >> 32) as u32);
        self.write(0x70, 0xb);
        assert_eq!(self.read(0x70), 0xb, "the features are accepted");
        self.write(0x30, self.queue);
        assert_eq!(self.read(0x44), 0);
        self.write(0x38, NUM.into());
        for (offset, address) in [(0x80, DESC), (0x90, AVAIL), (0xa0, USED)] {
            let address = address + self.rings();
            self.write(offset, address as u32);
            self.write(offset + 4, (address >> 32) as u32);
        }
        self.write(0x44, 1);
        assert_eq!(self.read(0x44), 1, "the queue is ready");
        self.write(0x70, 0xf);
    }

    /// Returns how far the slot's rings are behind those of the first one.
    pub fn rings(&self) -> u64 {
        u64::from(self.slot) * 0x4000
    }

    fn features(&mut self, sel: u32) -> u32 {
        self.write(0x14, sel);
        self.read(0x10)
    }

    pub fn read(&mut self, offset: u64) -> u32 {
        self.read_as(offset, Width::Word) as u32
    }

    pub fn read_as(&mut self, offset: u64, width: Width) -> u64 {
        self.slots.read(Access { n: self.slot, offset, width }, &mut self.moment)
    }

    pub fn write(&mut self, offset: u64, value: u32) {
        let access = Access { n: self.slot, offset, width: Width::Word };
        self.slots.write(access, value.into(), &mut self.moment);
    }

    pub fn store(&mut self, address: u64, bytes: &[u8]) {
        self.moment.ram.write((address - RAM_BASE) as usize, bytes).unwrap();
    }

    pub fn load<const N: usize>(&self, address: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.moment.ram.read((address - RAM_BASE) as usize, &mut bytes).unwrap();
        bytes
    }

    /// Writes a descriptor of the table at `table`.
    pub fn describe(&mut self, table: u64, n: u16, (address, len): (u64, u32), flags: u16) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&address.to_le_bytes());
        bytes[8..12].copy_from_slice(&len.to_le_bytes());
        bytes[12..14].copy_from_slice(&flags.to_le_bytes());
        bytes[14..].copy_from_slice(&(n + 1).to_le_bytes());
        self.store(table + u64::from(n) * 16, &bytes);
    }

    /// Puts the chain that begins with descriptor `head` into the available ring, and notifies the
    /// device.
    pub fn publish(&mut self, head: u16) {
        let entry = u64::from(self.published % NUM);
        let avail = AVAIL + self.rings();
        self.store(avail + 4 + entry * 2, &head.to_le_bytes());
        self.published = self.published.wrapping_add(1);
        self.store(avail + 2, &self.published.to_le_bytes());
        self.write(0x50, self.queue);
    }

    /// Makes the devices that are no disks do all that they have to do.
    pub fn serve(&mut self, random: Option<u8>) {
        let mut outward = Counting::new(random);
        outward.typed = core::mem::take(&mut self.typed);
        let mut memory = Memory { base: RAM_BASE, ram: &mut *self.moment.ram };
        while self.slots.serve(&mut memory, &mut outward).is_some() {}
        (self.frame, self.typed) = (outward.sent, outward.typed);
        self.said.extend(outward.said);
    }

    /// Returns the number of completed requests, and the last one's head and bytes.
    pub fn used(&self) -> (u16, u32, u32) {
        let count = u16::from_le_bytes(self.load(USED + self.rings() + 2));
        let entry = u64::from(count.wrapping_sub(1) % NUM);
        let at = USED + self.rings() + 4 + entry * 8;
        (count, u32::from_le_bytes(self.load(at)), u32::from_le_bytes(self.load(at + 4)))
    }

    pub fn memory(&mut self) -> (&mut Slots, Memory<'_>) {
        (&mut self.slots, Memory { base: RAM_BASE, ram: &mut *self.moment.ram })
    }
}
