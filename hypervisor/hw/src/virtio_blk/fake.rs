//! A virtio disk for tests: a device that carries out what it finds in memory (virtio 1.2, 2.7 and
//! 5.2.6), and its driver's clock. [`Registers`] are its transport.
//!
//! The device reads descriptors, headers and data at the addresses that the driver wrote into its
//! queue, and writes data, status and used ring there. It keeps to itself when, in which order and
//! how well ([`Manner`]).

mod registers;

pub use registers::Registers;

use super::{DiskMemory, SECTOR, Slot, VirtioBlk, feature};
use crate::time::Wait;
use crate::time::fake::Ticks;
use std::boxed::Box;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::ptr::{with_exposed_provenance, with_exposed_provenance_mut};
use std::rc::Rc;
use std::vec;
use std::vec::Vec;
use virtio_drivers::transport::DeviceStatus;

/// Flags of a descriptor: another one follows; the device writes there.
const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// When a device works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// At once, when it is notified.
    AtOnce,
    /// One request whenever the driver sleeps, any of those that it has.
    AnyOrder,
    /// One request at a pause of the driver's, and none while it sleeps.
    WhilePolled,
    /// One request, the newest, after the driver has asked for an interrupt and before it has
    /// acknowledged the earlier ones.
    WorstMoment,
    /// Never.
    Never,
}

/// What a device does to its used ring beside what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// The device names a request that it does not have.
    Token(u32),
    /// The device says that it has ended so many requests more.
    Ahead(u16),
    /// The device ends each request twice.
    Twice,
}

/// A queue as the driver has set it up: its length, and the addresses of its parts.
#[derive(Clone, Copy)]
struct Queue {
    len: u16,
    descriptors: u64,
    available: u64,
    used: u64,
}

/// The device.
pub struct Device {
    /// What lasts, whole sectors.
    pub medium: Vec<u8>,
    /// Sectors that were written and not flushed.
    pub cache: BTreeMap<u64, [u8; SECTOR]>,
    pub features: u64,
    pub capacity: u64,
    pub block_size: u32,
    pub legacy: bool,
    /// Whether the low half of the capacity differs at each read, and the high half with it.
    pub restless: bool,
    pub queue_max: u32,
    pub refuses_features: bool,
    /// The device never ends a reset: it goes on as before.
    pub ignores_reset: bool,
    pub manner: Manner,
    pub attack: Option<Attack>,
    /// The requests that fail with status 1, by their numbers in the order in which they are
    /// carried out.
    pub fails: Vec<usize>,
    /// The kind and the first sector of each request that was carried out.
    pub log: Vec<(u32, u64)>,
    /// The most requests that it had at a time.
    pub most: usize,
    pub status: DeviceStatus,
    /// What only the device itself uses.
    pub own: Own,
}

/// What a device remembers.
#[derive(Default)]
pub struct Own {
    /// The memory that it may use.
    memory: Range<u64>,
    queue: Option<Queue>,
    /// The requests that it has.
    has: Vec<u16>,
    /// Numbers of requests that it has taken, and ended.
    taken: u16,
    ended: u16,
    interrupt: bool,
    random: u64,
}

/// Returns sectors that are filled with these bytes, one with each.
pub fn filled(bytes: impl Iterator<Item = u8>) -> Vec<u8> {
    let mut sectors = vec![];
    bytes.for_each(|byte| sectors.extend_from_slice(&[byte; SECTOR]));
    sectors
}

/// Reads memory as the device.
fn load<T>(address: u64) -> T {
    // SAFETY: `Device::at` and `Device::check` let only addresses through that lie in the memory
    // that a test shares with the device; it lives for ever.
    unsafe { with_exposed_provenance::<T>(address as usize).read_volatile() }
}

/// Writes memory as the device.
fn store<T>(address: u64, value: T) {
    // SAFETY: as for `load`: the address lies in memory that is shared with the device and lives
    // for ever.
    unsafe { with_exposed_provenance_mut::<T>(address as usize).write_volatile(value) }
}

