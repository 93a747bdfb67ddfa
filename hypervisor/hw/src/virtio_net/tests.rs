//! The driver on a card that reads and writes memory as the device of QEMU does, at once or later,
//! and that lies.

use super::*;
use std::boxed::Box;
use std::cell::RefCell;
use std::ptr::{with_exposed_provenance, with_exposed_provenance_mut};
use std::rc::Rc;
use std::vec;
use std::vec::Vec;
use virtio_drivers::PhysAddr;
use virtio_drivers::transport::InterruptStatus;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A queue as the driver has set it up.
#[derive(Clone, Copy)]
struct Queue {
    descriptors: u64,
    available: u64,
    used: u64,
    len: u16,
    taken: u16,
    ended: u16,
}

/// The card.
struct Card {
    features: u64,
    legacy: bool,
    /// Whether it sends at once what it was given.
    sends: bool,
    status: DeviceStatus,
    queues: [Option<Queue>; 2],
    wire: Vec<Vec<u8>>,
}

fn load<T>(address: u64) -> T {
    // SAFETY: the driver has told the device of the address, which lies in a `CardMemory` that
    // lives for ever.
    unsafe { with_exposed_provenance::<T>(address as usize).read_volatile() }
}

fn store<T>(address: u64, value: T) {
    // SAFETY: the driver has told the device of the address, which lies in a `CardMemory` that
    // lives for ever.
    unsafe { with_exposed_provenance_mut::<T>(address as usize).write_volatile(value) }
}

impl Card {
    fn new() -> Rc<RefCell<Self>> {
        let status = DeviceStatus::empty();
        let features = VERSION_1 | MAC | 1 << 15 | 1 << 17;
        let queues = [None, None];
        let (legacy, sends, wire) = (false, true, vec![]);
        Rc::new(RefCell::new(Self { features, legacy, sends, status, queues, wire }))
    }

    /// Takes the next buffer of a queue: its number, address and length.
    fn take(&mut self, n: usize) -> Option<(u16, u64, u32)> {
        let queue = self.queues[n].as_mut()?;
        let available: u16 = load(queue.available + 2);
        if queue.taken == available {
            return None;
        }
        let head: u16 = load(queue.available + 4 + u64::from(queue.taken % queue.len) * 2);
        queue.taken = queue.taken.wrapping_add(1);
        let descriptor = queue.descriptors + u64::from(head) * 16;
        assert_eq!(load::<u16>(descriptor + 12) & 1, 0, "a frame is one descriptor");
        Some((head, load(descriptor), load(descriptor + 8)))
    }

    fn end(&mut self, n: usize, head: u32, written: u32) {
        let queue = self.queues[n].as_mut().unwrap();
        let element = queue.used + 4 + u64::from(queue.ended % queue.len) * 8;
        store(element, head);
        store(element + 4, written);
        queue.ended = queue.ended.wrapping_add(1);
        store(queue.used + 2, queue.ended);
    }

    /// Sends what it was given.
    fn transmit(&mut self) {
        while let Some((head, address, len)) = self.take(1) {
            let bytes = (0..u64::from(len)).map(|n| load::<u8>(address + n));
            self.wire.push(bytes.collect());
            self.end(1, head.into(), 0);
        }
    }

    /// Brings a frame. Returns whether there was a buffer.
    fn bring(&mut self, header: usize, frame: &[u8]) -> bool {
        let Some((head, address, len)) = self.take(0) else { return false };
        let bytes = [&vec![0; header], frame].concat();
        assert!(bytes.len() <= len as usize && len >= 1526);
        (address..).zip(&bytes).for_each(|(at, byte)| store(at, *byte));
        self.end(0, head.into(), bytes.len() as u32);
        true
    }
}

struct Registers(Rc<RefCell<Card>>);

// SAFETY: each test has one thread.
unsafe impl Send for Registers {}

impl Transport for Registers {
    fn device_type(&self) -> DeviceType {
        DeviceType::Network
    }
    fn read_device_features(&mut self) -> u64 {
        self.0.borrow().features
    }
    fn write_driver_features(&mut self, features: u64) {
        assert_eq!(features & !(VERSION_1 | MAC), 0, "no offload and no filter");
    }
    fn max_queue_size(&mut self, _: u16) -> u32 {
        256
    }
    fn notify(&mut self, queue: u16) {
        let card = &mut *self.0.borrow_mut();
        assert!(card.status.contains(DeviceStatus::DRIVER_OK), "3.1.1: not before DRIVER_OK");
        if queue == 1 && card.sends {
            card.transmit();
        }
    }
    fn get_status(&self) -> DeviceStatus {
        self.0.borrow().status
    }
    fn set_status(&mut self, status: DeviceStatus) {
        let card = &mut *self.0.borrow_mut();
        card.status = status;
        if status.is_empty() {
            card.queues = [None, None];
        }
    }
    fn set_guest_page_size(&mut self, _: u32) {}
    fn requires_legacy_layout(&self) -> bool {
        self.0.borrow().legacy
    }
    fn queue_set(
        &mut self,
        queue: u16,
        len: u32,
        descriptors: PhysAddr,
        available: PhysAddr,
        used: PhysAddr,
    ) {
        let len = len as u16;
        self.0.borrow_mut().queues[usize::from(queue)] =
            Some(Queue { descriptors, available, used, len, taken: 0, ended: 0 });
    }
    fn queue_unset(&mut self, _: u16) {}
    fn queue_used(&mut self, queue: u16) -> bool {
        self.0.borrow().queues[usize::from(queue)].is_some()
    }
    fn ack_interrupt(&mut self) -> InterruptStatus {
        InterruptStatus::empty()
    }
    fn read_config_generation(&self) -> u32 {
        0
    }
    fn read_config_space<T: FromBytes + IntoBytes>(
        &self,
        offset: usize,
    ) -> Result<T, virtio_drivers::Error> {
        let byte = [0x52, 0x54, 0, 1, 2, 3][offset];
        Ok(T::read_from_bytes(&[byte]).expect("the address is read by bytes"))
    }
    fn write_config_space<T: IntoBytes + Immutable>(
        &mut self,
        _: usize,
        _: T,
    ) -> Result<(), virtio_drivers::Error> {
        panic!("the driver configures nothing");
    }
}

