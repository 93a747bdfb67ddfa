//! Headers that are not ours, or of another version.

use crate::{
    common::{
        edit::{sign, sign_tail},
        load, load_ram, ram,
    },
    refused, small, small_of_1_0,
};
use stasis_state::{
    Error,
    header::{Header, VERSION},
};

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
    sign(&mut file, |header| (header.major, header.minor) = (2, 0));
    refused(&file, &format!("written by format 2.0; this reads up to {VERSION}"));
    let mut file = small();
    sign(&mut file, |header| {
        header.minor = VERSION.minor + 1;
        header.incompatible = 4;
    });
    let newer = VERSION.minor + 1;
    let line = format!("needs features 0x4 of format 1.{newer}; this reads up to {VERSION}");
    refused(&file, &line);
}

#[test]
fn what_newer_versions_have_is_told_from_damage() {
    let mut file = small();
    sign(&mut file, |header| header.major = 2);
    assert!(load(&file).unwrap_err().is_of_newer());
    sign(&mut file, |header| (header.major, header.incompatible) = (1, 4));
    assert!(load(&file).unwrap_err().is_of_newer());
    let mut file = small();
    file[Header::LEN + 20] ^= 1;
    assert!(!load(&file).unwrap_err().is_of_newer());
}

#[test]
fn a_newer_minor_is_read_if_it_needs_nothing_that_is_unknown() {
    let mut file = small_of_1_0();
    sign(&mut file, |header| {
        header.minor = 3;
        header.compatible = 4;
    });
    assert_eq!(load(&file).unwrap().header.minor, 3);
}

#[test]
fn a_longer_header_is_read() {
    let mut file = small_of_1_0();
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
fn the_reserved_part_of_the_tail_is_0() {
    let mut file = small();
    sign_tail(&mut file, |tail| tail.reserved = 3);
    assert_eq!(load(&file), Err(Error::HeaderReserved { found: 3 }));
}
