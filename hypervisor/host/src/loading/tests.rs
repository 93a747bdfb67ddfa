//! A unit is what its checkpoint says, or it is not mapped: with sources that are whole, that fail,
//! and that lie.

use super::*;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use stasis_memory::missing::UNIT_SIZE;
use stasis_memory::{FakeRam, GuestMemory, WriteRam};
use stasis_state::routines::crc32c;

const BASE: u64 = 0x4000_0000;

/// A checkpoint of one unit, and what is wrong with it.
struct Fake {
    pages: Vec<Page>,
    file: Vec<u8>,
    /// A read of this page of the file fails.
    bad: Option<usize>,
    /// Bytes of the file that are not passed on, or are passed on twice.
    short: usize,
    twice: usize,
    reads: usize,
}

impl Fake {
    /// Returns a unit with pages of each kind: 3 stored ones, of which the last one stands
    /// elsewhere, words, and zeros.
    fn new() -> Self {
        let file: Vec<u8> =
            (0..8 * PAGE_SIZE).map(|n| (n / 8 * 37 + n / PAGE_SIZE) as u8).collect();
        let stored = |n: usize| {
            let crc = crc32c(0, &file[n * PAGE_SIZE..][..PAGE_SIZE]);
            Page::Stored { offset: (n * PAGE_SIZE) as u64, crc }
        };
        let mut pages =
            vec![Page::Zero, stored(2), stored(3), Page::Word(0xcccc), Page::Word(0xcccc)];
        pages.extend([Page::Word(0xff00), stored(7)]);
        pages.resize(UNIT_PAGES, Page::Zero);
        Self { pages, file, bad: None, short: 0, twice: 0, reads: 0 }
    }

    /// Returns what the unit must be.
    fn expected(&self) -> Vec<u8> {
        let bytes = |page: &Page| match *page {
            Page::Zero => vec![0; PAGE_SIZE],
            Page::Word(word) => word.to_le_bytes().repeat(PAGE_SIZE / 8),
            Page::Stored { offset, .. } => self.file[offset as usize..][..PAGE_SIZE].to_vec(),
        };
        self.pages.iter().flat_map(bytes).collect()
    }
}

impl PageSource for Fake {
    type Error = &'static str;

    fn describe(&mut self, address: u64, pages: &mut [Page]) -> Result<(), &'static str> {
        assert_eq!(address, BASE);
        pages.copy_from_slice(&self.pages);
        Ok(())
    }

    fn read_with(
        &mut self,
        offset: u64,
        len: usize,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<(), &'static str> {
        self.reads += 1;
        let bytes = &self.file[offset as usize..][..len - self.short];
        bytes.chunks(1000).for_each(&mut *take);
        take(&bytes[..self.twice]);
        let pages = offset as usize / PAGE_SIZE..(offset as usize + len) / PAGE_SIZE;
        if self.bad.is_some_and(|bad| pages.contains(&bad)) { Err("a bad sector") } else { Ok(()) }
    }
}

/// Returns memory of one unit that was something else before, and of which all is missing.
fn ram() -> FakeRam {
    let mut ram = FakeRam::new(UNIT_SIZE);
    ram.write(0, &[0x5a; UNIT_SIZE]).unwrap();
    ram.begin_loading(|_| true);
    ram
}

fn fill_with(fake: &mut Fake, ram: &FakeRam) -> Result<bool, NotLoaded<&'static str>> {
    let filling = ram.missing().unwrap().fill(0..UNIT_SIZE).unwrap();
    fill(fake, filling, BASE)
}

#[test]
fn a_unit_becomes_what_its_checkpoint_says() {
    let (mut fake, mut ram) = (Fake::new(), ram());
    assert_eq!(fill_with(&mut fake, &ram), Ok(true));
    assert_eq!(fake.reads, 2, "pages that follow each other are read in one go");
    let _ = ram.missing().unwrap().arrived(0);
    ram.end_loading();
    for (n, word) in fake.expected().chunks_exact(8).enumerate() {
        assert_eq!(ram.load_u64(n * 8), Ok(u64::from_le_bytes(word.try_into().unwrap())), "{n}");
    }
}

#[test]
fn a_unit_of_zeros_has_no_content_and_nothing_of_what_was_there() {
    let (mut fake, mut ram) = (Fake::new(), ram());
    fake.pages.fill(Page::Zero);
    assert_eq!(fill_with(&mut fake, &ram), Ok(false));
    assert_eq!(fake.reads, 0);
    let _ = ram.missing().unwrap().arrived(0);
    ram.end_loading();
    assert!((0..UNIT_SIZE).step_by(8).all(|offset| ram.load_u64(offset) == Ok(0)));
}

