//! Devices of a guest whose memory is still to be loaded: whatever is missing, in the end all is as
//! if nothing had been, and nothing was done twice.

use core::ops::Range;

use super::requests::{Fake, disk, turn, volume};
use super::*;
use crate::virtio::block::Turn;
use stasis_memory::missing::UNIT_SIZE;
use zerocopy::IntoBytes;

/// Number of units that a request needs at the most: the first ones.
const USED: usize = 10;
/// Number of units of the RAM.
const UNITS: usize = RAM / UNIT_SIZE;

/// Returns the address of a byte of a unit.
const fn within(unit: u64, offset: u64) -> u64 {
    RAM_BASE + unit * UNIT_SIZE as u64 + offset
}

/// The parts of the queue, and a table of indirect descriptors: each in a unit of its own.
const PARTS: [u64; 3] = [within(0, 0), within(1, 0x400), within(2, 0x800)];
const TABLE: u64 = within(3, 0x10);

/// The world outside of a guest, which notes all that comes to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct World {
    place: Vec<u8>,
    sent: Vec<Vec<u8>>,
    said: Vec<Vec<u8>>,
    typed: Vec<u8>,
    /// A frame that has come for the card.
    frame: Option<Vec<u8>>,
}

impl Outward for World {
    fn random(&mut self, into: &mut [u8]) -> bool {
        into.fill(0x77);
        true
    }

    fn frame(&mut self, len: usize) -> &mut [u8] {
        self.place.resize(len, 0);
        &mut self.place
    }

    fn send(&mut self, _: u8, len: usize) {
        self.sent.push(self.place[..len].to_vec());
    }

    fn text(&mut self, len: usize) -> &mut [u8] {
        self.frame(len)
    }

    fn print(&mut self, len: usize) {
        self.said.push(self.place[..len].to_vec());
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

/// A guest with a request, and its world.
struct Scene {
    driver: Driver,
    volume: Fake,
    world: World,
    /// Whether what a step needs is looked at before.
    looks: bool,
}

/// A request: a device, the number of a queue, and the buffers, by address, bytes and flags.
struct Request<'a> {
    fitting: Fitting<'a>,
    queue: u32,
    buffers: &'a [(u64, u32, u16)],
}

const DISK: Fitting<'_> = Fitting::Disk { volume: "root", sectors: 64 };
const CARD: Fitting<'_> = Fitting::Card { network: "lan", address: [2; 6] };
const READ_HEADER: (u64, u32, u16) = (within(4, 0xfff8), 16, 0);
const STATUS: (u64, u32, u16) = (within(9, 0x55), 1, WRITE);

/// Requests of all queues. Some buffers lie across the border of two units.
const REQUESTS: [Request<'_>; 9] = [
    Request {
        fitting: DISK,
        queue: 0,
        buffers: &[
            READ_HEADER,
            (within(6, 0), 512, WRITE),
            (within(7, 0xff00), 1024, WRITE),
            STATUS,
        ],
    },
    Request {
        fitting: DISK,
        queue: 0,
        buffers: &[READ_HEADER, (within(6, 0), 512, 0), (within(7, 0xff00), 1024, 0), STATUS],
    },
    // One that is too short.
    Request { fitting: DISK, queue: 0, buffers: &[(within(4, 0), 8, 0), STATUS] },
    Request {
        fitting: Fitting::Entropy,
        queue: 0,
        buffers: &[(within(4, 0xfff0), 32, WRITE), (within(7, 0), 9, WRITE)],
    },
    Request {
        fitting: CARD,
        queue: 1,
        buffers: &[(within(4, 0), 12, 0), (within(5, 0xffe0), 60, 0), (within(8, 7), 30, 0)],
    },
    Request { fitting: CARD, queue: 2, buffers: &[(within(4, 0), 2, 0), (within(6, 0), 1, WRITE)] },
    Request {
        fitting: CARD,
        queue: 0,
        buffers: &[(within(4, 0xfff8), 12, WRITE), (within(7, 0xffff), 100, WRITE)],
    },
    Request {
        fitting: Fitting::Terminal,
        queue: 1,
        buffers: &[(within(4, 0xfffe), 4, 0), (within(9, 3), 5, 0)],
    },
    Request {
        fitting: Fitting::Terminal,
        queue: 0,
        buffers: &[(within(4, 0xffff), 3, WRITE), (within(8, 0), 64, WRITE)],
    },
];

impl Scene {
    /// Returns a guest that has published a request, whose descriptors are in a table of indirect
    /// ones. All of its memory is there.
    fn new(request: &Request<'_>, kind: u32, looks: bool) -> Self {
        let mut driver = Driver::of_queue(&[request.fitting], request.queue);
        move_queue(&mut driver);
        for &(address, len, _) in request.buffers {
            let bytes: Vec<u8> = (0..len as usize).map(|n| (n % 251) as u8).collect();
            driver.store(address, &bytes);
        }
        let (world, volume) = (World { typed: b"typed".to_vec(), ..World::default() }, volume());
        if request.fitting == DISK {
            driver.store(READ_HEADER.0, &[[kind, 0], [3, 0]].as_bytes()[..16]);
            driver.store(within(6, 0), [4_u64, 2].as_bytes());
        }
        if request.fitting == CARD && request.queue == 2 {
            driver.store(within(4, 0), &[3, 0]);
            driver.slots.announce();
        }
        for (n, &(address, len, flags)) in request.buffers.iter().enumerate() {
            let next = if n + 1 < request.buffers.len() { NEXT } else { 0 };
            driver.describe(TABLE, n as u16, (address, len), flags | next);
        }
        driver.describe(PARTS[0], 5, (TABLE, 16 * request.buffers.len() as u32), INDIRECT);
        driver.store(PARTS[1] + 4, &5_u16.to_le_bytes());
        driver.store(PARTS[1] + 2, &1_u16.to_le_bytes());
        driver.write(0x50, request.queue);
        let mut scene = Self { driver, volume, world, looks };
        if request.fitting == CARD && request.queue == 0 {
            scene.world.frame = Some((0..80).collect());
        }
        scene
    }

