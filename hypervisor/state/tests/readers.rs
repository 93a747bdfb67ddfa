//! The reader of the whole file and [`Index`] take the same files, and find the same memory in
//! them. What is read again is checked again.

mod common;

use std::convert::Infallible;

use common::{
    edit::{Edited, EditedRecord, sign},
    load, load_ram, ram, save, state,
};
use stasis_state::{
    Checkpoint, Error, Extents, Index, LoadError, PAGE_SIZE, RecordHeader, RecordType, Routines,
    Source,
    directory::{DirectoryHead, Entry},
    header::{Header, HeaderTail},
    routines::crc32c,
};
use zerocopy::IntoBytes;

/// Index of the record PAD, in front of two pieces, which are two records each. RAM_DIRECTORY and
/// END follow them.
const PAD: usize = 12;
const DIRECTORY: usize = PAD + 5;

fn memory() -> Vec<u8> {
    ram(&("A.bC".to_owned() + &".".repeat(508) + "Z"))
}

/// Returns a file with two pieces.
fn good() -> Vec<u8> {
    let memory = memory();
    save(&state(1, memory.len()), &memory).0
}

fn edited(change: impl FnOnce(&mut Edited)) -> Vec<u8> {
    let mut file = Edited::from_file(&good());
    change(&mut file);
    file.to_file()
}

fn format_error(error: LoadError<Infallible>) -> Error {
    match error {
        LoadError::Format(error) => error,
        LoadError::Source(never) | LoadError::Refused(never) => match never {},
    }
}

fn open<S: Source<Error = Infallible>>(source: &mut S) -> Result<Checkpoint, Error> {
    let opened = Index::open(source, Routines::default());
    opened.map(|(checkpoint, _)| checkpoint).map_err(format_error)
}

/// Asserts that both readers refuse a file, in words that end with these.
#[track_caller]
fn refused(file: &[u8], whole: &str, index: &str) {
    let Err(error) = load(file) else { panic!("it is taken whole") };
    assert!(error.to_string().ends_with(whole), "{error}");
    let Err(error) = open(&mut &file[..]) else { panic!("its index is taken") };
    assert!(error.to_string().ends_with(index), "{error}");
}

/// Removes an entry of a directory.
fn remove_entry(directory: &mut EditedRecord, entry: usize) {
    let at = size_of::<DirectoryHead>() + entry * size_of::<Entry>();
    directory.body.drain(at..at + size_of::<Entry>());
    directory.body[0] -= 1;
}

#[test]
fn both_readers_take_a_good_file() {
    let file = good();
    let checkpoint = load(&file).unwrap();
    assert_eq!(open(&mut &file[..]).unwrap(), checkpoint);
    assert!(load_ram(&file, &checkpoint).unwrap() == memory());
    let parts = Edited::from_file(&file);
    assert!(parts.records[PAD].is(RecordType::Pad));
    assert!(parts.records[DIRECTORY].is(RecordType::RamDirectory));
}

#[test]
fn a_directory_that_the_header_states_is_there() {
    let memory = memory();
    let older = Edited::from_file(&good()).into_older_file(0, &[(0x4000_0000, &memory)]);
    let with = |directory: u64| {
        let mut file = Edited::from_file(&older);
        (file.header.minor, file.header.header_len) = (5, HeaderTail::END as u32);
        file.tail = HeaderTail { directory, reserved: 0 }.as_bytes().to_vec();
        file.to_file()
    };
    let file = with(0);
    assert!(load_ram(&file, &load(&file).unwrap()).unwrap() == memory);
    assert_eq!(open(&mut &file[..]).unwrap_err(), Error::NoDirectory);
    let line = "the header says that RAM_DIRECTORY is at byte 12345; it is not";
    refused(&with(12345), line, line);
}

#[test]
fn no_block_stands_behind_the_directory() {
    let behind = "(RAM_BLOCK) stands behind RAM_DIRECTORY";
    let last = edited(|file| {
        remove_entry(&mut file.records[DIRECTORY], 1);
        file.records[DIRECTORY - 2..=DIRECTORY].rotate_right(1);
        // The directory takes a page, so that the block behind it begins at a multiple of 4096.
        let pad = PAGE_SIZE - 2 * RecordHeader::LEN - file.records[DIRECTORY - 2].body.len();
        file.insert(DIRECTORY - 1, RecordType::Pad as u16, 0, &vec![0; pad]);
    });
    refused(&last, behind, behind);
    let all = edited(|file| {
        (0..2).for_each(|_| remove_entry(&mut file.records[DIRECTORY], 0));
        file.records[PAD..=DIRECTORY].rotate_right(1);
    });
    refused(&all, behind, behind);
}

#[test]
fn a_piece_that_the_directory_leaves_out_is_noticed() {
    for entry in 0..2 {
        let file = edited(|file| remove_entry(&mut file.records[DIRECTORY], entry));
        refused(&file, "(RAM_DIRECTORY) does not have what the file has", "are in no piece");
    }
}