#[test]
fn a_page_with_another_byte_is_named_and_the_unit_stays_missing() {
    for (page, at) in [(1, 2), (2, 3), (6, 7)] {
        for byte in [0, 1, PAGE_SIZE / 2, PAGE_SIZE - 1] {
            let (mut fake, ram) = (Fake::new(), ram());
            fake.file[at * PAGE_SIZE + byte] ^= 0x10;
            let error = fill_with(&mut fake, &ram).unwrap_err();
            assert_eq!(error.address, BASE + (page * PAGE_SIZE) as u64);
            assert!(matches!(error.why, Why::Damaged { .. }), "{error}");
            assert!(!ram.missing().unwrap().is_there(0..1));
        }
    }
}

#[test]
fn a_page_that_can_t_be_read_is_named_with_the_reason() {
    for (bad, page) in [(2, 1), (3, 2), (7, 6)] {
        let (mut fake, ram) = (Fake::new(), ram());
        fake.bad = Some(bad);
        let error = fill_with(&mut fake, &ram).unwrap_err();
        assert_eq!(error.address, BASE + page * PAGE_SIZE as u64);
        assert_eq!(
            error.to_string(),
            format!("its memory at {:#x} was not loaded: a bad sector", error.address)
        );
        assert!(!ram.missing().unwrap().is_there(0..1));
    }
}

#[test]
fn a_source_that_passes_on_fewer_or_more_bytes_is_not_believed() {
    for (short, twice) in [(1, 0), (0, 1), (PAGE_SIZE, 0), (8, 8)] {
        let (mut fake, ram) = (Fake::new(), ram());
        (fake.short, fake.twice) = (short, twice);
        let error = fill_with(&mut fake, &ram).unwrap_err();
        let is_length = error.why == Why::Length;
        assert!(is_length || matches!(error.why, Why::Damaged { .. }), "{error}");
        assert!(!ram.missing().unwrap().is_there(0..1));
    }
}

#[test]
fn an_offset_at_the_end_of_all_offsets_is_no_run() {
    let stored = |offset| Page::Stored { offset, crc: 0 };
    assert_eq!(run(&[stored(u64::MAX - 7), stored(PAGE_SIZE as u64 - 8)]), 1);
    assert_eq!(run(&[stored(0), stored(PAGE_SIZE as u64), stored(0)]), 2);
    assert_eq!(run(&[Page::Word(1), Page::Word(1), Page::Word(2)]), 2);
}

/// Shared memory of a unit that was something else before.
fn shared() -> Vec<u8> {
    vec![0x5a; UNIT_SIZE]
}

#[test]
fn shared_memory_becomes_what_its_checkpoint_says_piece_by_piece() {
    let (mut fake, mut ram) = (Fake::new(), shared());
    assert_eq!(check_shared(&mut fake, UNIT_SIZE, BASE, crc32c), Ok(()));
    fill_shared(&mut fake, &mut ram, 0..UNIT_SIZE, BASE).unwrap();
    assert!(ram == fake.expected());
    let pieces: Vec<_> = shared_pieces(UNIT_SIZE + PAGE_SIZE).collect();
    assert_eq!(pieces, [0..UNIT_SIZE, UNIT_SIZE..UNIT_SIZE + PAGE_SIZE]);
}

#[test]
fn shared_memory_that_is_damaged_is_known_before_anything_is_changed() {
    let mut fake = Fake::new();
    fake.file[3 * PAGE_SIZE + 7] ^= 1;
    let error = check_shared(&mut fake, UNIT_SIZE, BASE, crc32c).unwrap_err();
    assert!(matches!(error.why, Why::Damaged { .. }) && error.address == BASE + 0x2000, "{error}");
    let again = fill_shared(&mut fake, &mut shared(), 0..UNIT_SIZE, BASE);
    assert_eq!(again, Err(error), "the disk may answer otherwise than before");
    let mut fake = Fake { bad: Some(7), ..Fake::new() };
    let error = check_shared(&mut fake, UNIT_SIZE, BASE, crc32c).unwrap_err();
    assert_eq!(error, NotLoaded { address: BASE + 0x6000, why: Why::Source("a bad sector") });
}