fn start(card: &Rc<RefCell<Card>>) -> VirtioNet<Registers> {
    let memory = Box::leak(Box::new(CardMemory::new()));
    (&raw mut *memory).expose_provenance();
    VirtioNet::new(0xa00_3a00, Registers(card.clone()), memory).unwrap()
}

/// Returns what has come, up to `most` frames.
fn received(net: &mut VirtioNet<Registers>, most: usize) -> Vec<Vec<u8>> {
    let mut frame = [0; MAX_FRAME];
    let frames = (0..most).map_while(|_| net.receive(&mut frame).map(|len| frame[..len].to_vec()));
    frames.collect()
}

#[test]
fn frames_go_out_and_come_in_as_they_are() {
    for (legacy, features, header) in [(false, VERSION_1 | MAC, 12), (true, MAC, 10)] {
        let card = Card::new();
        (card.borrow_mut().legacy, card.borrow_mut().features) = (legacy, features);
        let mut net = start(&card);
        assert_eq!(net.address(), [0x52, 0x54, 0, 1, 2, 3]);
        // More than there are buffers.
        for n in 0..3 * LANE as u8 {
            assert!(net.send(&[n; 60]));
            assert!(card.borrow_mut().bring(header, &[n, 1, 2]));
            assert_eq!(received(&mut net, 9), [[n, 1, 2]]);
        }
        let wire = core::mem::take(&mut card.borrow_mut().wire);
        for (n, frame) in (0..).zip(wire) {
            assert_eq!(frame, [vec![0; header], vec![n; 60]].concat());
        }
        assert_eq!(net.fault(), None);
    }
}

#[test]
fn a_card_that_does_not_send_loses_frames_and_holds_up_nobody() {
    let card = Card::new();
    card.borrow_mut().sends = false;
    let mut net = start(&card);
    assert!((0..LANE).all(|_| net.send(&[7; 60])));
    assert!(!net.send(&[7; 60]));
    card.borrow_mut().transmit();
    assert!(net.send(&[8; MAX_FRAME]));
}

#[test]
fn what_comes_is_bounded_by_the_buffers_and_waits_in_them() {
    let card = Card::new();
    let mut net = start(&card);
    for n in 0..LANE as u8 {
        assert!(card.borrow_mut().bring(12, &[n; 1518]));
    }
    assert!(!card.borrow_mut().bring(12, &[99; 60]), "there is no buffer");
    assert_eq!(received(&mut net, 2), [[0; 1518], [1; 1518]]);
    assert!(card.borrow_mut().bring(12, &[99; 60]), "two are back");
    assert_eq!(received(&mut net, 99).len(), LANE - 1);
}

#[test]
fn a_card_that_lies_is_reset_and_not_used_again() {
    // A buffer that there is not, and one for sending that it does not have.
    for (queue, token) in [(0, LANE as u32), (0, u32::MAX), (1, 0)] {
        let card = Card::new();
        let mut net = start(&card);
        card.borrow_mut().end(queue, token, 72);
        assert!(received(&mut net, 9).is_empty() && !(queue == 1 && net.send(&[1; 60])));
        assert!(net.fault().is_some() && card.borrow().status.is_empty());
        assert!(!net.send(&[1; 60]), "it is not used again");
    }
}

#[test]
fn a_length_that_is_too_long_or_shorter_than_the_header_is_cut() {
    let card = Card::new();
    let mut net = start(&card);
    for (claimed, expected) in [(u32::MAX, MAX_FRAME), (1 << 16, MAX_FRAME), (5, 0), (12, 0)] {
        let head = card.borrow_mut().take(0).unwrap().0;
        card.borrow_mut().end(0, head.into(), claimed);
        assert_eq!(received(&mut net, 1)[0].len(), expected);
    }
}

#[test]
fn a_slot_without_a_network_card_is_left_as_it_is() {
    // Magic value, version and device ID of virtio-mmio (4.2.2): an empty slot, no virtio device,
    // and a disk.
    for (magic, id) in [(0x7472_6976, 0), (0, 0), (0x7472_6976, 2)] {
        let registers = Box::leak(Box::new([0_u32; 128]));
        registers[..3].copy_from_slice(&[magic, 2, id]);
        registers[0x70 / 4] = 0xf;
        let before = *registers;
        let registers: *mut [u32; 128] = registers;
        let slot = Slot { address: registers.expose_provenance(), size: size_of::<[u32; 128]>() };
        let memory = Box::leak(Box::new(CardMemory::new()));
        // SAFETY: 1. The registers live for ever, and nobody else uses them now. 2. No device reads
        // the memory.
        let error = unsafe { VirtioNet::start(slot, memory) }.err();
        assert!(error.is_some_and(|error| error.is_no_card()), "others can have it");
        // SAFETY: `registers` points to the registers above, which nobody uses any more.
        assert_eq!(unsafe { *registers }, before, "its status is that of its driver");
    }
    let error = Error::Features { address: 0, features: VERSION_1 };
    assert!(!error.is_no_card(), "a card that was set up in part is kept");
}
