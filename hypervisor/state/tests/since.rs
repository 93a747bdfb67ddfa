//! A checkpoint of a memory that knows what has changed since an earlier one.

mod common;

use common::{edit::Edited, load, load_ram, ram, save, state};
use proptest::prelude::*;
use stasis_state::{
    Baseline, BlockChange, Capture, Error, Index, OutOfRange, PAGE_SIZE, PageBits, ReadRam,
    Routines, SaveError, Sharing, Sink, Stats, written::BLOCK_SIZE,
};
use std::{cell::Cell, convert::Infallible, ops::Range};

const BASELINE: Baseline = Baseline { number: 7, identity: 0x1234_5678 };

/// Memory of which some pages have changed. What has not must not be read.
#[derive(Debug)]
struct Changed {
    bytes: Vec<u8>,
    changed: Vec<bool>,
    looks: Cell<usize>,
}

impl Changed {
    fn new(bytes: Vec<u8>, changed: impl Fn(usize) -> bool) -> Self {
        let changed = (0..bytes.len() / PAGE_SIZE).map(changed).collect();
        Self { bytes, changed, looks: Cell::new(0) }
    }

    #[track_caller]
    fn check(&self, bytes: Range<usize>) {
        let pages = bytes.start / PAGE_SIZE..bytes.end.div_ceil(PAGE_SIZE);
        assert!(self.changed[pages].iter().all(|changed| *changed), "an unchanged page is read");
    }
}

impl ReadRam for Changed {
    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn next_content(&self, offset: usize) -> Option<usize> {
        self.bytes.next_content(offset)
    }

    fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfRange> {
        self.check(offset..offset + into.len());
        ReadRam::read(&self.bytes, offset, into)
    }

    fn crc32c(&self, crc: u32, bytes: Range<usize>) -> Result<u32, OutOfRange> {
        self.check(bytes.clone());
        self.bytes.crc32c(crc, bytes)
    }

    fn pages_with_content(&self, offset: usize, count: usize) -> Result<u64, OutOfRange> {
        self.check(offset..offset + count * PAGE_SIZE);
        self.looks.set(self.looks.get() + count);
        self.bytes.pages_with_content(offset, count)
    }

    fn baseline(&self) -> Option<Baseline> {
        Some(BASELINE)
    }

    fn block_change(&self, offset: usize) -> BlockChange {
        let first = offset / BLOCK_SIZE * BLOCK_SIZE / PAGE_SIZE;
        let mut bits = PageBits::NONE;
        for (page, _) in self.changed.iter().skip(first).take(512).enumerate().filter(|it| *it.1) {
            bits.0[page / 64] |= 1 << (page % 64);
        }
        if bits == PageBits::NONE { BlockChange::Unchanged } else { BlockChange::Pages(bits) }
    }
}

/// A file that can share with another one.
struct Since<'a> {
    file: Vec<u8>,
    base: &'a [u8],
}

impl Sink for Since<'_> {
    type Error = Infallible;

    fn write(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.file.write(bytes)
    }

    fn rewrite(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.file.rewrite(bytes)
    }

    fn sharing(&mut self) -> Option<&mut dyn Sharing<Error = Infallible>> {
        Some(self)
    }
}

impl Sharing for Since<'_> {
    type Error = Infallible;

    fn share(&mut self, blocks: Range<u64>) -> Result<(), Infallible> {
        assert!(self.file.len().is_multiple_of(PAGE_SIZE));
        let bytes = blocks.start as usize * PAGE_SIZE..blocks.end as usize * PAGE_SIZE;
        self.file.write(&self.base[bytes])
    }

    fn read_base(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), Infallible> {
        buf.copy_from_slice(&self.base[offset as usize..][..buf.len()]);
        Ok(())
    }
}

fn index(base: &[u8]) -> Index {
    Index::open(&mut &base[..], Routines::default()).unwrap().1
}

/// Writes the memory since the file `base`, whose index is read.
fn save_since(base: &[u8], ram: &Changed) -> Result<(Vec<u8>, Stats), SaveError<Infallible>> {
    let (file, stats, _) = save_since_indexed(base, &index(base), ram)?;
    Ok((file, stats))
}

/// Writes the memory since the file `base`, and returns the new file's index, too.
fn save_since_indexed(
    base: &[u8],
    index: &Index,
    ram: &Changed,
) -> Result<(Vec<u8>, Stats, Index), SaveError<Infallible>> {
    let state = state(1, ram.len());
    let capture = Capture::new(state.records(), ram, &[], Routines::default()).unwrap();
    let mut sink = Since { file: Vec::new(), base };
    let (stats, index) = capture.since(BASELINE, index).write_indexed(&mut sink, &mut |_, _| ())?;
    Ok((sink.file, stats, index))
}

/// Returns the memory that an index is of, as far as it can be asked: the block at each of these
/// addresses, where the blocks with content are, and how long the file is.
fn told(index: &Index, addresses: &[u64]) -> impl PartialEq + std::fmt::Debug + use<> {
    let blocks: Vec<_> = addresses.iter().map(|address| index.block_at(*address)).collect();
    (blocks, index.entries().to_vec(), index.file_len())
}