    /// Makes these units missing.
    fn lose(&mut self, units: impl Fn(usize) -> bool) {
        self.driver.moment.ram.begin_loading(|_| true);
        for unit in (0..UNITS).filter(|unit| !units(*unit)) {
            self.bring(unit * UNIT_SIZE..(unit + 1) * UNIT_SIZE);
        }
    }

    fn bring(&mut self, unit: Range<usize>) {
        let ram = &mut self.driver.moment.ram;
        let missing = ram.missing().unwrap().clone();
        // Nobody has written it since it was lost: it has what it should.
        missing.fill(unit.clone()).unwrap().finish();
        ram.mark_written(unit.clone());
        if missing.arrived(unit.start).left == 0 {
            ram.end_loading();
        }
    }

    /// Does all that can be done now.
    fn work(&mut self) {
        let Self { driver, volume, world, looks, .. } = self;
        loop {
            let (slots, mut memory) = driver.memory();
            if *looks {
                slots.await_missing(Work::Others, &memory);
                slots.await_missing(Work::Disks, &memory);
            }
            if world.frame.is_some() && !slots.frame_must_wait(0, &memory) {
                slots.receive(0, &mut memory, &world.frame.take().unwrap());
            }
            if slots.serve(&mut memory, world).is_some() {
                continue;
            }
            let Some((_, request)) = slots.disk_request(&memory) else { break };
            if request.is_some_and(|request| turn(driver, &request, volume) == Turn::Starved) {
                break;
            }
        }
    }

