use std::format;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const REGULAR: u32 = 0o100_644;

/// Returns an entry as `cpio -H newc` writes it.
fn entry(name: &str, mode: u32, data: &[u8]) -> Vec<u8> {
    let (size, name_size) = (data.len(), name.len() + 1);
    let mut bytes = format!(
        "07070100000001{mode:08x}{:024x}{:08x}{size:08x}{:032x}{name_size:08x}{:08x}{name}\0",
        1, 0, 0, 0
    )
    .into_bytes();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Returns an archive of these files, as `cpio -H newc` writes it.
pub(crate) fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, data) in files {
        bytes.extend(entry(name, REGULAR, data));
    }
    bytes.extend(entry(TRAILER, 0, b""));
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn error(bytes: &[u8]) -> String {
    Archive::open(bytes).expect_err("a damaged archive").to_string()
}

#[test]
fn files_are_found_by_name() {
    let bytes = archive(&[("one", b"1"), ("two", b"22"), ("empty", b"")]);
    let archive = Archive::open(&bytes).unwrap();
    assert_eq!(archive.file("two").unwrap(), b"22");
    assert_eq!(archive.file("./one").unwrap(), b"1");
    assert_eq!(archive.file("empty").unwrap(), b"");
    assert_eq!(archive.files().count(), 3);
}

#[test]
fn what_find_and_cpio_write_is_read() {
    let mut bytes = entry(".", 0o040_755, b"");
    bytes.extend(entry("./dir", 0o040_755, b""));
    bytes.extend(entry("./dir/file", REGULAR, b"abc"));
    bytes.extend(entry("./link", 0o120_777, b"file"));
    bytes.extend(entry(TRAILER, 0, b""));
    let archive = Archive::open(&bytes).unwrap();
    let names: Vec<&str> = archive.files().map(|file| file.name).collect();
    assert_eq!(names, ["dir/file"]);
}

/// Returns an entry for one of a file's `links` names.
fn link(name: &str, inode: u32, links: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = entry(name, REGULAR, data);
    bytes[INODE].copy_from_slice(format!("{inode:08x}").as_bytes());
    bytes[LINKS].copy_from_slice(format!("{links:08x}").as_bytes());
    bytes
}

#[test]
fn a_file_with_several_names_has_its_contents_under_each() {
    let mut bytes = [
        link("kernel", 7, 3, b""),
        link("other", 8, 2, b"other"),
        link("vmlinuz", 7, 3, b""),
        link("Image", 7, 3, b"contents"),
        link("another", 8, 2, b""),
        link("lost", 9, 2, b""),
        link("alone", 7, 1, b""),
    ]
    .concat();
    bytes.extend(entry(TRAILER, 0, b""));
    // In another archive the numbers mean other files.
    bytes.extend(link("second", 7, 2, b""));
    bytes.extend(link("again", 7, 2, b"second"));
    bytes.extend(entry(TRAILER, 0, b""));
    let archive = Archive::open(&bytes).unwrap();
    for (name, contents) in [
        ("kernel", &b"contents"[..]),
        ("vmlinuz", b"contents"),
        ("Image", b"contents"),
        ("another", b"other"),
        ("lost", b""),
        ("alone", b""),
        ("second", b"second"),
    ] {
        assert_eq!(archive.file(name).unwrap(), contents, "{name}");
        let file = archive.files().find(|file| file.name == name).unwrap();
        assert_eq!(file.data, contents, "{name}");
    }
}

#[test]
fn the_last_of_several_files_of_a_name_counts_also_in_a_second_archive() {
    let mut bytes = archive(&[("a", b"old"), ("a", b"new")]);
    assert_eq!(Archive::open(&bytes).unwrap().file("a").unwrap(), b"new");
    bytes.extend(archive(&[("a", b"newest")]));
    assert_eq!(Archive::open(&bytes).unwrap().file("a").unwrap(), b"newest");
}

