//! Registers that are unknown, absent, in part or malformed.

use crate::{
    common::{
        edit::{register, scalar},
        load,
    },
    edited, refused, small,
};
use stasis_state::{Error, RecordType, RegHeader};
use zerocopy::IntoBytes;

/// Returns the small file with bytes appended to the body of CLOCK.
fn with_clock(bytes: &[u8]) -> Vec<u8> {
    edited(|file| file.record(RecordType::Clock, 0).body.extend_from_slice(bytes))
}

/// Returns the small file with one register as the whole body of PL011.
fn with_pl011(header: RegHeader, value: &[u8]) -> Vec<u8> {
    edited(|file| file.record(RecordType::DevicePl011, 0).body = register(header, value))
}

#[test]
fn an_unknown_register_is_refused_unless_it_is_0_or_optional() {
    let unknown = scalar(0x77, 4);
    let line = "record 1 (CLOCK): register 0x0077 is unknown to this version, and is not 0";
    refused(&with_clock(&register(unknown, &[0, 0, 1, 0])), line);
    let same = load(&small()).unwrap().state;
    let neutral = load(&with_clock(&register(unknown, &[0; 4]))).unwrap();
    assert_eq!(neutral.state, same);
    assert!(neutral.skipped.is_empty(), "nothing is lost with a register that is 0");
    let optional = RegHeader { flags: RegHeader::OPTIONAL, ..unknown };
    let skipped = load(&with_clock(&register(optional, &[0, 0, 1, 0]))).unwrap();
    assert_eq!(skipped.state, same);
    assert_eq!(skipped.skipped.to_string(), "1 register that this version does not know");
}

#[test]
fn a_register_that_is_absent_has_its_reset_value() {
    let file = edited(|file| file.record(RecordType::DevicePl011, 0).body.clear());
    let state = load(&file).unwrap().state;
    assert_eq!(state.devices.pl011, Default::default());
    assert_eq!(*state.devices.pl011.ifls, 0x12);
}

#[test]
fn an_array_may_be_stored_in_part() {
    let header = RegHeader { id: 1, width: 2, flags: 0, first: 14, count: 2 };
    let state = load(&with_pl011(header, &[0x34, 0x02, 0x78, 0x06])).unwrap().state;
    assert_eq!(state.devices.pl011.rx_fifo[13..], [0, 0x234, 0x678]);
}

#[test]
fn an_array_has_no_elements_beyond_its_end() {
    let header = |first, count| RegHeader { id: 1, width: 2, flags: 0, first, count };
    let line = "record 10 (DEVICE_PL011): rx_fifo has 2 elements from 15 on, of 16 that there are";
    refused(&with_pl011(header(15, 2), &[0; 4]), line);
    for (first, count) in [(0, 17), (16, 1), (u16::MAX, 1)] {
        let file = with_pl011(header(first, count), &vec![0; usize::from(count) * 2]);
        assert!(matches!(load(&file), Err(Error::WrongCount { .. })), "{first}, {count}");
    }
}

#[test]
fn a_register_of_another_shape_is_refused() {
    let line = "record 10 (DEVICE_PL011): cr has elements of 8 bytes but should have 4";
    refused(&with_pl011(scalar(8, 8), &[0; 8]), line);
    let line = "record 10 (DEVICE_PL011): register 0x0008 has elements of 3 bytes, which none has";
    refused(&with_pl011(scalar(8, 3), &[0; 3]), line);
    let line = "record 10 (DEVICE_PL011): register 0x0008 has flags 0x02, which this version does \
                not know";
    refused(&with_pl011(RegHeader { flags: 2, ..scalar(8, 4) }, &[0; 4]), line);
}

#[test]
fn a_register_must_fit_in_its_record() {
    let line = "record 1 (CLOCK): the register at byte 48 does not fit in the record";
    refused(&with_clock(&[1]), line);
    refused(&with_clock(scalar(9, 4).as_bytes()), line);
    refused(&with_clock(&register(RegHeader { count: 3, ..scalar(9, 8) }, &[0; 16])), line);
}

#[test]
fn a_register_without_elements_is_refused_known_or_not() {
    let empty = |id| with_clock(&register(RegHeader { count: 0, ..scalar(id, 4) }, &[]));
    refused(&empty(0x77), "record 1 (CLOCK): register 0x0077 has no elements");
    refused(&empty(3), "record 1 (CLOCK): register 0x0003 has no elements");
    let optional = RegHeader { flags: RegHeader::OPTIONAL, count: 0, ..scalar(0x77, 4) };
    let line = "record 1 (CLOCK): register 0x0077 has no elements";
    refused(&with_clock(&register(optional, &[])), line);
}

#[test]
fn an_unknown_register_is_there_once_too() {
    let optional = RegHeader { flags: RegHeader::OPTIONAL, ..scalar(0x77, 4) };
    for header in [scalar(0x77, 4), optional] {
        let once = register(header, &[0; 4]);
        let line = "record 1 (CLOCK): register 0x0077 is there twice";
        refused(&with_clock(&once.repeat(2)), line);
        let other = register(scalar(0x78, 4), &[0; 4]);
        assert!(load(&with_clock(&[once, other].concat())).is_ok());
    }
}

#[test]
fn a_register_is_there_once_and_padded_with_0() {
    let line = "record 1 (CLOCK): register 0x0002 is there twice";
    refused(&with_clock(&register(scalar(2, 8), &[0; 8])), line);
    let mut padded = register(scalar(9, 4), &[0; 4]);
    *padded.last_mut().unwrap() = 1;
    refused(&with_clock(&padded), "record 1 (CLOCK): the padding of register 0x0009 is not 0");
}
