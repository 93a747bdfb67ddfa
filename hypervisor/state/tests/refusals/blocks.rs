//! Memory in blocks: each field wrong once.

use crate::{
    common::{
        edit::{Edited, sign_tail},
        load, load_ram, ram, save, state,
    },
    edited, refused, small,
};
use stasis_state::{
    Error, RecordHeader, RecordType,
    block::{BLOCK_PAGES, CRCS_AT, KINDS_AT},
    directory::{DirectoryHead, Entry, Touched},
};
use zerocopy::IntoBytes;

const HEAD: usize = size_of::<DirectoryHead>();

/// Returns the small file with another body of its RAM_BLOCK.
fn block(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    edited(|file| change(&mut file.record(RecordType::RamBlock, 0).body))
}

/// Returns the small file with another body of its RAM_DIRECTORY.
fn directory(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    edited(|file| change(&mut file.record(RecordType::RamDirectory, 0).body))
}

#[test]
fn a_block_is_one_of_the_guests_memory() {
    let at = |address: u64| block(|body| body[..8].copy_from_slice(&address.to_le_bytes()));
    let line = |what| format!("record 13 (RAM_BLOCK): {what} are no block of the guest's memory");
    refused(&at(0x4000_1000), &line("4 pages at 0x40001000"));
    refused(&at(0x4000_0008), &line("4 pages at 0x40000008"));
    refused(&at(0x4020_0000), &line("4 pages at 0x40200000"));
    refused(&at(u64::MAX - 4095), &line("4 pages at 0xfffffffffffff000"));
    let pages = |pages| block(|body| body[8] = pages);
    refused(&pages(3), &line("3 pages at 0x40000000"));
    refused(&pages(5), &line("5 pages at 0x40000000"));
    refused(&pages(0), &line("0 pages at 0x40000000"));
}

#[test]
fn what_is_reserved_in_a_block_is_0() {
    let line = "record 13 (RAM_BLOCK): a reserved field or the padding is not 0";
    let words = CRCS_AT + 2 * 4;
    for at in [12, KINDS_AT + 4, KINDS_AT + BLOCK_PAGES - 1, words + 8, 4063] {
        refused(&block(|body| body[at] = 1), line);
    }
    // Of three raw pages, the CRCs are followed by four bytes.
    let file = block(|body| (body[KINDS_AT + 1], body[CRCS_AT + 12]) = (1, 1));
    refused(&file, line);
}

#[test]
fn a_kind_of_page_that_is_unknown_is_not_damage() {
    let file = block(|body| body[KINDS_AT + 1] = 3);
    let line = "record 13 (RAM_BLOCK): the page at 0x40001000 is of kind 3, which this version does not know";
    refused(&file, line);
    assert!(load(&file).unwrap_err().is_of_newer());
}

#[test]
fn a_word_over_and_over_is_not_0() {
    let words = CRCS_AT + 2 * 4;
    let file = block(|body| body[words..words + 8].fill(0));
    let line = "record 13 (RAM_BLOCK): the page at 0x40002000 is the word 0 over and over, which is kind 0";
    refused(&file, line);
}

#[test]
fn the_lengths_of_a_piece_are_those_of_its_pages() {
    for len in [0, 16, 4063, 4072, 8152, 8168, 12256] {
        let line = format!("record 13 (RAM_BLOCK) is {len} bytes long, which no block is");
        refused(&block(|body| body.resize(len, 0)), &line);
    }
    refused(
        &block(|body| body.resize(8160, 0)),
        "record 13 (RAM_BLOCK) is 8160 bytes long, but its pages make it 4064",
    );
    let pages = |len| edited(|file| file.record(RecordType::RamPages, 0).body.resize(len, 0));
    for len in [4096, 8191, 8200, 12288] {
        let line = format!("record 14 (RAM_PAGES) is {len} bytes long, but its pages make it 8192");
        refused(&pages(len), &line);
    }
}