    /// Does all that there is to do, and brings what is wanted meanwhile, and then all the rest.
    /// Returns how many units were waited for.
    fn end(&mut self) -> usize {
        let (world, mut waited) = (self.world.clone(), 0);
        loop {
            self.work();
            let missing = self.driver.moment.ram.missing().cloned();
            let Some(missing) = missing.filter(|missing| missing.is_waited_for()) else { break };
            assert!(self.world.sent.is_empty() && self.world.said.is_empty());
            assert_eq!((&self.world.typed, &self.world.frame), (&world.typed, &world.frame));
            if self.looks {
                assert!(self.volume.log.is_empty() && !self.driver.slots.has_work());
            }
            assert!(missing.is_wanted(), "it would wait for nothing");
            self.bring(missing.next().unwrap());
            self.driver.slots.go_on();
            waited += 1;
        }
        while let Some(missing) = self.driver.moment.ram.missing().cloned() {
            self.bring(missing.next().unwrap());
        }
        waited
    }

    /// Returns all that has come of it: the RAM, the devices, the volume, and the world.
    fn outcome(&self) -> ([Vec<u8>; 3], World) {
        let mut ram = vec![0; RAM];
        self.driver.moment.ram.read(0, &mut ram).unwrap();
        let record = self.driver.slots.record().as_bytes().to_vec();
        // What stands in the place of a frame that was sent, nobody looks at.
        let world = World { place: Vec::new(), ..self.world.clone() };
        ([ram, record, self.volume.bytes.clone()], world)
    }
}

/// Makes a driver's queue one whose parts are far from each other.
fn move_queue(driver: &mut Driver) {
    driver.write(0x30, driver.queue);
    driver.write(0x44, 0);
    driver.write(0x38, NUM.into());
    for (offset, address) in [0x80, 0x90, 0xa0].into_iter().zip(PARTS) {
        driver.write(offset, address as u32);
        driver.write(offset + 4, (address >> 32) as u32);
    }
    driver.write(0x44, 1);
    assert_eq!(driver.read(0x44), 1);
}

/// Returns all requests with the kinds that those of a disk can have.
fn requests() -> impl Iterator<Item = (&'static Request<'static>, u32)> {
    const KINDS: [u32; 6] = [0, 1, 4, 8, 11, 99];
    let kinds = |request: &Request<'_>| if request.fitting == DISK { KINDS.len() } else { 1 };
    REQUESTS
        .iter()
        .flat_map(move |request| KINDS.map(|kind| (request, kind)).into_iter().take(kinds(request)))
}

#[test]
fn whatever_is_missing_the_outcome_is_that_of_memory_that_is_all_there() {
    for (n, (request, kind)) in requests().enumerate() {
        let mut whole = Scene::new(request, kind, true);
        assert_eq!(whole.end(), 0);
        let outcome = whole.outcome();
        for looks in [true, false] {
            for lost in 0..USED {
                let mut scene = Scene::new(request, kind, looks);
                scene.lose(|unit| unit == lost);
                let waited = scene.end();
                assert!(scene.outcome() == outcome, "request {n} without unit {lost}");
                assert!(waited <= 1, "request {n} waits {waited} times for unit {lost}");
                if looks {
                    assert_eq!(scene.volume.log, whole.volume.log, "request {n}, unit {lost}");
                }
            }
            let mut scene = Scene::new(request, kind, looks);
            scene.lose(|_| true);
            let waited = scene.end();
            assert!(scene.outcome() == outcome, "request {n} without any unit");
            assert!((3..=USED).contains(&waited), "request {n} has waited for {waited} units");
        }
    }
}

#[test]
fn a_queue_that_waits_keeps_no_other_one_from_its_work() {
    let mut driver = Driver::of(&[Fitting::Entropy, Fitting::Entropy]);
    driver.slot = 1;
    driver.set_up();
    for slot in [0, 1] {
        driver.slot = slot;
        driver.published = 0;
        driver.describe(DESC + driver.rings(), 0, (within(3 + u64::from(slot), 0), 8), WRITE);
        driver.publish(0);
    }
    driver.slot = 0;
    let mut scene = Scene { driver, volume: Fake::default(), world: World::default(), looks: true };
    scene.lose(|unit| unit == 3);
    scene.work();
    let used = |scene: &mut Scene, slot: u8| {
        scene.driver.slot = slot;
        scene.driver.used().0
    };
    assert_eq!((used(&mut scene, 0), used(&mut scene, 1)), (0, 1));
    // The driver notifies once more, and something else arrives: it still waits.
    scene.driver.slot = 0;
    scene.driver.write(0x50, 0);
    scene.work();
    scene.driver.slots.go_on();
    scene.work();
    assert!(used(&mut scene, 0) == 0 && !scene.driver.slots.has_work());
    scene.end();
    assert_eq!((used(&mut scene, 0), used(&mut scene, 1)), (1, 1));
}

/// A look walks over a whole chain, which nothing ends.
#[test]
fn one_queue_is_looked_at_before_a_step() {
    let mut driver = Driver::of(&[Fitting::Entropy, Fitting::Entropy]);
    for slot in [0, 1] {
        driver.slot = slot;
        driver.set_up();
        driver.published = 0;
        driver.describe(DESC + driver.rings(), 0, (within(3, 0), 8), WRITE);
        driver.publish(0);
    }
    let mut scene = Scene { driver, volume: Fake::default(), world: World::default(), looks: true };
    scene.lose(|unit| unit == 3);
    let (slots, memory) = scene.driver.memory();
    assert!(!slots.await_missing(Work::Disks, &memory));
    assert!(slots.await_missing(Work::Others, &memory) && slots.has_work());
    assert!(slots.await_missing(Work::Others, &memory) && !slots.has_work());
}

#[test]
fn a_device_that_waits_can_be_reset_and_begins_anew() {
    let mut scene = Scene::new(&REQUESTS[4], 0, true);
    scene.lose(|unit| unit == 8);
    scene.work();
    assert!(scene.world.sent.is_empty());
    scene.driver.write(0x70, 0);
    scene.bring(8 * UNIT_SIZE..9 * UNIT_SIZE);
    scene.driver.slots.go_on();
    assert!(!scene.driver.slots.has_work(), "the driver has taken the request back");
    scene.work();
    assert!(scene.world.sent.is_empty());
    scene.driver.set_up();
    move_queue(&mut scene.driver);
    scene.driver.write(0x50, 1);
    scene.work();
    assert_eq!((scene.world.sent.len(), scene.driver.read(0x70)), (1, 0xf));
}

#[test]
fn what_is_in_no_ram_is_not_waited_for() {
    let mut driver = disk();
    driver.describe(DESC, 0, (within(2, 0), 16), NEXT);
    driver.describe(DESC, 1, (within(15, 0), 2 * UNIT_SIZE as u32), NEXT);
    driver.describe(DESC, 2, (0, 4096), NEXT);
    driver.describe(DESC, 3, (within(2, 0x800), 1), WRITE);
    driver.publish(0);
    let mut scene = Scene { driver, volume: volume(), world: World::default(), looks: true };
    scene.lose(|unit| unit >= 3);
    let missing = scene.driver.moment.ram.missing().cloned().unwrap();
    let (slots, memory) = scene.driver.memory();
    assert!(
        !slots.await_missing(Work::Disks, &memory)
            && slots.has_disk_work()
            && !missing.is_waited_for()
    );
}

#[test]
fn a_frame_for_which_no_frame_of_memory_is_free_is_not_lost() {
    let mut driver = Driver::of_queue(&[CARD], 0);
    driver.describe(DESC, 0, (BUFFERS, 100), WRITE);
    driver.publish(0);
    let Driver { slots, moment, .. } = &mut driver;
    let mut full = starved::Full(&mut moment.ram);
    assert!(!slots.receive(0, &mut Memory { base: RAM_BASE, ram: &mut full }, &[9; 60]));
    let traffic = |driver: &Driver| driver.slots.cards().next().map(|card| card.traffic).unwrap();
    assert_eq!((traffic(&driver).lost, driver.read(0x70), driver.used().0), (0, 0xf, 0));
    let (slots, mut memory) = driver.memory();
    assert!(slots.receive(0, &mut memory, &[9; 60]));
    assert_eq!((traffic(&driver).received, driver.used().0), (1, 1));
}
