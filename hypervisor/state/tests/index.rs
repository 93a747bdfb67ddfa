//! Pages are found one by one, by the directory of a file.

mod common;

use common::{load, load_all, pl061, ram, save_all, shared, state};
use proptest::prelude::*;
use stasis_state::{
    Capture, Checkpoint, Error, Index, LoadError, OutOfRange, PAGE_SIZE, PageContent, ReadRam,
    Routines, Source, directory::Touched, routines::crc32c,
};
use std::{convert::Infallible, sync::LazyLock};

/// A file that counts what is read of it.
struct Counted<'a> {
    file: &'a [u8],
    read: usize,
}

impl Source for Counted<'_> {
    type Error = Infallible;

    fn len(&self) -> u64 {
        self.file.len() as u64
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), Infallible> {
        buf.copy_from_slice(&self.file[offset as usize..][..buf.len()]);
        self.read += buf.len();
        Ok(())
    }
}

fn format_error(error: LoadError<Infallible>) -> Error {
    match error {
        LoadError::Format(error) => error,
        LoadError::Source(never) | LoadError::Refused(never) => match never {},
    }
}

fn open(file: &[u8]) -> Result<(Checkpoint, Index), Error> {
    Index::open(&mut &file[..], Routines::default()).map_err(format_error)
}

/// Returns the page at an address, or the first thing that is wrong.
fn page(file: &[u8], index: &Index, address: u64) -> Result<Vec<u8>, Error> {
    let piece = index.piece(&mut &file[..], address).map_err(format_error)?;
    Ok(match piece.map_or(PageContent::Zero, |piece| piece.page(address)) {
        PageContent::Zero => vec![0; PAGE_SIZE],
        PageContent::Word(word) => word.to_le_bytes().repeat(PAGE_SIZE / 8),
        PageContent::Raw { offset, crc } => {
            assert!(offset.is_multiple_of(PAGE_SIZE as u64));
            let page = file[offset as usize..][..PAGE_SIZE].to_vec();
            let computed = crc32c(0, &page);
            if computed != crc {
                return Err(Error::PageCrc { address, found: crc, computed });
            }
            page
        }
    })
}

static GUEST: LazyLock<(Vec<u8>, Vec<u8>)> = LazyLock::new(guest);

/// Returns RAM of three blocks and a half, the second of them without content, and the file of a
/// guest that shares memory besides.
fn guest() -> (Vec<u8>, Vec<u8>) {
    let blocks = [
        "A.bC".to_owned() + &".".repeat(508),
        ".".repeat(512),
        "wX".repeat(8) + &".".repeat(496),
        "Y".to_owned() + &".".repeat(254) + "Z",
    ];
    let memory = ram(&blocks.concat());
    let mut saved = state(2, memory.len());
    saved.devices.shared = Some(shared());
    saved.devices.pl061 = pl061();
    let (file, _) = save_all(&saved, &memory, &[&ram(".s"), &ram("H")]);
    (file, memory)
}

#[test]
fn an_index_finds_what_the_reader_loads() {
    let (file, memory) = &*GUEST;
    let (checkpoint, index) = open(file).unwrap();
    assert_eq!(checkpoint, load(file).unwrap());
    let addresses: Vec<u64> = index.entries().iter().map(|entry| entry.address).collect();
    assert_eq!(addresses, [0x1000_0000, 0x1800_0000, 0x4000_0000, 0x4040_0000, 0x4060_0000]);
    assert!(load_all(file, &checkpoint, vec![]).unwrap() == *memory);
    for (n, bytes) in memory.chunks(PAGE_SIZE).enumerate() {
        let address = 0x4000_0000 + (n * PAGE_SIZE) as u64;
        assert!(page(file, &index, address).unwrap() == bytes, "{address:#x}");
    }
    assert!(page(file, &index, 0x1000_1000).unwrap() == ram("s"));
    assert!(page(file, &index, 0x1800_0000).unwrap() == ram("H"));
    assert!(index.entry(0x1800_1000).is_none() && index.block_at(0x3fff_f000).is_none());
}

