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
        switch.plug(guest, 0, address, network);
    }
    switch.plug('x', 0, A, "other");
    switch
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
    switch.plug('d', 0, OTHER, "lan");
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
        switch.plug(n, 0, A, &format!("lan{n}"));
        switch.unplug(|guest| *guest == n);
    }
    assert_eq!(switch.networks.len(), 1);
    switch.plug(0, 0, A, "lan");
    switch.plug(1, 0, B, "lan");
    assert_eq!(switch.networks.len(), 1);
}