/// Returns memory of whole blocks, which begin with these pages.
fn blocks(pages: &[&str]) -> Vec<u8> {
    let mut memory = Vec::new();
    for (n, pages) in pages.iter().enumerate() {
        memory.extend(ram(pages));
        memory.resize((n + 1) * BLOCK_SIZE, 0);
    }
    memory
}

#[test]
fn one_changed_page_costs_its_metadata_and_itself() {
    let mut memory = blocks(&["ABCd", "EFG"]);
    let base = save(&state(1, memory.len()), &memory).0;
    memory[PAGE_SIZE + 5] = 99;
    let changed = Changed::new(memory.clone(), |page| page == 1);
    let (file, stats) = save_since(&base, &changed).unwrap();
    assert!(file == save(&state(1, memory.len()), &memory).0, "it is what a whole one is");
    // Two raw pages of the first block, and all of the second.
    assert_eq!(stats.bytes_shared, (2 + 4) * PAGE_SIZE as u64);
    assert_eq!(changed.looks.get(), 1);
    assert!(load_ram(&file, &load(&file).unwrap()).unwrap() == memory);
}

#[test]
fn of_what_did_not_change_nothing_is_read() {
    let memory = blocks(&["ABCd", "", "EFG"]);
    let base = save(&state(1, memory.len()), &memory).0;
    let changed = Changed::new(memory, |_| false);
    let (file, stats) = save_since(&base, &changed).unwrap();
    assert!(file == base);
    assert_eq!((stats.bytes_shared, changed.looks.get()), (8 * PAGE_SIZE as u64, 0));
}

#[test]
fn a_block_may_lose_all_it_had_and_get_what_it_had_not() {
    let old = blocks(&["A", "", "bC", "D"]);
    let new = blocks(&["", "A", "Cb", "D"]);
    let base = save(&state(1, old.len()), &old).0;
    let changed = Changed::new(new.clone(), |page| page % 512 < 2 && page < 3 * 512);
    let (file, _) = save_since(&base, &changed).unwrap();
    assert!(file == save(&state(1, new.len()), &new).0);
}

#[test]
fn a_damaged_base_is_told_of_and_an_other_one_is_refused() {
    let memory = blocks(&["ABC"]);
    let base = save(&state(1, memory.len()), &memory).0;
    let changed = Changed::new(memory, |page| page == 0);
    let mut damaged = base.clone();
    let block = Edited::from_file(&base).first_block as usize * PAGE_SIZE;
    damaged[block + 600] ^= 1;
    let error = save_since(&damaged, &changed).unwrap_err().to_string();
    let line = "the checkpoint that it shares with is damaged: record 0 (RAM_BLOCK): CRC is 0x";
    assert!(error.starts_with(line), "{error}");
    let (state, index) = (state(1, changed.len()), index(&base));
    let other = Baseline { number: 8, ..BASELINE };
    let capture = Capture::new(state.records(), &changed, &[], Routines::default()).unwrap();
    let mut sink = Since { file: Vec::new(), base: &base };
    let error = capture.since(other, &index).write(&mut sink, &mut |_, _| ()).unwrap_err();
    assert_eq!(error, SaveError::Base(Error::NoBase));
    let larger = Changed::new(vec![0; 2 * BLOCK_SIZE], |_| false);
    assert_eq!(save_since(&base, &larger).unwrap_err(), SaveError::Base(Error::NoBase));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_changes_the_file_is_what_a_whole_one_is(
        old in prop::collection::vec(prop_oneof![Just('.'), Just('a'), Just('B')], 0..40),
        new in prop::collection::vec(prop_oneof![Just('.'), Just('a'), Just('c'), Just('B')], 0..40),
        touched in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let text = |pages: &[char]| pages.iter().collect::<String>();
        let (a, b) = (text(&old), text(&new));
        let (old, new) = (blocks(&[&a, &b, &a]), blocks(&[&b, &b, &a]));
        let touched: Vec<usize> = touched.iter().map(|page| page.index(3 * 512)).collect();
        let differs = |page: usize| {
            let bytes = page * PAGE_SIZE..(page + 1) * PAGE_SIZE;
            old[bytes.clone()] != new[bytes] || touched.contains(&page)
        };
        let base = save(&state(1, old.len()), &old).0;
        let changed = Changed::new(new.clone(), differs);
        let (file, stats, written) = save_since_indexed(&base, &index(&base), &changed).unwrap();
        let (whole, expected) = save(&state(1, new.len()), &new);
        prop_assert!(file == whole);
        prop_assert_eq!(Stats { bytes_shared: 0, ..stats }, expected);
        // The index that the writer has returned is the one that is read of its file.
        let ram_base = *state(1, new.len()).guest.ram_base;
        let addresses: Vec<u64> =
            (0..5).map(|n| (ram_base - 1).wrapping_add(n * BLOCK_SIZE as u64)).collect();
        prop_assert_eq!(told(&written, &addresses), told(&index(&file), &addresses));
    }
}
