use super::*;
use crate::access::Width;
use crate::device::tests::{access, at};

const HZ: u64 = 1000;
const BOTH_WAYS: u8 = 0xff;

fn get(gpio: &Pl061, offset: u64) -> u64 {
    gpio.clone().read(access(offset, Width::Byte), &mut at(0))
}

fn set(gpio: &mut Pl061, offset: u64, value: u8) {
    assert_eq!(gpio.write(access(offset, Width::Byte), value.into(), &mut at(0)), Effects::NONE);
}

/// A GPIO controller with these registers, and the key's interrupt enabled.
fn gpio(is: u8, ibe: u8, iev: u8) -> Pl061 {
    let mut gpio = Pl061::default();
    for (offset, value) in [(offset::IS, is), (offset::IBE, ibe), (offset::IEV, iev)] {
        set(&mut gpio, offset, value);
    }
    set(&mut gpio, offset::IE, KEY);
    gpio
}

#[test]
fn after_a_reset_every_line_is_an_input_and_low() {
    let gpio = Pl061::default();
    for offset in (0..0x424).step_by(4) {
        assert_eq!(get(&gpio, offset), 0, "{offset:#x}");
    }
    assert!(!gpio.line(0));
    assert_eq!(gpio.due(), Due::NEVER);
}

#[test]
fn the_identification_is_a_pl061s() {
    let ids: Vec<u64> = (0xfd0..0x1000).step_by(4).map(|at| get(&Pl061::default(), at)).collect();
    assert_eq!(ids, [0, 0, 0, 0, 0x61, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1]);
}

#[test]
fn the_address_masks_the_lines_that_data_is_about() {
    let mut gpio = Pl061::default();
    set(&mut gpio, offset::DIR, 0xf0);
    set(&mut gpio, 0x3fc, 0xff);
    assert_eq!(get(&gpio, 0x3fc), 0xf0, "inputs are not written");
    set(&mut gpio, 0x30 << 2, 0x10);
    assert_eq!(get(&gpio, 0x3fc), 0xd0, "lines 4 and 5 alone were written");
    assert_eq!(get(&gpio, 0x90 << 2), 0x90);
    assert_eq!(get(&gpio, 0), 0, "no line is in the mask");
}

#[test]
fn a_line_that_is_no_output_any_more_is_low_and_is_driven_again_later() {
    let mut gpio = Pl061::default();
    set(&mut gpio, offset::DIR, 1);
    set(&mut gpio, 0x3fc, 1);
    set(&mut gpio, offset::DIR, 0);
    assert_eq!(get(&gpio, 0x3fc), 0);
    set(&mut gpio, offset::DIR, 1);
    assert_eq!(get(&gpio, 0x3fc), 1);
}

#[test]
fn a_press_raises_the_line_for_100_ms_of_the_guests_time() {
    let mut gpio = Pl061::default();
    press(&mut gpio, 500, HZ);
    assert_eq!(get(&gpio, 0x3fc), u64::from(KEY));
    assert_eq!(gpio.due(), Due::at(Deadline::GuestTime(600)));
    gpio.tick(&at(599));
    assert_eq!(get(&gpio, 0x3fc), u64::from(KEY));
    press(&mut gpio, 599, HZ);
    gpio.tick(&at(600));
    assert_eq!(get(&gpio, 0x3fc), u64::from(KEY), "it was pressed again");
    gpio.tick(&at(699));
    assert_eq!((get(&gpio, 0x3fc), gpio.due()), (0, Due::NEVER));
}

#[test]
fn an_edge_interrupts_in_the_directions_that_the_guest_has_chosen() {
    for (ibe, iev, at_press, at_release) in
        [(0, 0, false, true), (0, BOTH_WAYS, true, false), (KEY, 0, true, true)]
    {
        let mut gpio = gpio(0, ibe, iev);
        press(&mut gpio, 0, HZ);
        assert_eq!(gpio.line(0), at_press, "IBE {ibe:#x}, IEV {iev:#x}: the press");
        set(&mut gpio, offset::IC, KEY);
        press(&mut gpio, 0, HZ);
        assert!(!gpio.line(0), "it was cleared, and the key is down already");
        gpio.tick(&at(100));
        assert_eq!(gpio.line(0), at_release, "IBE {ibe:#x}, IEV {iev:#x}: the release");
    }
}

#[test]
fn the_interrupt_of_a_level_lasts_as_long_as_the_level() {
    let mut gpio = gpio(KEY, 0, KEY);
    assert!(!gpio.line(0));
    press(&mut gpio, 0, HZ);
    set(&mut gpio, offset::IC, KEY);
    assert!(gpio.line(0), "only edges can be cleared");
    gpio.tick(&at(100));
    assert!(!gpio.line(0));
    set(&mut gpio, offset::IEV, 0);
    assert!(gpio.line(0), "the low level");
}

#[test]
fn an_interrupt_that_is_not_enabled_is_in_ris_alone() {
    let mut gpio = gpio(0, KEY, 0);
    assert!(hears_key(&gpio));
    set(&mut gpio, offset::IE, !KEY);
    assert!(!hears_key(&gpio));
    press(&mut gpio, 0, HZ);
    assert_eq!((get(&gpio, offset::RIS), get(&gpio, offset::MIS)), (KEY.into(), 0));
    assert!(!gpio.line(0));
    set(&mut gpio, offset::IE, KEY);
    assert!(gpio.line(0) && get(&gpio, offset::MIS) == KEY.into());
}

#[test]
fn a_key_at_a_line_that_is_an_output_does_nothing() {
    let mut gpio = gpio(0, KEY, 0);
    set(&mut gpio, offset::DIR, KEY);
    assert!(!hears_key(&gpio));
    press(&mut gpio, 0, HZ);
    gpio.tick(&at(100));
    assert_eq!((get(&gpio, 0x3fc), get(&gpio, offset::RIS)), (0, 0));
}

#[test]
fn every_value_survives_and_none_panics() {
    let mut gpio = Pl061::default();
    for offset in (0..0x1000).step_by(8) {
        gpio.write(access(offset, Width::Doubleword), u64::MAX, &mut at(0));
        gpio.read(access(offset, Width::Doubleword), &mut at(0));
    }
    press(&mut gpio, u64::MAX, u64::MAX);
    gpio.tick(&at(u64::MAX - 1));
    assert!(is_down(&gpio));
    let again = Pl061::restored(gpio.record().clone(), 0);
    assert_eq!(again, gpio);
}
