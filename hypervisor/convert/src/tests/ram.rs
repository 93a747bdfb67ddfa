//! The memory of a stream.

use stasis_state::PAGE_SIZE;

use super::*;
use crate::Error;
use crate::qemu::ram::{Ram, RamWriter, ReadError};

const NAME: &str = "mach-virt.ram";
const LEN: u64 = 8 << 20;

fn find(stream: &[u8]) -> Result<Ram, Error> {
    Ram::find(&mut &stream[..], 8).map_err(|error| match error {
        ReadError::Stream(error) => error,
        ReadError::Source(error) => match error {},
    })
}

/// Returns what begins a stream with two blocks of memory.
fn start() -> Vec<u8> {
    let mut bytes = b"QEVM\0\0\0\x03\x01\0\0\0\x02\x03ram\0\0\0\0\0\0\0\x04".to_vec();
    bytes.extend(((2 * LEN) | 4).to_be_bytes());
    for name in [NAME, "virt.flash0"] {
        bytes.push(name.len() as u8);
        bytes.extend(name.bytes());
        bytes.extend(LEN.to_be_bytes());
    }
    bytes.extend(b"\0\0\0\0\0\0\0\x10\x7e\0\0\0\x02");
    bytes
}

/// Returns an entry with a name.
fn entry(address: u64, flags: u64, name: &str) -> Vec<u8> {
    let mut bytes = (address | flags).to_be_bytes().to_vec();
    if flags & 0x20 == 0 {
        bytes.push(name.len() as u8);
        bytes.extend(name.bytes());
    }
    bytes
}

fn end(kind: u8, entries: &[u8]) -> Vec<u8> {
    [&[kind, 0, 0, 0, 2][..], entries, b"\0\0\0\0\0\0\0\x10\x7e\0\0\0\x02"].concat()
}

#[test]
fn the_last_of_a_pages_places_counts_and_a_part_goes_on_where_the_last_one_ended() {
    let page = [7; PAGE_SIZE];
    let first = [&entry(0x1000, 8, NAME)[..], &page, &entry(0x3000, 0x28, ""), &page].concat();
    let second = [&entry(0x3000, 0x22, "")[..], &[0], &entry(0x1000, 0x28, ""), &page].concat();
    let stream = [start(), end(2, &first), b"\x08\0\x0b\0\0".to_vec(), end(3, &second)].concat();
    let ram = find(&stream).unwrap();
    assert_eq!(ram.end, stream.len() as u64);
    let block = ram.block(NAME).unwrap();
    let at = stream.len() as u64 - 13 - PAGE_SIZE as u64;
    assert_eq!(block.pages().collect::<Vec<_>>(), [(0x1000, at)]);
    assert_eq!(
        (block.next(0), block.next(0x1001), block.next(0x2000)),
        (Some(0x1000), Some(0x1000), None)
    );
    assert_eq!((block.page(0x1000), block.page(0x3000), block.page(LEN)), (Some(at), None, None));
    assert_eq!(ram.block("pvtime"), Err(Error::NoBlock { name: "pvtime" }));
}

