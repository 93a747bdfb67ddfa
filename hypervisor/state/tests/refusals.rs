//! Everything that can be wrong with a file, each with its one line.

mod common;

use common::{
    File,
    edit::{Edited, register, scalar, sign},
    load, load_ram, ram, save, state,
};
use proptest::prelude::*;
use stasis_state::{
    Error, PAGE_SIZE, RecordHeader, RecordType, RegHeader, Routines, header::Header, memory::Extent,
};
use zerocopy::IntoBytes;

fn small() -> Vec<u8> {
    let memory = ram("a.b.");
    save(&state(1, memory.len()), &memory).0.0
}

fn edited(change: impl FnOnce(&mut Edited)) -> Vec<u8> {
    let mut file = Edited::from_file(&small());
    change(&mut file);
    file.to_file()
}

#[track_caller]
fn refused(file: &[u8], line: &str) {
    let error = load(file).unwrap_err();
    assert_eq!(error.to_string(), line);
}

#[test]
fn an_edit_that_changes_nothing_gives_the_same_bytes() {
    assert!(edited(|_| ()) == small());
}

#[test]
fn a_bit_flipped_in_any_byte_is_refused() {
    let file = small();
    for at in 0..file.len() {
        let mut flipped = file.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(load(&flipped).is_err(), "byte {at} of {}", file.len());
    }
}

#[test]
fn any_bit_flipped_in_a_header_is_refused() {
    let file = small();
    let mut starts = vec![(0, Header::LEN)];
    let mut at = Header::LEN;
    for record in Edited::from_file(&file).records {
        starts.push((at, RecordHeader::LEN));
        at += RecordHeader::LEN + record.body.len().next_multiple_of(8);
    }
    for (start, len) in starts {
        for bit in 0..len * 8 {
            let mut flipped = file.clone();
            flipped[start + bit / 8] ^= 1 << (bit % 8);
            assert!(load(&flipped).is_err(), "bit {bit} of the header at {start}");
        }
    }
}

#[test]
fn a_flipped_bit_is_named_by_its_record() {
    let mut file = small();
    let len = file.len();
    file[len / 2] ^= 0x10;
    let line = load(&file).unwrap_err().to_string();
    assert!(line.starts_with("record 1"), "{line}");
    assert!(line.contains("): CRC is 0x"), "{line}");
    assert!(line.contains(" but should be 0x"), "{line}");
}

#[test]
fn a_file_cut_short_anywhere_is_refused() {
    let file = small();
    for len in 0..file.len() {
        let error = load(&file[..len]).unwrap_err();
        let has = len as u64;
        let needs = if len < Header::LEN { Header::LEN } else { file.len() } as u64;
        assert_eq!(error, Error::Truncated { has, needs });
    }
    refused(&file[..5000], &format!("the file ends after 5000 of {} bytes", file.len()));
}

#[test]
fn a_file_cut_short_anywhere_is_refused_even_if_its_header_agrees() {
    let file = small();
    for len in (Header::LEN..file.len()).step_by(8) {
        let mut cut = file[..len].to_vec();
        sign(&mut cut, |header| header.total_len = len as u64);
        assert!(load(&cut).is_err(), "{len} bytes");
    }
}

#[test]
fn a_file_that_goes_on_after_its_end_is_refused() {
    let mut file = small();
    let said = file.len();
    file.extend_from_slice(&[0; 24]);
    let has = file.len();
    refused(&file, &format!("the file has {has} bytes, but its header says {said}"));
    sign(&mut file, |header| header.total_len = has as u64);
    assert!(matches!(load(&file), Err(Error::AfterEnd { left: 24, .. })));
}

#[test]
fn what_is_no_checkpoint_is_called_so() {
    let line = "this is not a checkpoint: it does not begin with STASIS";
    refused(b"#!", line);
    refused(&[0; 4096], line);
    refused(b"STASIS\n-------------------------------------------------", line);
    refused(b"", "the file ends after 0 of 48 bytes");
}

#[test]
fn a_newer_version_is_refused_by_its_number() {
    let mut file = small();
    sign(&mut file, |header| header.major = 2);
    refused(&file, "written by format 2.0; this reads up to 1.0");
    let mut file = small();
    sign(&mut file, |header| {
        header.minor = 3;
        header.incompatible = 4;
    });
    refused(&file, "needs features 0x4 of format 1.3; this reads up to 1.0");
}

#[test]
fn a_newer_minor_is_read_if_it_needs_nothing_that_is_unknown() {
    let mut file = small();
    sign(&mut file, |header| {
        header.minor = 3;
        header.compatible = 4;
    });
    assert_eq!(load(&file).unwrap().header.minor, 3);
}

