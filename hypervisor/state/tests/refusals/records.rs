//! Records that are missing, unknown, repeated or out of place.

use crate::{
    common::{edit::Edited, load, load_ram, ram},
    edited, edited_1_0, refused, small, small_of_1_0,
};
use stasis_state::{Error, RecordHeader, RecordType, header::VERSION};

#[test]
fn a_record_that_is_missing_is_named() {
    let count = Edited::from_file(&small()).records.len();
    for position in 0..count {
        let file = edited(|file| {
            file.records.remove(position);
        });
        assert!(load(&file).is_err(), "record {position}");
    }
    let without = |kind| {
        edited(|file| {
            let position = file.position(kind, 0);
            file.records.remove(position);
        })
    };
    refused(&without(RecordType::VcpuFp), "there is no record VCPU_FP, vCPU 0");
    refused(&without(RecordType::Guest), "there is no record GUEST");
    refused(&without(RecordType::End), "there is no record END");
    refused(&without(RecordType::RamDirectory), "there is no record RAM_DIRECTORY");
    let file = edited_1_0(|file| drop(file.records.remove(file.position(RecordType::Memory, 0))));
    refused(&file, "the page at 0x40000000 is missing");
}

#[test]
fn a_record_that_is_there_twice_is_refused() {
    let count = Edited::from_file(&small()).records.len();
    let pad = Edited::from_file(&small()).position(RecordType::Pad, 0);
    for position in (0..count).filter(|position| *position != pad) {
        let file = edited(|file| file.records.insert(0, file.records[position].clone()));
        assert!(load(&file).is_err(), "record {position}");
    }
    let file = edited(|file| {
        let again = file.record(RecordType::Clock, 0).clone();
        file.records.insert(2, again);
    });
    refused(&file, "record 2 (CLOCK) is there twice");
}

#[test]
fn records_may_come_in_another_order() {
    let file = edited_1_0(|file| {
        let end = file.records.len() - 1;
        file.records[..end].rotate_left(7);
    });
    let checkpoint = load(&file).unwrap();
    assert_eq!(checkpoint.state, load(&small_of_1_0()).unwrap().state);
    assert!(load_ram(&file, &checkpoint).unwrap() == ram("a.b."));
    let file = edited(|file| {
        let pad = file.position(RecordType::Pad, 0);
        file.records[..pad].rotate_left(7);
    });
    assert_eq!(load(&file).unwrap().state, load(&small()).unwrap().state);
}

#[test]
fn an_unknown_record_is_skipped_only_if_it_is_optional() {
    let unknown = |kind| edited(|file| file.insert(3, kind, 9, &[1, 2, 3]));
    let line = format!(
        "record 3 (type 0x0055) is unknown: written by format 1.5; this reads up to {VERSION}"
    );
    refused(&unknown(0x55), &line);
    let file = unknown(0x55 | RecordHeader::OPTIONAL);
    let checkpoint = load(&file).unwrap();
    assert_eq!(checkpoint.skipped.to_string(), "1 record that this version does not know");
    assert!(load_ram(&file, &checkpoint).unwrap() == ram("A.bC"));
}

#[test]
fn a_record_of_a_vcpu_that_is_not_there_is_refused() {
    let file = edited(|file| file.record(RecordType::VcpuCore, 0).header.instance = 8);
    refused(&file, "record 5 (VCPU_CORE, vCPU 8): its instance is 8, but there is none such");
    let file = edited(|file| {
        let other = file.record(RecordType::VcpuCore, 0).body.clone();
        file.insert(3, RecordType::VcpuCore as u16, 1, &other);
    });
    refused(&file, "record 3 (VCPU_CORE, vCPU 1) is of vCPU 1, but the guest has 1");
    let file = edited(|file| file.record(RecordType::Guest, 0).header.instance = 1);
    assert!(matches!(load(&file), Err(Error::Instance { .. })));
}

#[test]
fn reserved_fields_are_0() {
    let file = edited(|file| file.record(RecordType::Clock, 0).header.reserved = 1);
    refused(&file, "record 1 (CLOCK): a reserved field or the padding is not 0");
}

#[test]
fn a_record_of_registers_has_a_greatest_length() {
    let file = edited(|file| file.record(RecordType::Clock, 0).body.resize(1 << 20, 0));
    let line = "record 1 (CLOCK) is 1048576 bytes long; such a record has at most 65536";
    refused(&file, line);
    let file = edited(|file| file.record(RecordType::End, 0).body.resize(8, 0));
    assert!(matches!(load(&file), Err(Error::RecordTooLong { length: 8, limit: 0, .. })));
}