#[test]
fn a_page_that_is_damaged_is_named_by_its_address() {
    let file = edited(|file| file.record(RecordType::RamPages, 0).body[4096 + 5] ^= 1);
    let line = load(&file).unwrap_err().to_string();
    assert!(line.starts_with("the page at 0x40003000: CRC is 0x"), "{line}");
    let checkpoint = load(&small()).unwrap();
    assert_eq!(load_ram(&file, &checkpoint).unwrap_err().to_string(), line);
}

#[test]
fn a_piece_is_whole_and_in_its_place() {
    let without = |kind| {
        edited(|file| {
            let at = file.position(kind, 0);
            file.records.remove(at);
        })
    };
    refused(
        &without(RecordType::RamPages),
        "the pages of the block at 0x40000000 do not follow it",
    );
    let line = "record 13 (RAM_PAGES) does not follow its RAM_BLOCK";
    refused(&without(RecordType::RamBlock), line);
    let file = edited(|file| {
        let at = file.position(RecordType::RamPages, 0);
        file.insert(at, 0x55 | RecordHeader::OPTIONAL, 0, &[0; 16]);
    });
    refused(&file, "the pages of the block at 0x40000000 do not follow it");
    let file = edited(|file| file.record(RecordType::RamPages, 0).header.instance = 1);
    refused(&file, "record 14 (RAM_PAGES): its instance is 1, but there is none such");
    let file = edited(|file| file.record(RecordType::RamBlock, 0).header.instance = 1);
    refused(&file, "record 13 (RAM_BLOCK): its instance is 1, but there is none such");
    let file = edited(|file| file.record(RecordType::RamPages, 0).header.reserved = 1);
    refused(&file, "record 14 (RAM_PAGES): a reserved field or the padding is not 0");
    let file = edited(|file| {
        let again = file.records[13..15].to_vec();
        file.records.splice(15..15, again);
    });
    let line = "record 15 (RAM_BLOCK): the page at 0x40000000 is there twice, or out of order";
    refused(&file, line);
    let file = edited(|file| {
        file.is_laid_out = false;
        file.record(RecordType::Pad, 0).body.extend([0; 8]);
    });
    let line = load(&file).unwrap_err().to_string();
    assert!(line.starts_with("record 13 (RAM_BLOCK) begins at byte "), "{line}");
    assert!(line.ends_with(", which is no multiple of 4096"), "{line}");
}

#[test]
fn a_pad_is_zeros_and_not_long() {
    let file = edited(|file| {
        file.is_laid_out = false;
        file.record(RecordType::Pad, 0).body[3] = 1;
    });
    refused(&file, "record 12 (PAD): a reserved field or the padding is not 0");
    let file = edited(|file| file.insert(12, RecordType::Pad as u16, 0, &[0; 4104]));
    refused(&file, "record 12 (PAD) is 4104 bytes long; such a record has at most 4096");
    let file = edited(|file| file.insert(12, RecordType::Pad as u16, 1, &[]));
    refused(&file, "record 12 (PAD): its instance is 1, but there is none such");
}

#[test]
fn memory_is_in_blocks_or_in_extents() {
    let extent = |file: &mut Edited, at| {
        let body = [&0x4000_0000u64.to_le_bytes()[..], &[4, 0, 0, 0, 0, 0, 0, 0]].concat();
        file.insert(at, RecordType::Memory as u16, 0, &body);
    };
    let file = edited(|file| extent(file, 12));
    refused(&file, "record 14 (RAM_BLOCK): the memory is in MEMORY records and in blocks");
    let file = edited(|file| extent(file, 16));
    refused(&file, "record 16 (MEMORY): the memory is in MEMORY records and in blocks");
}

#[test]
fn the_directory_is_where_the_header_says() {
    let mut file = small();
    sign_tail(&mut file, |tail| tail.directory += 8);
    let line = load(&file).unwrap_err().to_string();
    assert!(line.starts_with("the header says that RAM_DIRECTORY is at byte "), "{line}");
    sign_tail(&mut file, |tail| tail.directory = 0);
    refused(&file, "the header says that RAM_DIRECTORY is at byte 0; it is not");
}