#[test]
fn nothing_lies_between_the_pieces_or_behind_the_last_one() {
    const UNKNOWN: u16 = 0x55;
    let with = |position, kind| {
        edited(|file| {
            file.insert(position, kind, 0, &vec![0; PAGE_SIZE - RecordHeader::LEN]);
            if position < DIRECTORY {
                let start = size_of::<DirectoryHead>() + size_of::<Entry>() + 8;
                file.records[DIRECTORY + 1].body[start] += 1;
            }
        })
    };
    for position in [DIRECTORY - 2, DIRECTORY] {
        let file = with(position, UNKNOWN | RecordHeader::OPTIONAL);
        refused(&file, "are in no piece", "are in no piece");
        let version = "is unknown: written by format 1.5; this reads up to 1.8";
        refused(&with(position, UNKNOWN), version, "are in no piece");
    }
}

#[test]
fn a_flip_that_hides_a_record_from_the_second_pass_is_noticed() {
    let (good, memory) = (good(), memory());
    let checkpoint = load(&good).unwrap();
    let parts = Edited::from_file(&good);
    let mut at = HeaderTail::END;
    for record in &parts.records {
        for bit in 0..8 * RecordHeader::LEN {
            let mut file = good.clone();
            file[at + bit / 8] ^= 1 << (bit % 8);
            let loaded = load_ram(&file, &checkpoint);
            assert!(loaded.is_err(), "bit {bit} of the record at {at} is not noticed");
            let read = pages(&file, &checkpoint);
            assert!(read.is_err(), "bit {bit} of the record at {at} is not noticed by a tool");
        }
        at += RecordHeader::LEN + record.body.len().next_multiple_of(8);
    }
    assert_eq!(at, good.len());
    assert!(load_ram(&good, &checkpoint).unwrap() == memory);
    assert!(pages(&good, &checkpoint).is_ok());
}

/// Reads all extents of a file.
fn pages(file: &[u8], checkpoint: &Checkpoint) -> Result<(), Error> {
    let mut file = file;
    let extents = Extents::new(&mut file, checkpoint, Routines::default());
    let mut extents = extents.map_err(format_error)?;
    while extents.read_next().map_err(format_error)?.is_some() {}
    Ok(())
}

#[test]
fn memory_of_another_guest_with_the_same_header_is_not_loaded() {
    let checkpoint = load(&good()).unwrap();
    let other: Vec<u8> =
        memory().iter().map(|byte| if *byte == b'b' { 0 } else { *byte }).collect();
    let file = save(&state(1, other.len()), &other).0;
    assert_eq!(load(&file).unwrap().header, checkpoint.header);
    assert!(load_ram(&file, &checkpoint) == Err(Error::Changed));
}

#[test]
fn a_directory_has_no_more_entries_than_the_file_has_room_for_pieces() {
    let file = edited(|file| {
        let body = &mut file.records[DIRECTORY].body;
        body[0] = 200;
        body.resize(size_of::<DirectoryHead>() + 200 * size_of::<Entry>(), 0);
    });
    let line = "(RAM_DIRECTORY): 3208 bytes are no directory";
    refused(&file, line, line);
}

/// A file of which all bytes between its beginning and its end are zero.
struct Sparse {
    start: Vec<u8>,
    end_at: u64,
    end: Vec<u8>,
}

impl Source for Sparse {
    type Error = Infallible;

    fn len(&self) -> u64 {
        self.end_at + self.end.len() as u64
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), Infallible> {
        for (at, byte) in (offset..).zip(buf) {
            *byte = match at.checked_sub(self.end_at) {
                Some(at) => self.end[at as usize],
                None => self.start.get(at as usize).copied().unwrap_or(0),
            };
        }
        Ok(())
    }
}

#[test]
fn a_directory_has_no_more_entries_than_a_reader_has_memory_for() {
    let blocks = (1 << 19) + 1;
    let len = size_of::<DirectoryHead>() + blocks as usize * size_of::<Entry>();
    let mut end = RecordHeader::new(RecordType::RamDirectory, 0, len as u32).as_bytes().to_vec();
    end.extend_from_slice(DirectoryHead { blocks, touched: 0 }.as_bytes());
    end.resize(RecordHeader::LEN + len, 0);
    let crc = crc32c(crc32c(0, &end[..RecordHeader::COVERED]), &end[RecordHeader::LEN..]);
    end[RecordHeader::COVERED..RecordHeader::LEN].copy_from_slice(&crc.to_le_bytes());
    let end_at = 3 << 30;
    let mut start = good();
    start[Header::LEN..][..8].copy_from_slice(&u64::to_le_bytes(end_at));
    let mut file = Sparse { start, end_at, end };
    let total_len = file.len();
    sign(&mut file.start, |header| header.total_len = total_len);
    let line = open(&mut file).unwrap_err().to_string();
    let limit = "(RAM_DIRECTORY) is 8388632 bytes long; such a record has at most 8421384";
    assert!(line.ends_with(limit), "{line}");
}