#[test]
fn what_is_written_is_what_is_found() {
    let base = [start(), b"\x08\0\x0b\0\0".to_vec(), end(3, &[])].concat();
    let ram = find(&base).unwrap();
    let (mut writer, head) = RamWriter::new(&ram);
    let mut stream = base[..head as usize].to_vec();
    stream.extend(writer.begin());
    let mut expected = Vec::new();
    for (block, address) in [(1, 0x1000), (0, 0), (0, 0x5000), (0, LEN - 0x1000), (1, 0x2000)] {
        writer.page(&ram.blocks[block], address, &mut stream);
        expected.push((block, address, stream.len() as u64));
        stream.extend([9; PAGE_SIZE]);
    }
    stream.extend(writer.finish());
    let found = find(&stream).unwrap();
    assert_eq!(found.end, stream.len() as u64);
    for (block, address, at) in expected {
        assert_eq!(found.blocks[block].page(address), Some(at));
    }
    assert_eq!(found.blocks[0].pages().count() + found.blocks[1].pages().count(), 5);
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let wrong = |bytes: Vec<u8>| find(&[start(), bytes].concat()).unwrap_err().to_string();
    let at = start().len();
    let page = |address, flags, name| [entry(address, flags, name), vec![0; PAGE_SIZE]].concat();
    for (bytes, what) in [
        (end(2, &page(LEN, 8, NAME)), "a page of no memory"),
        (end(2, &page(0, 8, "ram")), "a page of no memory"),
        (end(2, &page(0, 0x28, "")), "a page of no memory"),
        (end(2, &page(0, 0x40, NAME)), "pages in a form that is not known"),
        (end(2, &page(0, 0x108, NAME)), "pages in a form that is not known"),
        (end(2, &[entry(0, 2, NAME), vec![5]].concat()), "a page of one byte that is not 0"),
        (vec![2, 0, 0, 0, 9], "a part of something else"),
        (b"\x08\0\x05\0\x04abcd".to_vec(), "a command that is not known"),
        (vec![4], "the end of the memory"),
        (vec![0x55], "a record of no known kind"),
        (start()[8..].to_vec(), "memory of another version, or twice"),
    ] {
        let line = wrong(bytes);
        assert!(line.contains(what), "{line} lacks {what}");
    }
    let line = wrong(b"\x01\0\0\0\x03\x05block\0\0\0\0\0\0\0\x01".to_vec());
    assert!(line.contains("the device \"block\""), "{line}");
    let line = wrong(end(2, &entry(0, 8, NAME))[..20].to_vec());
    assert!(line.contains(&format!("the stream ends at byte {}", at + 20)), "{line}");
    let huge = [
        &start()[..25],
        &(u64::MAX << 12 | 4).to_be_bytes(),
        b"\x01a",
        &(1u64 << 62).to_be_bytes(),
    ]
    .concat();
    assert!(find(&huge).unwrap_err().to_string().contains("memory of no possible size"));
}

proptest! {
    #[test]
    fn any_damage_to_memory_is_survived(
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        end_at in any::<prop::sample::Index>(),
    ) {
        let page = [&entry(0x1000, 8, NAME)[..], &[7; PAGE_SIZE], &entry(0x3000, 0x22, ""), &[0]].concat();
        let mut stream = [start(), end(2, &page), end(3, &[])].concat();
        for (at, byte) in damage {
            // Most of it is a page, of which nothing is looked at.
            let at = at.index(stream.len() - PAGE_SIZE);
            let at = if at > 140 { at + PAGE_SIZE } else { at };
            stream[at] = byte;
        }
        stream.truncate(end_at.index(stream.len() + 1));
        if let Ok(ram) = find(&stream) {
            prop_assert!(ram.end <= stream.len() as u64);
            for block in &ram.blocks {
                prop_assert!(block.pages().all(|(_, at)| at + PAGE_SIZE as u64 <= stream.len() as u64));
            }
        }
    }
}

#[test]
fn a_configuration_that_the_description_does_not_have_is_skipped() {
    let magic = &start()[..8];
    let name = b"\x07\0\0\0\x08virt-7.2";
    let bits = b"\x05\x1econfiguration/target-page-bits\0\0\0\x01\0\0\0\x0c";
    // QEMU 7.2 writes this; the last byte is that of a page of zeros.
    let zeros = [&start()[8..], &end(3, &[&entry(0x1000, 2, NAME)[..], &[0]].concat())].concat();
    assert!(find(&[magic, name, bits, &zeros].concat()).is_ok());
    let other = b"\x05\x12configuration/uuid\0\0\0\x01\0\0\0\x0c";
    let error = find(&[magic, name, &other[..], &zeros].concat()).unwrap_err();
    assert!(error.to_string().contains("a configuration that is not known"), "{error}");
    assert!(find(&[magic, b"\x07\xff\xff\xff\xff"].concat()).is_err());
    let name = b"\x07\0\0\0\x07raspi4b";
    let error = Error::OtherBoard { name: "raspi4b".into() };
    assert_eq!(find(&[magic, name, &zeros].concat()), Err(error));
}
