//! Frames on a switch with four guests: who gets them, and who may send them.

use super::*;
use alloc::format;

const A: Address = [2, 0, 0, 0, 0, 0xa];
const B: Address = [2, 0, 0, 0, 0, 0xb];
const C: Address = [2, 0, 0, 0, 0, 0xc];
const OTHER: Address = [2, 0, 0, 0, 0, 0xf];
const ALL: Address = [0xff; 6];

fn switch() -> Switch<char> {
    let mut switch = Switch::new();
    for (guest, address, network) in [('a', A, "lan"), ('b', B, "lan"), ('c', C, "lan")] {
        plug(&mut switch, guest, address, network);
    }
    plug(&mut switch, 'x', A, "other");
    switch
}

/// Plugs in the card in slot 0 of a guest, whose address was made for it.
fn plug<T: Copy + PartialEq>(switch: &mut Switch<T>, guest: T, address: Address, network: &str) {
    let card = Plug { slot: 0, address, network, is_original: true };
    switch.plug(&guest, |other| *other == guest, [card].into_iter());
}

/// Plugs in the card in slot 0 of a guest that is a copy of another one.
fn plug_copy(switch: &mut Switch<char>, guest: char, address: Address) {
    let card = Plug { slot: 0, address, network: "lan", is_original: false };
    switch.plug(&guest, |other| *other == guest, [card].into_iter());
}

#[test]
fn an_address_stays_with_the_original_whichever_of_it_and_its_copies_comes_first() {
    let mut switch = switch();
    plug_copy(&mut switch, 't', A);
    let original_has_it = |switch: &mut Switch<char>| {
        assert_eq!(sent(switch, 'a', B, A).unwrap(), "b");
        assert_eq!(sent(switch, 'b', A, B).unwrap(), "a");
        assert_eq!(sent(switch, 't', B, A), Err(Dropped::Spoofed));
    };
    original_has_it(&mut switch);
    // The original is resumed in its place.
    plug(&mut switch, 'a', A, "lan");
    original_has_it(&mut switch);
    // The original is removed, and started again.
    switch.unplug(|guest| *guest == 'a');
    assert_eq!(sent(&mut switch, 'b', A, B).unwrap(), "t");
    plug(&mut switch, 'a', A, "lan");
    original_has_it(&mut switch);
    assert_eq!(sent(&mut switch, 't', B, OTHER).unwrap(), "b");
}

#[test]
fn of_copies_the_older_one_has_the_address_also_when_it_is_resumed_in_its_place() {
    let mut switch = switch();
    for guest in ['s', 't'] {
        plug_copy(&mut switch, guest, OTHER);
    }
    plug_copy(&mut switch, 's', OTHER);
    assert_eq!(sent(&mut switch, 's', B, OTHER).unwrap(), "b");
    assert_eq!(sent(&mut switch, 't', B, OTHER), Err(Dropped::Spoofed));
}

#[test]
fn the_ports_of_a_network_are_counted() {
    let mut switch = switch();
    let counts = |switch: &Switch<char>| ["lan", "other", "none"].map(|it| switch.port_count(it));
    assert_eq!(counts(&switch), [3, 1, 0]);
    plug(&mut switch, 'a', A, "other");
    switch.unplug(|guest| *guest == 'x');
    assert_eq!(counts(&switch), [2, 1, 0]);
    switch.connect("lan", 0);
    assert_eq!(counts(&switch), [3, 1, 0]);
}

#[test]
fn a_card_that_is_plugged_in_anew_is_in_its_new_network_and_slot_alone() {
    let mut switch = switch();
    let card = Plug { slot: 1, address: A, network: "other", is_original: true };
    switch.plug(&'a', |guest| *guest == 'a', [card].into_iter());
    assert_eq!(sent(&mut switch, 'a', B, A), Err(Dropped::NoPort), "slot 0 is a disk now");
    assert_eq!(sent(&mut switch, 'b', ALL, B).unwrap(), "c");
}

/// Returns who gets a frame that a guest sends at second 0.
fn sent(
    switch: &mut Switch<char>,
    from: char,
    to: Address,
    source: Address,
) -> Result<String, Dropped> {
    sent_at(switch, from, to, source, 0)
}

