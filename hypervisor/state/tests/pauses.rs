//! Whoever writes or reads a checkpoint can let others run: between two pauses only so many bytes
//! are gone over.

mod common;

use std::cell::Cell;
use std::convert::Infallible;
use std::ops::Range;

use common::{save, state};
use stasis_state::{
    Capture, OutOfRange, PAGE_SIZE, ReadRam, Routines, Sink, Source, Target, WriteRam,
    block::Content, routines,
};

const MIB: usize = 1 << 20;
/// The most bytes that are looked at between two pauses, and a record's header and extent.
const MOST_READ: usize = (32 << 10) + 64;
/// The most bytes that are cleared between two pauses.
const MOST_CLEARED: usize = 256 << 10;

thread_local! {
    /// Bytes since the last pause, and the most that there were: looked at, and cleared.
    static READ: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
    static CLEARED: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

type Count = std::thread::LocalKey<Cell<(usize, usize)>>;

fn count(counter: &'static Count, bytes: usize) {
    let (now, most) = counter.get();
    counter.set((now + bytes, most.max(now + bytes)));
}

fn pause() {
    for counter in [&READ, &CLEARED] {
        counter.set((0, counter.get().1));
    }
}

/// Routines that count what they go over.
fn counting() -> Routines {
    Routines {
        crc32c: |crc, bytes| {
            count(&READ, bytes.len());
            routines::crc32c(crc, bytes)
        },
    }
}

/// Memory that counts what is gone over.
#[derive(Debug)]
struct Counting(Vec<u8>);

impl ReadRam for Counting {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn next_content(&self, offset: usize) -> Option<usize> {
        self.0.next_content(offset)
    }

    fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfRange> {
        ReadRam::read(&self.0, offset, into)
    }

    fn crc32c(&self, crc: u32, bytes: Range<usize>) -> Result<u32, OutOfRange> {
        count(&READ, bytes.len());
        self.0.crc32c(crc, bytes)
    }

    fn pages_with_content(&self, offset: usize, pages: usize) -> Result<u64, OutOfRange> {
        count(&READ, pages * PAGE_SIZE);
        self.0.pages_with_content(offset, pages)
    }

    fn look(&self, offset: usize, contents: &mut [Content]) -> Result<(), OutOfRange> {
        count(&READ, contents.len() * PAGE_SIZE);
        self.0.look(offset, contents)
    }
}

impl WriteRam for Counting {
    fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), OutOfRange> {
        WriteRam::write(&mut self.0, offset, bytes)
    }

    fn zero(&mut self, bytes: Range<usize>) -> Result<(), OutOfRange> {
        count(&CLEARED, bytes.len());
        self.0.zero(bytes)
    }
}

/// A file whose owner does something else in the pauses.
struct Pausing<F>(F);

impl Sink for Pausing<Vec<u8>> {
    type Error = Infallible;

    fn rewrite(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.0.rewrite(bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        Sink::write(&mut self.0, bytes)
    }

    fn pause(&mut self) {
        pause();
    }
}

impl Source for Pausing<&[u8]> {
    type Error = Infallible;

    fn len(&self) -> u64 {
        Source::len(&self.0)
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), Infallible> {
        self.0.read_at(offset, buf)
    }

    fn pause(&mut self) {
        pause();
    }
}

/// RAM with 2 MiB of content, and as much without.
fn ram() -> Vec<u8> {
    let mut ram = vec![0; 4 * MIB];
    ram[..2 * MIB].iter_mut().zip(0u64..).for_each(|(byte, n)| *byte = (n % 251) as u8);
    ram
}

#[test]
fn a_writer_pauses_after_each_piece() {
    let (state, ram) = (state(1, 4 * MIB), Counting(ram()));
    let capture = Capture::new(state.records(), &ram, &[], counting()).unwrap();
    capture.write(&mut Pausing(Vec::new()), &mut |_, _| ()).unwrap();
    let (_, most) = READ.get();
    assert!((32 << 10..=MOST_READ).contains(&most), "{most} bytes without a pause");
}

#[test]
fn a_reader_pauses_after_each_piece() {
    let (file, _) = save(&state(1, 4 * MIB), &ram());
    let mut file = Pausing(&file[..]);
    let checkpoint = stasis_state::read(&mut file, counting(), &mut |_, _| ()).unwrap();
    let mut loaded = Counting(vec![0xa5; 4 * MIB]);
    let target = Target { ram: &mut loaded, shared: Vec::new() };
    stasis_state::read_memory(&mut file, &checkpoint, target, counting(), &mut |_, _| ()).unwrap();
    assert!(loaded.0 == ram());
    let ((_, read), (_, cleared)) = (READ.get(), CLEARED.get());
    assert!((32 << 10..=MOST_READ).contains(&read), "{read} bytes without a pause");
    assert_eq!(cleared, MOST_CLEARED);
}
