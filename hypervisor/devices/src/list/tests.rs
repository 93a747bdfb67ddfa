use stasis_state::device::MAX_SHARED;

use super::*;
use crate::machine::{
    DEVICE_BASE, DEVICE_SPI, DEVICE_WINDOW, RAM_BASE, SHARED_BASE, SHARED_STRIDE,
};

fn found(ipa: u64, width: Width) -> Option<(Kind, u8, u64)> {
    let target = lookup(ipa, width)?;
    assert_eq!(target.access.width, width);
    Some((target.kind, target.access.n, target.access.offset))
}

#[test]
fn every_device_is_found_at_both_ends_of_each_of_its_windows() {
    for (kind, name, Window { base, size, count, .. }) in PLACES {
        for n in 0..*count {
            let first = base + u64::from(n) * size;
            for offset in [0, size - 4] {
                let expected = Some((*kind, n, offset));
                assert_eq!(found(first + offset, Width::Word), expected, "{name}");
            }
        }
    }
    for (ipa, expected) in [
        (0x0800_0000, (Kind::Gicd, 0, 0)),
        (0x0800_0ffc, (Kind::Gicd, 0, 0xffc)),
        (0x0801_1000, (Kind::GiccDir, 0, 0)),
        (0x0801_1ffc, (Kind::GiccDir, 0, 0xffc)),
    ] {
        assert_eq!(found(ipa, Width::Word), Some(expected), "{ipa:#x}");
    }
}

/// Returns the rows of a table of `docs/guest-machine.md`, of which `head` is the beginning of the
/// first.
fn rows(head: &str) -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guest-machine.md");
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().skip_while(|line| !line.starts_with(head)).skip(2);
    lines.take_while(|line| line.starts_with('|')).map(String::from).collect()
}

#[test]
fn the_page_has_the_addresses_and_interrupts_of_every_device() {
    let (memory, interrupts) = (rows("| guest-physical |"), rows("| INTID |"));
    for (_, name, Window { base, count, spi, .. }) in PLACES {
        let address = format!("| 0x{:04x}_{:04x} ", base >> 16, base & 0xffff);
        let has_row = memory.iter().any(|row| row.starts_with(&address));
        assert!(has_row, "{name}: no row of the memory map begins with {address}");
        let Some(spi) = spi else { continue };
        let (first, last) = (FIRST_SPI + spi, FIRST_SPI + spi + u16::from(*count) - 1);
        let intids =
            if first == last { format!("| {first} ") } else { format!("| {first}-{last} ") };
        let has_row = interrupts.iter().any(|row| row.starts_with(&format!("{intids}| SPI {spi}")));
        assert!(has_row, "{name}: no row of the interrupts begins with {intids}| SPI {spi}");
    }
}

#[test]
fn nothing_is_found_beside_the_devices() {
    for ipa in [
        0,
        0x03ff_fffc,
        0x0800_1000,
        0x0800_fffc,
        0x0801_0000,
        0x0801_2000,
        0x08ff_fffc,
        0x0900_1000,
        0x0901_1000,
        0x0910_2000,
        0x0911_4000,
        0x1000_0000,
        0x0a00_4000,
        0x4000_0000,
        u64::MAX - 3,
    ] {
        assert_eq!(lookup(ipa, Width::Word), None, "{ipa:#x}");
    }
}

#[test]
fn an_access_that_is_not_aligned_finds_nothing() {
    assert_eq!(found(0x0900_0001, Width::Byte), Some((Kind::Uart, 0, 1)));
    assert_eq!(found(0x0900_0001, Width::Halfword), None);
    assert_eq!(found(0x0900_0002, Width::Word), None);
    assert_eq!(found(0x0900_0004, Width::Doubleword), None);
}

/// Returns every address at which a device begins or ends.
fn windows() -> Vec<Window> {
    let mut windows = vec![
        Window { base: GICD_BASE, size: GICD_REGISTERS, count: 1, spi: None },
        Window { base: GICC_BASE, size: GICC_SIZE, count: 1, spi: None },
        Window { base: SHARED_BASE, size: SHARED_STRIDE, count: MAX_SHARED as u8, spi: None },
        Window { base: DEVICE_BASE, size: DEVICE_WINDOW, count: 1, spi: Some(DEVICE_SPI as u16) },
    ];
    windows.extend(PLACES.iter().map(|(_, _, window)| *window));
    windows
}

#[test]
fn no_two_devices_have_an_address_or_an_interrupt_in_common() {
    let windows = windows();
    for (n, one) in windows.iter().enumerate() {
        assert!(one.size.is_power_of_two() && one.end() <= RAM_BASE, "{one:x?}");
        for other in &windows[n + 1..] {
            assert!(one.end() <= other.base || other.end() <= one.base, "{one:x?}, {other:x?}");
            let (Some(first), Some(second)) = (one.spi, other.spi) else { continue };
            let apart =
                first + u16::from(one.count) <= second || second + u16::from(other.count) <= first;
            assert!(apart, "{one:x?}, {other:x?}");
        }
    }
}

#[test]
fn interrupts_have_the_names_of_what_raises_them() {
    let mut expected = vec![(27, "virtual timer"), (30, "physical timer")];
    for (_, name, window) in PLACES {
        let Some(first) = window.spi.map(|spi| FIRST_SPI + spi) else { continue };
        expected.extend((first..).take(window.count.into()).map(|intid| (intid, *name)));
    }
    expected.sort_unstable();
    let named = (0..1024).filter_map(|intid| Some((intid, interrupt_name(intid)?)));
    assert_eq!(named.collect::<Vec<_>>(), expected);
}

#[test]
fn a_new_guest_has_what_its_equipment_says_and_nothing_else() {
    let mut records = Stored::default();
    fit(&mut records, &Equipment::default());
    assert_eq!(records, Stored::default());
    let equipment =
        Equipment { watchdog_us: Some(2_000_000), counter_hz: 1000, ..Equipment::default() };
    fit(&mut records, &equipment);
    assert_eq!(*records.watchdog.as_ref().unwrap().wor, 1000, "half of 2000 ticks");
    assert!(records.shared.is_none());

    let devices = Devices::restored(records, 0);
    let target = |ipa| lookup(ipa, Width::Word).unwrap();
    assert!(devices.has(target(0x0910_0000)) && !devices.has(target(0x0911_0000)));
    let mut lines = Vec::new();
    devices.lines(|line| lines.push(line.intid));
    assert!(lines.contains(&42) && !lines.contains(&43), "{lines:?}");
}
