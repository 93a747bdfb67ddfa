//! Network cards.

use super::*;
use crate::virtio::address::{Address, address_of};
use crate::virtio::net::{Card, Traffic};

const ADDRESS: Address = [0x52, 1, 2, 3, 4, 5];

fn card(queue: u32) -> Driver {
    Driver::of_queue(&[Fitting::Card { network: "lan", address: ADDRESS }], queue)
}

#[test]
fn a_card_has_its_address_its_link_and_its_mtu_in_its_configuration() {
    let mut driver = card(0);
    let address: Vec<u8> = (0..6).map(|n| driver.read_as(0x100 + n, Width::Byte) as u8).collect();
    assert_eq!(address, ADDRESS);
    assert_eq!(driver.read_as(0x106, Width::Halfword), 1);
    assert_eq!(driver.read_as(0x10a, Width::Halfword), 1500);
    let cards: Vec<_> = driver.slots.cards().collect();
    let traffic = Traffic::default();
    assert_eq!(cards, [Card { slot: 0, address: ADDRESS, network: "lan", is_up: true, traffic }]);
}

#[test]
fn a_frame_is_sent_without_its_header() {
    let mut driver = card(1);
    let frame: Vec<u8> = (0..100).collect();
    driver.store(BUFFERS, &[0; 12]);
    driver.store(BUFFERS + 12, &frame[..20]);
    driver.store(BUFFERS + 0x1000, &frame[20..]);
    driver.describe(DESC, 0, (BUFFERS, 32), NEXT);
    driver.describe(DESC, 1, (BUFFERS + 0x1000, 80), 0);
    driver.publish(0);
    driver.serve(None);
    assert_eq!(driver.frame, frame);
    assert_eq!(driver.used(), (1, 0, 0));
}

#[test]
fn what_is_no_frame_is_lost_and_completed() {
    for len in [0, 11, 12, 25, 12 + 1519, u32::MAX] {
        let mut driver = card(1);
        driver.describe(DESC, 0, (BUFFERS, len), 0);
        driver.publish(0);
        driver.serve(None);
        assert!(driver.frame.is_empty(), "{len}");
        assert_eq!(driver.used().0, 1);
    }
}

#[test]
fn a_frame_that_comes_is_in_the_next_buffer_with_a_header() {
    let mut driver = card(0);
    let frame = [7; 60];
    let receive = |driver: &mut Driver| {
        let (slots, mut memory) = driver.memory();
        slots.receive(0, &mut memory, &frame)
    };
    assert!(!receive(&mut driver), "there is no buffer yet");
    driver.describe(DESC, 0, (BUFFERS, 12), WRITE | NEXT);
    driver.describe(DESC, 1, (BUFFERS + 0x1000, 1518), WRITE);
    driver.publish(0);
    assert!(receive(&mut driver));
    assert_eq!(driver.used(), (1, 0, 72));
    assert_eq!(driver.load(BUFFERS), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(driver.load(BUFFERS + 0x1000), frame);
    assert!(driver.slots.line(0));
    assert!(!receive(&mut driver), "the buffer is used");
}

#[test]
fn without_a_link_nothing_is_sent_and_nothing_comes_and_the_driver_is_told() {
    let mut driver = card(1);
    driver.slots.set_links(false);
    assert_eq!((driver.read(0x60), driver.read_as(0x106, Width::Halfword)), (2, 0));
    driver.describe(DESC, 0, (BUFFERS, 72), 0);
    driver.publish(0);
    driver.serve(None);
    assert!(driver.frame.is_empty());
    assert_eq!(driver.used().0, 1, "it is completed all the same");

    let mut driver = card(0);
    driver.describe(DESC, 0, (BUFFERS, 1530), WRITE);
    driver.publish(0);
    let (slots, mut memory) = driver.memory();
    slots.set_links(false);
    assert!(!slots.receive(0, &mut memory, &[7; 60]));
    slots.set_links(true);
    assert!(slots.receive(0, &mut memory, &[7; 60]));
    assert!(!slots.receive(0, &mut memory, &[7; 60]), "the buffer is used");
    let moved = slots.cards().next().map(|card| card.traffic);
    assert_eq!(moved, Some(Traffic { sent: 0, received: 1, lost: 1 }));
    assert_eq!(driver.read(0xfc), 2, "the configuration has changed twice");
}

#[test]
fn a_buffer_that_is_too_small_for_a_frame_is_contained() {
    let mut driver = card(0);
    driver.describe(DESC, 0, (BUFFERS, 40), WRITE);
    driver.publish(0);
    let (slots, mut memory) = driver.memory();
    assert!(!slots.receive(0, &mut memory, &[7; 60]));
    assert_eq!(driver.read(0x70), 0x4f);
}

#[test]
fn a_guest_announces_itself_once_after_a_resume() {
    let mut driver = card(2);
    driver.slots.announce();
    assert_eq!(driver.read(0x60), 2);
    assert_eq!((driver.read_as(0x106, Width::Halfword), driver.read(0xfc)), (3, 1));
    for (class, answer) in [(3, 0), (1, 1)] {
        driver.store(BUFFERS, &[class, 0]);
        driver.describe(DESC, 0, (BUFFERS, 2), NEXT);
        driver.describe(DESC, 1, (BUFFERS + 0x100, 1), WRITE);
        driver.publish(0);
        driver.serve(None);
        assert_eq!(driver.load(BUFFERS + 0x100), [answer]);
    }
    assert_eq!(driver.read_as(0x106, Width::Halfword), 1);
}

#[test]
fn a_card_whose_driver_does_not_announce_is_not_asked_to() {
    let mut driver = card(0);
    driver.write(0x70, 0);
    driver.slots.announce();
    assert_eq!((driver.read(0x60), driver.read_as(0x106, Width::Halfword)), (0, 1));
}

#[test]
fn cards_of_different_guests_and_networks_have_different_addresses() {
    let addresses = [("a", "lan"), ("b", "lan"), ("a", "wan"), ("al", "an")];
    let mut addresses = addresses.map(|(guest, network)| address_of(guest, network));
    assert!(addresses.iter().all(|address| address[0] == 0x52));
    addresses.sort_unstable();
    assert!(addresses.windows(2).all(|pair| pair[0] != pair[1]));
    assert_eq!(address_of("a", "lan"), address_of("a", "lan"));
}