#[test]
fn a_longer_header_is_read() {
    let mut file = small();
    file.splice(Header::LEN..Header::LEN, [7; 32]);
    let total_len = file.len() as u64;
    sign(&mut file, |header| {
        header.header_len = 80;
        header.total_len = total_len;
    });
    let checkpoint = load(&file).unwrap();
    assert!(load_ram(&file, &checkpoint).unwrap() == ram("a.b."));
}

#[test]
fn a_header_that_none_can_be_is_refused() {
    for header_len in [0, 40, 47, 52, 8192, u32::MAX] {
        let mut file = small();
        sign(&mut file, |header| header.header_len = header_len);
        assert_eq!(load(&file), Err(Error::HeaderLength { found: header_len }));
    }
    let mut file = small();
    sign(&mut file, |header| header.reserved = 1);
    assert_eq!(load(&file), Err(Error::HeaderReserved { found: 1 }));
    let mut file = small();
    file[32] ^= 1;
    assert!(matches!(load(&file), Err(Error::HeaderCrc { .. })));
}

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
    refused(&without(RecordType::Memory), "the page at 0x40000000 is missing");
}

#[test]
fn a_record_that_is_there_twice_is_refused() {
    let count = Edited::from_file(&small()).records.len();
    for position in 0..count {
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
    let file = edited(|file| {
        let end = file.records.len() - 1;
        file.records[..end].rotate_left(7);
    });
    let checkpoint = load(&file).unwrap();
    assert_eq!(checkpoint.state, load(&small()).unwrap().state);
    assert!(load_ram(&file, &checkpoint).unwrap() == ram("a.b."));
}

#[test]
fn an_unknown_record_is_skipped_only_if_it_is_optional() {
    let unknown = |kind| edited(|file| file.insert(3, kind, 9, &[1, 2, 3]));
    let line = "record 3 (type 0x0055) is unknown: written by format 1.0; this reads up to 1.0";
    refused(&unknown(0x55), line);
    let file = unknown(0x55 | RecordHeader::OPTIONAL);
    let checkpoint = load(&file).unwrap();
    assert_eq!(checkpoint.skipped, 1);
    assert!(load_ram(&file, &checkpoint).unwrap() == ram("a.b."));
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

/// The small file with bytes appended to the body of CLOCK.
fn with_clock(bytes: &[u8]) -> Vec<u8> {
    edited(|file| file.record(RecordType::Clock, 0).body.extend_from_slice(bytes))
}

/// The small file with one register as the whole body of PL011.
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
    let optional = RegHeader { flags: RegHeader::OPTIONAL, ..unknown };
    let skipped = load(&with_clock(&register(optional, &[0, 0, 1, 0]))).unwrap();
    assert_eq!(skipped.state, same);
}

#[test]
fn a_register_that_is_absent_has_its_reset_value() {
    let file = edited(|file| file.record(RecordType::DevicePl011, 0).body.clear());
    let state = load(&file).unwrap().state;
    assert_eq!(state.pl011, Default::default());
    assert_eq!(*state.pl011.ifls, 0x12);
}

#[test]
fn an_array_may_be_stored_in_part() {
    let header = RegHeader { id: 1, width: 2, flags: 0, first: 14, count: 2 };
    let state = load(&with_pl011(header, &[0x34, 0x02, 0x78, 0x06])).unwrap().state;
    assert_eq!(state.pl011.rx_fifo[13..], [0, 0x234, 0x678]);
}

#[test]
fn an_array_has_no_elements_beyond_its_end() {
    let header = |first, count| RegHeader { id: 1, width: 2, flags: 0, first, count };
    let line = "record 10 (DEVICE_PL011): rx_fifo has 2 elements from 15 on, of 16 that there are";
    refused(&with_pl011(header(15, 2), &[0; 4]), line);
    for (first, count) in [(0, 17), (16, 1), (u16::MAX, 1), (0, 0)] {
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
fn a_register_is_there_once_and_padded_with_0() {
    let line = "record 1 (CLOCK): register 0x0002 is there twice";
    refused(&with_clock(&register(scalar(2, 8), &[0; 8])), line);
    let mut padded = register(scalar(9, 4), &[0; 4]);
    *padded.last_mut().unwrap() = 1;
    refused(&with_clock(&padded), "record 1 (CLOCK): the padding of register 0x0009 is not 0");
}

/// The small file, its memory replaced by these extents; raw ones are filled up with 1.
fn with_extents(extents: &[(u64, u32, u32)]) -> Vec<u8> {
    edited(|file| {
        file.records.retain(|r| r.header.kind != RecordType::Memory as u16);
        for &(address, pages, kind) in extents {
            let mut body = Extent { address, pages, kind }.as_bytes().to_vec();
            if kind == 1 {
                body.resize(body.len() + pages as usize * PAGE_SIZE, 1);
            }
            let end = file.records.len() - 1;
            file.insert(end, RecordType::Memory as u16, 0, &body);
        }
    })
}

#[test]
fn every_page_is_there_exactly_once() {
    let base = 0x4000_0000;
    let page = |n| base + n * PAGE_SIZE as u64;
    assert!(load(&with_extents(&[(base, 4, 0)])).is_ok());
    assert!(load(&with_extents(&[(base, 1, 0), (page(1), 3, 1)])).is_ok());
    refused(&with_extents(&[(base, 1, 0), (page(2), 2, 0)]), "the page at 0x40001000 is missing");
    refused(&with_extents(&[(page(1), 3, 0)]), "the page at 0x40000000 is missing");
    refused(&with_extents(&[(base, 3, 0)]), "the page at 0x40003000 is missing");
    refused(
        &with_extents(&[(base, 3, 0), (page(2), 2, 0)]),
        "record 13 (MEMORY): the page at 0x40002000 is there twice, or out of order",
    );
    refused(
        &with_extents(&[(base, 5, 0)]),
        "the page at 0x40004000 is outside the RAM, 0x4000 bytes at 0x40000000",
    );
    refused(
        &with_extents(&[(base - 4096, 5, 0)]),
        "the page at 0x3ffff000 is outside the RAM, 0x4000 bytes at 0x40000000",
    );
}

#[test]
fn an_extent_that_none_can_be_is_refused() {
    let base = 0x4000_0000;
    let line = |file: &[u8]| load(file).unwrap_err().to_string();
    assert_eq!(
        line(&with_extents(&[(base + 8, 4, 0)])),
        "record 12 (MEMORY): 4 pages at 0x40000008 are no range of pages"
    );
    assert!(line(&with_extents(&[(base, 0, 0)])).contains("0 pages at"));
    assert!(line(&with_extents(&[(u64::MAX - 4095, 1, 0)])).contains("no range of pages"));
    assert_eq!(
        line(&with_extents(&[(base, 257, 1)])),
        "record 12 (MEMORY): the extent has 257 pages; one with content has at most 256"
    );
    assert_eq!(
        line(&with_extents(&[(base, 4, 2)])),
        "record 12 (MEMORY): the extent's kind is 2, which this version does not know"
    );
    let longer = edited(|file| file.record(RecordType::Memory, 0).body.extend([0; 8]));
    assert_eq!(
        line(&longer),
        "record 12 (MEMORY) is 4120 bytes long, but its extent makes it 4112"
    );
    let shorter = edited(|file| file.record(RecordType::Memory, 0).body.truncate(15));
    assert_eq!(line(&shorter), "record 12 (MEMORY): 15 bytes are too few for an extent");
}

#[test]
fn the_invariants_hold_of_a_loaded_state() {
    use RecordType::{Clock, DevicePl011, Guest, VcpuCore, VcpuPower, VgicCpu, VgicDistributor};
    let line = |kind, id, width: u8, value: u64| {
        let value = &value.to_le_bytes()[..usize::from(width)];
        let file = edited(|file| {
            let body = &mut file.record(kind, 0).body;
            let header = scalar(id, width);
            let at = (0..body.len())
                .step_by(8)
                .find(|&at| body[at..].starts_with(&header.as_bytes()[..3]))
                .expect("the register is there");
            body[at + 8..at + 8 + value.len()].copy_from_slice(value);
        });
        load(&file).unwrap_err().to_string()
    };
    let cannot = "which it cannot be:";
    assert_eq!(
        line(VcpuCore, 3, 8, 0x3c9),
        format!("VCPU_CORE, vCPU 0: pstate is 0x3c9, {cannot} the guest runs at EL1 or EL0")
    );
    assert_eq!(
        line(VgicCpu, 8, 1, 2),
        format!("VGIC_CPU, vCPU 0: sgi_src[0] is 0x2, {cannot} vCPUs from nr_cpus on do not exist")
    );
    assert_eq!(line(Guest, 4, 1, 2), "there is no record VGIC_CPU, vCPU 1");
    assert_eq!(
        line(Guest, 4, 1, 0),
        "record 3 (VCPU_IDENTITY, vCPU 0) is of vCPU 0, but the guest has 0"
    );
    for (kind, id, width, value) in [
        (Guest, 1, 1, 0xff),
        (Guest, 2, 8, 0x4000_0001),
        (Guest, 2, 8, u64::MAX - 0xfff),
        (Guest, 3, 8, 0),
        (Guest, 3, 8, 0x1001),
        (Guest, 3, 8, !0xfff),
        (Clock, 2, 8, 0),
        (Clock, 2, 8, 1 << 32),
        (VgicDistributor, 1, 2, 0),
        (VgicDistributor, 1, 2, 65),
        (VgicDistributor, 1, 2, 64),
        (VgicDistributor, 1, 2, 1024),
        (VgicDistributor, 2, 1, 2),
        (VgicDistributor, 2, 1, 0),
        (VgicDistributor, 3, 1, 3),
        (VgicDistributor, 3, 1, 4),
        (VgicDistributor, 3, 1, 255),
        (VgicDistributor, 0x10, 4, 4),
        (VgicDistributor, 0x15, 4, 4),
        (VgicDistributor, 0x15, 4, 0),
        (VgicDistributor, 0x16, 1, 0),
        (VgicDistributor, 0x18, 1, 1),
        (VgicDistributor, 0x19, 1, 2),
        (VgicCpu, 2, 4, 0xfffe),
        (VgicCpu, 4, 4, 1),
        (VgicCpu, 5, 4, 0x8000),
        (VgicCpu, 6, 4, 0xfff),
        (VgicCpu, 7, 1, 0x84),
        (VgicCpu, 9, 1, 1),
        (VgicCpu, 0x10, 4, 0x400),
        (VgicCpu, 0x11, 1, 0xf4),
        (VgicCpu, 0x12, 1, 1),
        (VgicCpu, 0x12, 1, 8),
        (VgicCpu, 0x13, 1, 2),
        (VgicCpu, 0x14, 4, 2),
        (VcpuPower, 1, 1, 4),
        (VcpuPower, 4, 1, 2),
        (DevicePl011, 1, 2, 0x1000),
        (DevicePl011, 2, 1, 17),
    ] {
        let line = line(kind, id, width, value);
        assert!(line.starts_with(kind.name()), "{line}");
        assert!(line.contains(cannot), "{line}");
    }
}

#[test]
fn memory_is_not_loaded_from_another_file() {
    let memory = ram("a.b.");
    let checkpoint = load(&small()).unwrap();
    let mut other = small();
    let at = other.len() - RecordHeader::LEN - 8192;
    other[at] ^= 1;
    assert!(matches!(load_ram(&other, &checkpoint), Err(Error::RecordCrc { .. })));
    let longer = ram("a.b.c");
    let other = save(&state(1, longer.len()), &longer).0.0;
    assert_eq!(load_ram(&other, &checkpoint), Err(Error::Changed));
    let same_length =
        with_extents(&[(0x4000_0000, 1, 1), (0x4000_2000, 1, 1), (0x4000_3000, 1, 0)]);
    assert!(load_ram(&same_length, &checkpoint).is_err());

    let mut target = vec![0; memory.len() + 4096];
    let mut file = File(small());
    let routines = Routines::default();
    let error =
        stasis_state::read_memory(&mut file, &checkpoint, &mut target, routines, &mut |_, _| ());
    let line = "the guest has 16384 bytes of RAM, but 20480 were given";
    assert_eq!(error.unwrap_err().to_string(), line);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_body_of_any_record_makes_the_reader_panic(
        position in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        kind in prop::option::weighted(0.2, any::<u16>()),
        instance in prop::option::weighted(0.2, 0u16..10),
        length in prop::option::weighted(0.2, 0usize..9000),
    ) {
        let file = edited(|file| {
            let position = position.index(file.records.len());
            let record = &mut file.records[position];
            if let Some(length) = length {
                record.body.resize(length, 0);
            }
            for (at, value) in changes {
                if !record.body.is_empty() {
                    let at = at.index(record.body.len());
                    record.body[at] = value;
                }
            }
            record.header.kind = kind.unwrap_or(record.header.kind);
            record.header.instance = instance.unwrap_or(record.header.instance);
        });
        if let Ok(checkpoint) = load(&file)
            && *checkpoint.state.guest.ram_size < 1 << 20
        {
            load_ram(&file, &checkpoint).unwrap();
        }
    }

    #[test]
    fn no_bytes_after_a_good_header_make_the_reader_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut file = small()[..Header::LEN].to_vec();
        file.extend_from_slice(&bytes);
        let total_len = file.len() as u64;
        sign(&mut file, |header| header.total_len = total_len);
        prop_assert!(load(&file).is_err());
    }
}