fn sent_at(
    switch: &mut Switch<char>,
    from: char,
    to: Address,
    source: Address,
    now: u64,
) -> Result<String, Dropped> {
    let frame = [&to[..], &source, &[8, 0]].concat();
    let Receivers { ports, card } = switch.forward(|guest| *guest == from, 0, &frame, now)?;
    Ok(ports.map(|port| port.guest).chain(card.map(|_| '^')).collect())
}

#[test]
fn a_frame_goes_to_the_port_with_its_address_and_in_its_network_alone() {
    let mut switch = switch();
    assert_eq!(sent(&mut switch, 'a', B, A).unwrap(), "b");
    assert_eq!(sent(&mut switch, 'a', ALL, A).unwrap(), "bc");
    assert_eq!(sent(&mut switch, 'x', ALL, A).unwrap(), "");
    assert_eq!(sent(&mut switch, 'a', A, A), Err(Dropped::ToItself));
    assert_eq!(sent(&mut switch, 'z', B, A), Err(Dropped::NoPort));
}

#[test]
fn an_unknown_address_is_everybodys_until_it_is_learned() {
    let mut switch = switch();
    assert_eq!(sent(&mut switch, 'a', OTHER, A).unwrap(), "bc");
    assert_eq!(sent(&mut switch, 'c', ALL, OTHER).unwrap(), "ab");
    assert_eq!(sent(&mut switch, 'a', OTHER, A).unwrap(), "c");
}

#[test]
fn nobody_sends_under_a_neighbours_address() {
    let mut switch = switch();
    assert_eq!(sent(&mut switch, 'a', B, C), Err(Dropped::Spoofed));
    assert_eq!(sent(&mut switch, 'a', B, ALL), Err(Dropped::Spoofed));
    assert_eq!(sent(&mut switch, 'c', ALL, OTHER).unwrap(), "ab");
    assert_eq!(sent(&mut switch, 'a', B, OTHER), Err(Dropped::Spoofed));
    // A port that is plugged in later has its address back from whoever was faster.
    plug(&mut switch, 'd', OTHER, "lan");
    assert_eq!(sent(&mut switch, 'c', ALL, OTHER), Err(Dropped::Spoofed));
    assert_eq!(sent(&mut switch, 'a', OTHER, A).unwrap(), "d");
}

#[test]
fn what_is_learned_of_a_port_is_bounded() {
    let mut switch = switch();
    for n in 0..100 {
        assert!(sent(&mut switch, 'a', B, [6, 0, 0, 0, 0, n]).is_ok());
    }
    assert_eq!(switch.ports[0].learned.len(), MAX_LEARNED);
    switch.unplug(|guest| *guest == 'a');
    assert_eq!(sent(&mut switch, 'b', A, B).unwrap(), "c", "nobody has the address");
}

#[test]
fn a_frame_that_is_cut_goes_nowhere() {
    let mut switch = switch();
    assert!(switch.forward(|guest| *guest == 'a', 0, &[0; 11], 0).is_err());
}

/// Returns who gets a frame that comes from outside at second 0.
fn came(switch: &mut Switch<char>, to: Address, source: Address) -> Result<String, Dropped> {
    came_at(switch, to, source, 0)
}

fn came_at(
    switch: &mut Switch<char>,
    to: Address,
    source: Address,
    now: u64,
) -> Result<String, Dropped> {
    let frame = [&to[..], &source, &[8, 0]].concat();
    Ok(switch.admit(3, &frame, now)?.map(|port| port.guest).collect())
}

#[test]
fn what_no_guest_has_is_outside_and_what_comes_is_for_those_who_have_it() {
    let mut switch = switch();
    switch.connect("lan", 3);
    assert_eq!(sent(&mut switch, 'a', OTHER, A).unwrap(), "^", "no guest sees it");
    assert_eq!(sent(&mut switch, 'a', ALL, A).unwrap(), "bc^");
    assert_eq!(sent(&mut switch, 'a', B, A).unwrap(), "b", "it does not leave the machine");
    assert_eq!(sent(&mut switch, 'x', OTHER, A).unwrap(), "", "another network has no uplink");
    assert_eq!(came(&mut switch, B, OTHER).unwrap(), "b");
    assert_eq!(came(&mut switch, ALL, OTHER).unwrap(), "abc");
    assert_eq!(came(&mut switch, [2, 9, 9, 9, 9, 9], OTHER).unwrap(), "", "it is nobody's");
    assert_eq!(switch.admit(2, &[0; 14], 0).err(), Some(Dropped::NoPort));
}

