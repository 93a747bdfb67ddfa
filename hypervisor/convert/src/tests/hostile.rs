//! Streams that lie in every length and number that they have, one at a time.

use std::ops::Range;

use super::*;
use crate::qemu::ram::{Ram, ReadError};
use crate::qemu::read::{Origin, read};
use crate::qemu::whole::write;
use crate::qemu::{Cpu, Part, Sections};

/// What QEMU 10.0 has written of a machine that never ran, without its memory.
const BASE: &[u8] = include_bytes!("virt-10.0-a57.base");
/// What is said instead of a number.
const LIES: [&str; 7] = ["0", "1", "65537", "4294967295", "18446744073709551615", "-1", "1e300"];

/// Returns where the description at the stream's end begins.
fn description() -> usize {
    BASE.windows(2).rposition(|bytes| bytes == [0, 6]).unwrap() + 6
}

/// Returns the base with another description, whose length is right.
fn with_description(json: &str) -> Vec<u8> {
    let start = description();
    let mut stream = BASE[..start - 4].to_vec();
    stream.extend((json.len() as u32).to_be_bytes());
    stream.extend(json.bytes());
    stream
}

/// Returns where the numbers of a text in JSON are.
fn numbers(json: &str) -> Vec<Range<usize>> {
    let is_digit = |at: usize| json.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
    let starts = (1..json.len()).filter(|at| is_digit(*at) && json[..*at].ends_with(": "));
    starts.map(|start| start..(start..).find(|at| !is_digit(*at)).unwrap()).collect()
}

/// Reads and writes a machine in the stream. Whatever is wrong is one line.
fn survives(stream: &[u8]) {
    let line = |error: String| assert_eq!(error.lines().count(), 1, "{error}");
    let mut bytes = stream.to_vec();
    let sections = match Sections::find(&bytes) {
        Ok(sections) => sections,
        Err(error) => return line(error.to_string()),
    };
    let mut base = BASE.to_vec();
    let fresh = Sections::find(&base).unwrap();
    let cpu = Cpu::named("cortex-a57").unwrap();
    let mut part = Part { bytes: &mut bytes, sections: &sections };
    let mut fresh = Part { bytes: &mut base, sections: &fresh };
    if let Err(error) = read(&mut part, &mut fresh, Origin::Tcg(&cpu), &|_| Some(0)) {
        line(error.to_string());
    }
    let mut state = GuestState::reset(1);
    *state.guest.ram_base = crate::qemu::whole::RAM_BASE;
    *state.clock.cntfrq = 62_500_000;
    if let Err(error) = write(&state, &[], &mut bytes, &sections, Backend::Tcg) {
        line(error.to_string());
    }
}

#[test]
fn every_number_of_the_description_may_lie() {
    let json = std::str::from_utf8(&BASE[description()..]).unwrap();
    let numbers = numbers(json);
    assert!(numbers.len() > 200, "only {} numbers", numbers.len());
    for place in numbers {
        for lie in LIES {
            survives(&with_description(&[&json[..place.start], lie, &json[place.end..]].concat()));
        }
    }
}

#[test]
fn every_length_between_the_sections_may_lie() {
    // The configuration's, the description's, and that of each section's name.
    let mut places = vec![9..13, description() - 4..description()];
    for section in Sections::find(BASE).unwrap().all {
        let name = section.contents.start - 8 - section.device.name.len();
        places.push(name - 1..name);
        assert_eq!(usize::from(BASE[name - 1]), section.device.name.len());
    }
    for place in places {
        for lie in [0, 1, 0x7f, 0x80, 0xff] {
            let mut stream = BASE.to_vec();
            stream[place.clone()].fill(lie);
            survives(&stream);
        }
    }
}

#[test]
fn a_stream_may_end_anywhere() {
    for end in (0..BASE.len()).rev().step_by(97).chain(0..64) {
        assert!(Sections::find(&BASE[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn every_length_in_the_memory_may_lie() {
    let mut memory = BASE[..8].to_vec();
    memory.extend(b"\x01\0\0\0\x02\x03ram\0\0\0\0\0\0\0\x04");
    memory.extend(0x20_0004_u64.to_be_bytes());
    memory.extend(b"\x0dmach-virt.ram");
    memory.extend(0x20_0000_u64.to_be_bytes());
    memory.extend(b"\0\0\0\0\0\0\0\x10\x7e\0\0\0\x02");
    memory.extend(b"\x03\0\0\0\x02\0\0\0\0\0\0\0\x10\x7e\0\0\0\x02");
    assert!(Ram::find(&mut &memory[..], 8).is_ok());
    for width in [1, 2, 4, 8] {
        for at in 8..=memory.len() - width {
            for lie in [0, 1, 0x7f, 0x80, 0xff] {
                let mut stream = memory.clone();
                stream[at..at + width].fill(lie);
                match Ram::find(&mut &stream[..], 8) {
                    Ok(ram) => assert!(ram.end <= stream.len() as u64),
                    Err(ReadError::Stream(error)) => {
                        assert_eq!(error.to_string().lines().count(), 1);
                    }
                    Err(ReadError::Source(never)) => match never {},
                }
            }
        }
    }
}
