//! Memory that was never written is not looked at, by the reader and the writer of checkpoints over
//! [`FakeRam`]s.

use std::cell::Cell;
use std::convert::Infallible;
use std::ops::Range;

use stasis_memory::{FakeRam, OutOfRange, ReadRam, WriteRam};
use stasis_state::written::BLOCK_SIZE;
use stasis_state::{Capture, GuestState, PAGE_SIZE, Routines, Sink, Target};

/// A checkpoint in memory, and the number of pauses while it was written.
#[derive(Default)]
struct File(Vec<u8>, usize);

impl Sink for File {
    type Error = Infallible;

    fn write(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        Sink::write(&mut self.0, bytes)
    }

    fn rewrite(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.0.rewrite(bytes)
    }

    fn pause(&mut self) {
        self.1 += 1;
    }
}

/// Memory that counts the pages that are looked at.
#[derive(Debug)]
struct Watched<'r> {
    ram: &'r FakeRam,
    looks: Cell<usize>,
}

impl ReadRam for Watched<'_> {
    fn len(&self) -> usize {
        self.ram.len()
    }

    fn next_content(&self, offset: usize) -> Option<usize> {
        self.ram.next_content(offset)
    }

    fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfRange> {
        self.ram.read(offset, into)
    }

    fn crc32c(&self, crc: u32, bytes: Range<usize>) -> Result<u32, OutOfRange> {
        self.ram.crc32c(crc, bytes)
    }

    fn pages_with_content(&self, offset: usize, count: usize) -> Result<u64, OutOfRange> {
        self.looks.set(self.looks.get() + count);
        self.ram.pages_with_content(offset, count)
    }
}

/// Returns three blocks, with a byte in the middle one.
fn ram() -> FakeRam {
    let mut ram = FakeRam::new(3 * BLOCK_SIZE);
    ram.write(BLOCK_SIZE + 5 * PAGE_SIZE, &[1]).unwrap();
    ram
}

fn bytes(ram: &FakeRam) -> Vec<u8> {
    let mut bytes = vec![0; ram.len()];
    ram.read(0, &mut bytes).unwrap();
    bytes
}

/// Returns a guest with as much memory.
fn state(ram_size: usize) -> GuestState {
    let mut state = GuestState::reset(1);
    state.guest.set_name("quiet");
    *state.guest.ram_base = 0x4000_0000;
    *state.guest.ram_size = ram_size as u64;
    *state.clock.cntfrq = 62_500_000;
    *state.distributor.nr_irqs = 288;
    *state.vcpus[0].core.pstate = 0x3c5;
    *state.vcpus[0].identity.mpidr_el1 = 0x8000_0000;
    state
}

fn save(ram: &dyn ReadRam) -> File {
    let state = state(ram.len());
    let capture = Capture::new(state.records(), ram, &[], Routines::default());
    let mut file = File::default();
    capture.unwrap().write(&mut file, &mut |_, _| ()).unwrap();
    let pauses = file.1;
    assert!(pauses >= BLOCK_SIZE / (32 << 10), "the look at a block has {pauses} breaks");
    file
}

#[test]
fn a_checkpoint_is_the_same_and_looks_at_what_was_written() {
    let ram = ram();
    let watched = Watched { ram: &ram, looks: Cell::new(0) };
    let file = save(&watched);
    assert_eq!(watched.looks.get(), BLOCK_SIZE / PAGE_SIZE);
    assert!(file.0 == save(&bytes(&ram)).0);
}

#[test]
fn what_is_loaded_counts_as_written_and_the_rest_stays_untouched() {
    let saved = ram();
    let File(bytes_of, _) = save(&*saved);
    let file = &mut &bytes_of[..];
    let checkpoint = stasis_state::read(file, Routines::default(), &mut |_, _| ()).unwrap();
    // Another guest had the memory, and has written its last block.
    let mut ram = FakeRam::new(saved.len());
    ram.write(2 * BLOCK_SIZE, &vec![7; BLOCK_SIZE]).unwrap();
    let target = Target { ram: &mut *ram, shared: vec![] };
    stasis_state::read_memory(file, &checkpoint, target, Routines::default(), &mut |_, _| ())
        .unwrap();
    assert!(bytes(&ram) == bytes(&saved));
    assert_eq!(ram.written_blocks().collect::<Vec<_>>(), [BLOCK_SIZE, 2 * BLOCK_SIZE]);
}