#[test]
fn nobody_sends_under_an_address_that_was_seen_outside_and_nobody_comes_as_a_guest() {
    let mut switch = switch();
    switch.connect("lan", 3);
    // A guest that was faster than its owner loses the address.
    assert_eq!(sent(&mut switch, 'c', ALL, OTHER).unwrap(), "ab^");
    assert_eq!(sent(&mut switch, 'a', OTHER, A).unwrap(), "c");
    assert_eq!(came(&mut switch, A, OTHER).unwrap(), "a");
    assert_eq!(sent(&mut switch, 'c', ALL, OTHER), Err(Dropped::Spoofed));
    assert_eq!(sent(&mut switch, 'a', OTHER, A).unwrap(), "^");
    assert_eq!(came(&mut switch, B, A), Err(Dropped::Spoofed));
    assert_eq!(came(&mut switch, B, ALL), Err(Dropped::Spoofed));
}

#[test]
fn what_is_seen_outside_is_bounded() {
    let mut switch = switch();
    switch.connect("lan", 3);
    for n in 0..=255 {
        assert!(came(&mut switch, B, [6, 0, 0, 0, 0, n]).is_ok());
        assert!(came(&mut switch, B, [6, 0, 0, 0, 0, n]).is_ok());
    }
    let uplink = switch.networks[0].uplink.as_ref().unwrap();
    assert_eq!(uplink.outside.len(), MAX_OUTSIDE);
}

#[test]
fn a_guest_sends_under_an_address_again_that_was_not_seen_outside_for_300_seconds() {
    let mut switch = switch();
    switch.connect("lan", 3);
    // The guest was outside, and has come here with an address of its own making.
    assert_eq!(came_at(&mut switch, ALL, OTHER, 5).unwrap(), "abc");
    assert_eq!(came_at(&mut switch, ALL, OTHER, 10).unwrap(), "abc");
    assert_eq!(sent_at(&mut switch, 'c', ALL, OTHER, 309), Err(Dropped::Spoofed));
    assert_eq!(sent_at(&mut switch, 'c', ALL, OTHER, 310).unwrap(), "ab^");
    assert_eq!(sent_at(&mut switch, 'a', OTHER, A, 310).unwrap(), "c");
    // The address is seen outside again: a guest that has it by now loses it.
    assert_eq!(came_at(&mut switch, ALL, OTHER, 320).unwrap(), "abc");
    assert_eq!(sent_at(&mut switch, 'c', ALL, OTHER, 320), Err(Dropped::Spoofed));
    assert_eq!(sent_at(&mut switch, 'a', OTHER, A, 320).unwrap(), "^");
}

#[test]
fn the_address_that_was_not_seen_for_longest_is_forgotten_first() {
    let mut switch = switch();
    switch.connect("lan", 3);
    for n in 0..=255 {
        // The router is seen first, and always.
        assert!(came(&mut switch, B, OTHER).is_ok());
        assert!(came(&mut switch, B, [6, 0, 0, 0, 0, n]).is_ok());
    }
    assert_eq!(sent(&mut switch, 'c', ALL, OTHER), Err(Dropped::Spoofed));
    assert_eq!(sent(&mut switch, 'c', ALL, [6, 0, 0, 0, 0, 100]).unwrap(), "ab^");
}

#[test]
fn a_network_that_everybody_has_left_makes_room_for_another() {
    let mut switch = Switch::new();
    for n in 0..100 {
        plug(&mut switch, n, A, &format!("lan{n}"));
        switch.unplug(|guest| *guest == n);
    }
    assert_eq!(switch.networks.len(), 1);
    plug(&mut switch, 0, A, "lan");
    plug(&mut switch, 1, B, "lan");
    assert_eq!(switch.networks.len(), 1);
}