impl Device {
    /// Returns a disk of so many sectors, each of whose bytes tells its sector.
    pub fn new(sectors: u64) -> Self {
        let medium = filled((0..sectors).map(|sector| sector as u8));
        Self {
            medium,
            cache: BTreeMap::new(),
            features: feature::FLUSH | feature::BLK_SIZE | feature::VERSION_1,
            capacity: sectors,
            block_size: 512,
            legacy: false,
            restless: false,
            queue_max: 256,
            refuses_features: false,
            ignores_reset: false,
            manner: Manner::AtOnce,
            attack: None,
            fails: Vec::new(),
            log: Vec::new(),
            most: 0,
            status: DeviceStatus::empty(),
            own: Own::default(),
        }
    }

    /// Returns the address of element `n` of `bytes` each, `offset` behind `part`. Panics if the
    /// driver has not shared it.
    fn at(&self, part: u64, offset: u64, n: u16, bytes: u64) -> u64 {
        let address = part + offset + u64::from(n) * bytes;
        self.check(address, bytes);
        address
    }

    fn check(&self, address: u64, len: u64) {
        let inside = self.own.memory.start <= address && address + len <= self.own.memory.end;
        assert!(inside, "the device was told of {address:#x}, which is not its memory");
    }

    /// Takes what the driver has made available.
    fn fetch(&mut self) {
        let Some(queue) = self.own.queue else { return };
        let available: u16 = load(self.at(queue.available, 2, 0, 2));
        while self.own.taken != available {
            let head: u16 = load(self.at(queue.available, 4, self.own.taken % queue.len, 2));
            self.own.taken = self.own.taken.wrapping_add(1);
            assert!(!self.own.has.contains(&head), "it has request {head} already");
            self.own.has.push(head);
        }
        self.most = self.most.max(self.own.has.len());
    }

    /// Carries out one of the requests that it has, if it has one.
    fn work(&mut self) {
        self.fetch();
        if self.own.has.is_empty() {
            return;
        }
        self.own.random = self.own.random.wrapping_mul(6364136223846793005).wrapping_add(1);
        let newest = self.own.has.len() - 1;
        let nth = match self.manner {
            Manner::AnyOrder => (self.own.random >> 33) as usize % self.own.has.len(),
            Manner::WorstMoment => newest,
            _ => 0,
        };
        let head = self.own.has.remove(nth);
        let written = self.carry_out(head);
        self.end(head.into(), written);
        match self.attack {
            Some(Attack::Twice) => self.end(head.into(), written),
            Some(Attack::Token(token)) => self.end(token, written),
            Some(Attack::Ahead(more)) => {
                self.own.ended = self.own.ended.wrapping_add(more);
                self.publish();
            }
            None => {}
        }
    }

    /// Returns the descriptors of a request: address, length, and whether the device writes there.
    fn chain(&self, head: u16) -> Vec<(u64, u32, bool)> {
        let queue = self.own.queue.unwrap();
        let (mut chain, mut n) = (vec![], head);
        loop {
            assert!(n < queue.len && chain.len() < 3);
            let descriptor = self.at(queue.descriptors, 0, n, 16);
            let (address, len): (u64, u32) = (load(descriptor), load(descriptor + 8));
            let (flags, next): (u16, u16) = (load(descriptor + 12), load(descriptor + 14));
            self.check(address, len.into());
            chain.push((address, len, flags & WRITE != 0));
            if flags & NEXT == 0 {
                return chain;
            }
            n = next;
        }
    }

    /// Carries out the request, and returns the number of bytes that it has written to memory.
    fn carry_out(&mut self, head: u16) -> u32 {
        let chain = self.chain(head);
        let ((header, 16, false), (status, 1, true)) = (chain[0], chain[chain.len() - 1]) else {
            panic!("a request begins with its header and ends with its status: {chain:?}");
        };
        let (kind, sector): (u32, u64) = (load(header), load(header + 8));
        let data = &chain[1..chain.len() - 1];
        let fails = self.fails.contains(&self.log.len());
        self.log.push((kind, sector));
        match (kind, data) {
            _ if fails => {}
            (0, [(address, len, true)]) => self.read(sector, *address, *len),
            (1, [(address, len, false)]) => self.write(sector, *address, *len),
            (4, []) => self.flush(),
            _ => panic!("a request of kind {kind} with data {data:?}"),
        }
        store(status, u8::from(fails));
        1 + data.iter().filter(|it| it.2).map(|it| it.1).sum::<u32>()
    }