#[test]
fn the_directory_says_what_the_file_has() {
    let differs = "record 15 (RAM_DIRECTORY) does not have what the file has";
    for at in [12, 14] {
        refused(&directory(|body| body[HEAD + at] ^= 3), differs);
    }
    let none = directory(|body| {
        body[0] = 0;
        body.truncate(HEAD);
    });
    refused(&none, differs);
    let cannot = "record 15 (RAM_DIRECTORY): what it says of the block at 0x40000000 can't be";
    // Somewhere in front of the first block, behind the last one, too many pages, or none.
    for (start, raw, words) in
        [(0, 2, 1), (5, 2, 1), (1 << 20, 2, 1), (4, 4, 1), (4, 1, 600), (4, 0, 0)]
    {
        let file = edited(|file| {
            file.is_laid_out = false;
            let body = &mut file.record(RecordType::RamDirectory, 0).body;
            let entry = Entry { address: 0x4000_0000, start, raw, words };
            body[HEAD..][..16].copy_from_slice(entry.as_bytes());
        });
        let line = load(&file).unwrap_err().to_string();
        assert!(line == cannot || line == differs, "{start} {raw} {words}: {line}");
    }
    let file = directory(|body| body[HEAD..][..8].copy_from_slice(&0x4020_0000u64.to_le_bytes()));
    refused(&file, "record 15 (RAM_DIRECTORY): what it says of the block at 0x40200000 can't be");
}

#[test]
fn a_directory_is_as_long_as_it_says() {
    let line = |len| format!("record 15 (RAM_DIRECTORY): {len} bytes are no directory");
    refused(&directory(|body| body.truncate(HEAD - 1)), &line(HEAD - 1));
    refused(&directory(|body| body.extend([0; 8])), &line(HEAD + 24));
    refused(&directory(|body| body[0] = 2), &line(HEAD + 16));
    refused(&directory(|body| body[4] = 1), &line(HEAD + 16));
    // Four pages of memory have no such directory.
    refused(&directory(|body| body.resize(1 << 20, 0)), &line(1 << 20));
    let file = edited(|file| file.record(RecordType::RamDirectory, 0).header.instance = 1);
    refused(&file, "record 15 (RAM_DIRECTORY): its instance is 1, but there is none such");
    let file = edited(|file| {
        let again = file.records[15].clone();
        file.records.insert(15, again);
    });
    let line = load(&file).unwrap_err().to_string();
    assert!(line.starts_with("the header says that RAM_DIRECTORY"), "{line}");
}

#[test]
fn what_was_touched_is_the_guests_memory() {
    let with = |address, pages| {
        directory(|body| {
            body[4] = 1;
            body.extend_from_slice(Touched::new(address, pages).as_bytes());
        })
    };
    assert!(load(&with(0x4000_0000, 4)).is_ok() && load(&with(0x4000_3000, 1)).is_ok());
    refused(
        &with(0x4000_1000, 4),
        "record 15 (RAM_DIRECTORY): 4 touched pages at 0x40001000 are not the guest's memory",
    );
    assert!(load(&with(u64::MAX, 4096)).is_err());
}

#[test]
fn memory_is_not_loaded_from_another_file() {
    let checkpoint = load(&small()).unwrap();
    assert!(load_ram(&small(), &checkpoint).unwrap() == ram("A.bC"));
    // The file ends with the metadata, two pages, the directory, and END.
    let (mut damaged_page, mut damaged_block) = (small(), small());
    let end = damaged_page.len() - RecordHeader::LEN - (RecordHeader::LEN + HEAD + 16);
    damaged_page[end - 1] ^= 1;
    let error = load_ram(&damaged_page, &checkpoint).unwrap_err();
    assert!(matches!(error, Error::PageCrc { address: 0x4000_3000, .. }), "{error}");
    damaged_block[end - 3 * 4096 + 100] ^= 1;
    let error = load_ram(&damaged_block, &checkpoint).unwrap_err();
    assert!(matches!(error, Error::RecordCrc { .. }), "{error}");
    let longer = ram("A.bCd");
    let other = save(&state(1, longer.len()), &longer).0;
    assert_eq!(load_ram(&other, &checkpoint), Err(Error::Changed));
}
