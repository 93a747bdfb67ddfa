//! Files of which a part is lost or wrong.

use crate::{
    common::edit::{Edited, sign},
    common::load,
    edited, refused, small,
};
use stasis_state::{
    Error, RecordHeader,
    header::{Header, HeaderTail},
};

#[test]
fn an_edit_that_changes_nothing_gives_the_same_bytes() {
    assert!(edited(|_| ()) == small());
}

#[test]
fn a_bit_flipped_anywhere_is_refused() {
    let file = small();
    // Each third byte, so that all bits have their turn.
    for at in (0..file.len()).step_by(3) {
        let mut flipped = file.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(load(&flipped).is_err(), "byte {at} of {}", file.len());
    }
}

#[test]
fn any_bit_flipped_in_a_header_is_refused() {
    let file = small();
    let mut starts = vec![(0, HeaderTail::END)];
    let mut at = HeaderTail::END;
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
        let needs = match len {
            ..Header::LEN => Header::LEN,
            Header::LEN..HeaderTail::END => HeaderTail::END,
            _ => file.len(),
        } as u64;
        assert_eq!(error, Error::Truncated { has, needs });
    }
    refused(&file[..5000], &format!("the file ends after 5000 of {} bytes", file.len()));
}

#[test]
fn a_file_cut_short_anywhere_is_refused_even_if_its_header_agrees() {
    let file = small();
    for len in (HeaderTail::END..file.len()).step_by(8) {
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