    fn read(&mut self, sector: u64, address: u64, len: u32) {
        for (n, sector) in (sector..).take(len as usize / SECTOR).enumerate() {
            let at = sector as usize * SECTOR;
            let lasts = || self.medium[at..][..SECTOR].try_into().unwrap();
            let bytes: [u8; SECTOR] = self.cache.get(&sector).copied().unwrap_or_else(lasts);
            store(address + (n * SECTOR) as u64, bytes);
        }
    }

    fn write(&mut self, sector: u64, address: u64, len: u32) {
        assert_eq!(self.features & feature::RO, 0, "the driver knows that the disk is read-only");
        for (n, sector) in (sector..).take(len as usize / SECTOR).enumerate() {
            self.cache.insert(sector, load(address + (n * SECTOR) as u64));
        }
        if self.features & feature::FLUSH == 0 {
            self.flush();
        }
    }

    fn flush(&mut self) {
        for (sector, bytes) in core::mem::take(&mut self.cache) {
            self.medium[sector as usize * SECTOR..][..SECTOR].copy_from_slice(&bytes);
        }
    }

    /// Puts a request into the used ring.
    fn end(&mut self, token: u32, written: u32) {
        let queue = self.own.queue.unwrap();
        let element = self.at(queue.used, 4, self.own.ended % queue.len, 8);
        store(element, token);
        store(element + 4, written);
        self.own.ended = self.own.ended.wrapping_add(1);
        self.publish();
    }

    /// Says how many requests it has ended, and interrupts if the driver wants that.
    fn publish(&mut self) {
        let queue = self.own.queue.unwrap();
        store(self.at(queue.used, 2, 0, 2), self.own.ended);
        let flags: u16 = load(self.at(queue.available, 0, 0, 2));
        self.own.interrupt |= flags & 1 == 0;
    }

    fn reset(&mut self) {
        self.own.queue = None;
        self.own.has.clear();
        (self.own.taken, self.own.ended, self.own.interrupt) = (0, 0, false);
    }
}

/// The clock of the device's driver: a microsecond for each look at it. While the driver sleeps,
/// the device works; a sleep that nothing interrupts lasts as long as it may.
pub struct Clock {
    pub device: Rc<RefCell<Device>>,
    pub ticks: Ticks,
}

impl Wait for Clock {
    fn now(&self) -> u64 {
        self.ticks.now()
    }

    fn frequency(&self) -> u64 {
        self.ticks.frequency()
    }

    fn pause(&mut self) {
        self.ticks.pause();
        let device = &mut *self.device.borrow_mut();
        if device.manner == Manner::WhilePolled {
            device.work();
        }
    }

    fn sleep(&mut self, until: u64) {
        let device = &mut *self.device.borrow_mut();
        if device.manner == Manner::AnyOrder && !device.own.interrupt {
            device.work();
        }
        if !device.own.interrupt {
            self.ticks.now.set(self.ticks.now.get().max(until));
        }
    }
}

/// Milliseconds of patience that the drivers of tests have.
pub const PATIENCE_MS: u64 = 100;

/// Returns the driver of a device on the memory, or why there is none.
pub fn start_on(
    memory: &'static mut DiskMemory,
    device: &Rc<RefCell<Device>>,
) -> Result<VirtioBlk<Registers>, super::Error> {
    let start = (&raw mut *memory).expose_provenance() as u64;
    device.borrow_mut().own.memory = start..start + size_of::<DiskMemory>() as u64;
    let slot = Slot { address: 0xa00_0000, size: 0x200 };
    VirtioBlk::new(slot, Registers(device.clone()), memory, PATIENCE_MS)
}

/// Returns the driver of a device on memory of its own, and its clock.
pub fn start(device: Device) -> Result<(VirtioBlk<Registers>, Clock), super::Error> {
    let device = Rc::new(RefCell::new(device));
    let disk = start_on(Box::leak(Box::new(DiskMemory::new())), &device)?;
    Ok((disk, Clock { device, ticks: Ticks::per_second(1_000_000) }))
}