#[test]
fn no_archive_is_told_from_a_foreign_one() {
    assert_eq!(error(b""), "no archive: the boot loader handed over no initrd");
    assert_eq!(
        error(b"\x1f\x8b\x08more"),
        "the archive is no cpio of format newc: found gzip data at offset 0x0"
    );
    assert_eq!(
        error(&[0; 64]),
        "the archive is no cpio of format newc: found bytes 00 00 00 00 at offset 0x0"
    );
}

#[test]
fn a_cut_archive_names_the_file_that_was_cut() {
    let bytes = archive(&[("first", b"1"), ("second", &[7; 100])]);
    let second = entry("first", REGULAR, b"1").len();
    let data = second + (HEADER_LEN + "second\0".len()).next_multiple_of(4);
    assert_eq!(
        error(&bytes[..data + 60]),
        "the archive is cut short in file \"second\": 40 of 100 bytes are missing"
    );
    assert_eq!(
        error(&bytes[..data - 3]),
        "the archive is cut short in file \"second\": 100 of 100 bytes are missing"
    );
    let message =
        format!("the archive is cut short: it ends at offset {second:#x} without a trailer");
    assert_eq!(error(&bytes[..second]), message);
    assert!(matches!(Archive::open(&bytes[..second + 3]), Err(ArchiveError::CutShort { .. })));
}

#[test]
fn every_cut_is_noticed() {
    let bytes = archive(&[("one", b"123"), ("two", &[1; 33])]);
    let trailer = bytes.len() - bytes.iter().rev().position(|&byte| byte != 0).unwrap();
    for len in 0..=trailer {
        assert!(Archive::open(&bytes[..len]).is_err(), "cut to {len} bytes");
    }
}

#[test]
fn damage_is_named_with_its_place() {
    let good = archive(&[("one", b"1"), ("two", b"2")]);
    let second = entry("one", REGULAR, b"1").len();

    let mut bytes = good.clone();
    bytes[second] = b'X';
    let message = format!("found bytes 58 37 30 37 at offset {second:#x}");
    assert!(error(&bytes).contains(&message), "{}", error(&bytes));

    let mut bytes = good.clone();
    bytes[second + FILE_SIZE.start] = b'+';
    assert_eq!(Archive::open(&bytes).unwrap_err(), ArchiveError::BadHeader { offset: second });

    let mut bytes = good.clone();
    bytes[second + HEADER_LEN] = 0xff;
    assert_eq!(Archive::open(&bytes).unwrap_err(), ArchiveError::BadName { offset: second });
}

#[test]
fn a_missing_file_is_answered_with_those_that_are_there() {
    let bytes = archive(&[("vmlinuz", b"1"), ("evil\x1b[2J", b"2")]);
    let archive = Archive::open(&bytes).unwrap();
    assert_eq!(
        archive.file("vmlinux").unwrap_err().to_string(),
        "the archive has no file \"vmlinux\"; it has \"vmlinuz\", \"evil\\u{1b}[2J\""
    );
    let empty = entry(TRAILER, 0, b"");
    let message = Archive::open(&empty).unwrap().file("x").unwrap_err().to_string();
    assert_eq!(message, "the archive has no file \"x\"; it has none");
}

#[test]
fn a_size_of_four_gigabytes_does_not_overflow() {
    let mut bytes = archive(&[("one", b"1")]);
    bytes[FILE_SIZE].copy_from_slice(b"ffffffff");
    assert!(matches!(Archive::open(&bytes), Err(ArchiveError::FileCutShort { .. })));
    bytes[NAME_SIZE].copy_from_slice(b"ffffffff");
    assert!(matches!(Archive::open(&bytes), Err(ArchiveError::CutShort { .. })));
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _ = Archive::open(&bytes);
    }

    #[test]
    fn no_damage_panics(changes in prop::collection::vec((0usize..700, any::<u8>()), 1..6)) {
        let mut bytes = archive(&[("one", b"123"), ("two", &[1; 33])]);
        for (at, value) in changes {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        if let Ok(archive) = Archive::open(&bytes) {
            let _ = archive.file("two");
        }
    }
}