#[test]
fn an_index_reads_the_registers_and_the_directory_alone() {
    let (file, _) = &*GUEST;
    let mut source = Counted { file, read: 0 };
    let (_, index) = Index::open(&mut source, Routines::default()).unwrap();
    assert!(source.read < 48 << 10, "{} bytes were read", source.read);
    source.read = 0;
    index.piece(&mut source, 0x4060_5000).unwrap();
    assert_eq!(source.read, 4096);
    assert!(index.piece(&mut source, 0x4020_0000).unwrap().is_none());
    assert_eq!(source.read, 4096, "a block without content costs nothing");
}

#[test]
fn a_file_of_an_older_minor_has_no_index() {
    let (file, _) = &*GUEST;
    let older = common::edit::Edited::from_file(file).into_older_file(4, &[]);
    assert_eq!(open(&older).unwrap_err(), Error::NoDirectory);
}

#[test]
fn a_bit_flipped_in_the_metadata_of_a_block_is_refused() {
    let (file, _) = &*GUEST;
    let (_, index) = open(file).unwrap();
    let mut flipped = file.clone();
    for entry in index.entries() {
        let start = entry.bytes().start as usize;
        for at in (start..start + 4096).step_by(3) {
            flipped[at] ^= 1 << (at % 8);
            let mut source = Counted { file: &flipped, read: 0 };
            assert!(index.piece(&mut source, entry.address).is_err(), "byte {at}");
            flipped[at] = file[at];
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A damaged file is refused when it is opened, or the page is, or it is not where the damage
    /// was.
    #[test]
    fn random_damage_is_never_taken_for_memory(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..4),
        is_cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let (good, memory) = &*GUEST;
        let mut file = good.clone();
        for (at, change) in &changes {
            let at = at.index(file.len());
            file[at] ^= change;
        }
        if let Some(len) = is_cut {
            file.truncate(len.index(file.len()));
        }
        if let Ok((checkpoint, index)) = open(&file) {
            prop_assert_eq!(&checkpoint, &load(good).unwrap());
            for (n, bytes) in memory.chunks(PAGE_SIZE).enumerate() {
                if (20..512).contains(&(n % 512)) && n % 100 != 0 {
                    continue;
                }
                let address = 0x4000_0000 + (n * PAGE_SIZE) as u64;
                if let Ok(page) = page(&file, &index, address) {
                    prop_assert!(page == bytes, "{address:#x}");
                }
            }
            if file != *good {
                prop_assert!(load(&file).is_err());
            }
        }
    }
}

/// Memory of which it is known what was touched first.
#[derive(Debug)]
struct Known(Vec<u8>, Vec<Touched>);

impl ReadRam for Known {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn next_content(&self, offset: usize) -> Option<usize> {
        self.0.next_content(offset)
    }

    fn touched(&self) -> &[Touched] {
        &self.1
    }

    fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfRange> {
        self.0.read(offset, into)
    }

    fn crc32c(&self, crc: u32, bytes: std::ops::Range<usize>) -> Result<u32, OutOfRange> {
        self.0.crc32c(crc, bytes)
    }

    fn pages_with_content(&self, offset: usize, count: usize) -> Result<u64, OutOfRange> {
        self.0.pages_with_content(offset, count)
    }
}

#[test]
fn a_file_says_which_pages_were_touched_first() {
    let memory = ram("g..oab");
    let state = state(1, memory.len());
    let page = |number: u64| number * PAGE_SIZE as u64;
    let runs = vec![Touched::new(page(3), 2), Touched::new(0, 1)];
    let memory = Known(memory, runs);
    let capture = Capture::new(state.records(), &memory, &[], Routines::default()).unwrap();
    let mut file = Vec::new();
    capture.write(&mut file, &mut |_, _| ()).unwrap();
    let base = *state.guest.ram_base;
    let (_, index) = open(&file).unwrap();
    assert_eq!(index.touched(), [Touched::new(base + page(3), 2), Touched::new(base, 1)]);
    load(&file).unwrap();
}
