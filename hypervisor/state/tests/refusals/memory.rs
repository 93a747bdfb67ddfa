//! Extents that are not the guest's memory.

use crate::{
    common::{load, load_ram, ram, save, state},
    edited_1_0, refused, small_of_1_0,
};
use stasis_state::{Error, PAGE_SIZE, RecordHeader, RecordType, Routines, Target, memory::Extent};
use zerocopy::IntoBytes;

/// Returns the small file, its memory replaced by these extents; raw ones are filled up with 1.
fn with_extents(extents: &[(u64, u32, u32)]) -> Vec<u8> {
    edited_1_0(|file| {
        file.records.retain(|record| !record.is(RecordType::Memory));
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
    refused(&with_extents(&[(base, 5, 0)]), "the page at 0x40004000 is outside the guest's memory");
    refused(
        &with_extents(&[(base - 4096, 5, 0)]),
        "the page at 0x3ffff000 is outside the guest's memory",
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
    let longer = edited_1_0(|file| file.record(RecordType::Memory, 0).body.extend([0; 8]));
    assert_eq!(
        line(&longer),
        "record 12 (MEMORY) is 4120 bytes long, but its extent makes it 4112"
    );
    let shorter = edited_1_0(|file| file.record(RecordType::Memory, 0).body.truncate(15));
    assert_eq!(line(&shorter), "record 12 (MEMORY): 15 bytes are too few for an extent");
}

#[test]
fn memory_is_not_loaded_from_another_file() {
    let memory = ram("a.b.");
    let checkpoint = load(&small_of_1_0()).unwrap();
    let mut other = small_of_1_0();
    let at = other.len() - RecordHeader::LEN - 8192;
    other[at] ^= 1;
    assert!(matches!(load_ram(&other, &checkpoint), Err(Error::RecordCrc { .. })));
    let longer = ram("a.b.c");
    let other = save(&state(1, longer.len()), &longer).0;
    assert_eq!(load_ram(&other, &checkpoint), Err(Error::Changed));
    let same_length =
        with_extents(&[(0x4000_0000, 1, 1), (0x4000_2000, 1, 1), (0x4000_3000, 1, 0)]);
    assert!(load_ram(&same_length, &checkpoint).is_err());

    let mut larger = vec![0; memory.len() + 4096];
    let target = Target { ram: &mut larger, shared: vec![] };
    let file = small_of_1_0();
    let routines = Routines::default();
    let error =
        stasis_state::read_memory(&mut &file[..], &checkpoint, target, routines, &mut |_, _| ());
    let line = "the guest has 16384 bytes of RAM, but 20480 were given";
    assert_eq!(error.unwrap_err().to_string(), line);
}
