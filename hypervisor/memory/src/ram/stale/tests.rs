//! Memory that others have left as it was: whoever reads it finds zeros, or what was written since.

use super::*;
use crate::access::GuestMemory;
use crate::fake::FakeRam;
use crate::ram::Reach;
use proptest::prelude::*;
use stasis_state::{PAGE_SIZE, ReadRam, WriteRam};
use std::vec;

const OLD: u8 = 0xa5;
/// Three blocks, and a part of one.
const LEN: usize = 3 * BLOCK_SIZE + 5 * PAGE_SIZE;
const PAGES: usize = LEN / PAGE_SIZE;

#[test]
fn nothing_is_cleared_before_it_is_touched_but_what_is_no_whole_block() {
    let ram = FakeRam::stale(LEN, OLD);
    let raw = |offset| ram.raw.load_u16(offset).unwrap();
    assert_eq!((raw(0), raw(3 * BLOCK_SIZE - 2)), (0xa5a5, 0xa5a5));
    assert_eq!(raw(3 * BLOCK_SIZE), 0);
    assert!(ram.is_block_stale(0) && !ram.is_block_there(0) && !ram.is_block_stale(LEN - 1));
    assert!(!ram.may_have_content(0) && ram.has_stale() && !ram.is_finished());
}

#[test]
fn what_the_hypervisor_reads_is_zeros_and_only_that_unit_is_cleared() {
    let ram = FakeRam::stale(LEN, OLD);
    let mut bytes = [1; 4];
    ram.read(UNIT_SIZE - 2, &mut bytes).unwrap();
    assert_eq!(bytes, [0; 4]);
    assert_eq!((ram.load_u64(8), ram.load_u32(16), ram.load_u16(2)), (Ok(0), Ok(0), Ok(0)));
    assert_eq!(ram.raw.load_u64(2 * UNIT_SIZE), Ok(u64::from_ne_bytes([OLD; 8])));
    assert!(ram.is_block_stale(0) && !ram.may_have_content(0));
    assert_eq!(ram.pages_with_content(BLOCK_SIZE, 64), Ok(0));
    assert_eq!(ram.word(BLOCK_SIZE + UNIT_SIZE), Ok(Some(0)));
    assert_eq!(ram.load_u32_past_caches(2 * BLOCK_SIZE), Ok(0));
    assert!(ram.read(LEN - 1, &mut bytes).is_err());
}

#[test]
fn a_block_that_the_hypervisor_writes_is_clear() {
    let mut ram = FakeRam::stale(LEN, OLD);
    ram.write(BLOCK_SIZE + 100, &[7]).unwrap();
    assert!(ram.is_block_there(BLOCK_SIZE) && ram.may_have_content(BLOCK_SIZE));
    assert!(ram.is_block_stale(0) && ram.is_block_stale(2 * BLOCK_SIZE));
    let mut block = vec![1; BLOCK_SIZE];
    ram.raw.read(BLOCK_SIZE, &mut block).unwrap();
    assert_eq!(block.iter().position(|byte| *byte != 0), Some(100));
    assert_eq!(block.iter().filter(|byte| **byte != 0).count(), 1);
}

#[test]
fn a_vcpu_clears_one_unit_at_a_time_and_first_the_one_that_it_wants() {
    let mut ram = FakeRam::stale(LEN, OLD);
    let wanted = BLOCK_SIZE + 9 * UNIT_SIZE + 8;
    assert!(!ram.clear_unit(wanted));
    assert_eq!(ram.raw.load_u64(wanted), Ok(0));
    assert_ne!(ram.raw.load_u64(BLOCK_SIZE), Ok(0));
    let more = (0..).take_while(|_| !ram.clear_unit(wanted)).count();
    assert_eq!(more, UNITS - 2, "the last call says that the block is clear");
    assert!(ram.is_block_there(wanted) && ram.is_block_stale(0));
    assert!(ram.clear_unit(wanted), "another vCPU has found nothing, too");
}

#[test]
fn the_rest_is_cleared_bit_by_bit() {
    let mut ram = FakeRam::stale(LEN, OLD);
    ram.write(BLOCK_SIZE, &[1]).unwrap();
    assert_eq!((0..).take_while(|_| ram.clear_next().is_some()).count(), 2 * UNITS + 1);
    assert!(!ram.has_stale() && ram.clear_next().is_none());
    let mut bytes = vec![1; LEN];
    ram.raw.read(0, &mut bytes).unwrap();
    assert_eq!(bytes.iter().filter(|byte| **byte != 0).count(), 1);
}

#[test]
fn what_is_loaded_in_its_place_is_all_brought() {
    let mut ram = FakeRam::stale(LEN, OLD);
    ram.finish_writing(&mut || ());
    ram.begin_loading(|_| false);
    assert!(!ram.has_stale() && !ram.is_block_there(0));
    assert_eq!(ram.missing().unwrap().left(), 3 * BLOCK_SIZE as u64);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A vCPU reads a page, and writes it.
    Touch(usize),
    Write(usize),
    /// The hypervisor does so, at the end of the page and the beginning of the next.
    Read(usize),
    Store(usize),
    /// The hypervisor makes it zeros, to the end of the block.
    Zero(usize),
    ClearSome,
    Restart,
    Checkpoint,
}

fn step() -> impl Strategy<Value = Step> {
    let page = 0..PAGES - 1;
    prop_oneof![
        page.clone().prop_map(Step::Touch),
        page.clone().prop_map(Step::Write),
        page.clone().prop_map(Step::Read),
        page.clone().prop_map(Step::Store),
        page.prop_map(Step::Zero),
        Just(Step::ClearSome),
        Just(Step::Restart),
        Just(Step::Checkpoint),
    ]
}

/// A guest, and the first word of each page as it must be.
struct Guest {
    ram: FakeRam,
    words: Vec<u64>,
}

impl Guest {
    /// Does what a vCPU does that finds nothing in stage 2.
    fn touch(&mut self, page: usize) {
        while !self.ram.is_block_there(page * PAGE_SIZE) {
            self.ram.clear_unit(page * PAGE_SIZE);
        }
        assert_eq!(self.ram.raw.load_u64(page * PAGE_SIZE), Ok(self.words[page]));
        assert_eq!(self.ram.raw.load_u64(page * PAGE_SIZE + 8), Ok(0));
    }

    fn write(&mut self, page: usize, value: u64) {
        self.touch(page);
        let reach = self.ram.first_write(page * PAGE_SIZE);
        assert!(matches!(reach, Ok(Reach::Block | Reach::Page)));
        self.ram.raw.store_u64(page * PAGE_SIZE, value).unwrap();
        self.words[page] = value;
    }

    fn carry_out(&mut self, step: Step, value: u64) {
        match step {
            Step::Touch(page) => self.touch(page),
            Step::Write(page) => self.write(page, value),
            Step::Read(page) => {
                let mut bytes = [1; 16];
                self.ram.read((page + 1) * PAGE_SIZE - 8, &mut bytes).unwrap();
                assert_eq!(bytes[..8], [0; 8]);
                assert_eq!(bytes[8..], self.words[page + 1].to_ne_bytes());
            }
            Step::Store(page) => {
                let mut bytes = [0; 16];
                bytes[8..].copy_from_slice(&value.to_ne_bytes());
                self.ram.write((page + 1) * PAGE_SIZE - 8, &bytes).unwrap();
                self.words[page + 1] = value;
            }
            Step::Zero(page) => {
                let end = LEN.min((page * PAGE_SIZE + 1).next_multiple_of(BLOCK_SIZE));
                self.ram.zero(page * PAGE_SIZE..end).unwrap();
                self.words[page..end / PAGE_SIZE].fill(0);
            }
            Step::ClearSome => drop((0..5).map(|_| self.ram.clear_next()).collect::<Vec<_>>()),
            Step::Restart => {
                self.ram.zero_all(&mut || ());
                self.words.fill(0);
            }
            Step::Checkpoint => self.checkpoint(),
        }
    }

    /// Looks whether what may have content is all that has, and has it.
    fn checkpoint(&mut self) {
        for block in (0..LEN).step_by(BLOCK_SIZE) {
            let end = LEN.min(block + BLOCK_SIZE);
            let words = &self.words[block / PAGE_SIZE..end / PAGE_SIZE];
            if !self.ram.may_have_content(block) {
                assert!(words.iter().all(|word| *word == 0));
                continue;
            }
            let mut bytes = vec![0; end - block];
            self.ram.raw.read(block, &mut bytes).unwrap();
            for (page, word) in bytes.chunks(PAGE_SIZE).zip(words) {
                assert_eq!(page[..8], word.to_ne_bytes());
                assert!(page[8..] == [0; PAGE_SIZE - 8], "old bytes would be stored");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn nobody_finds_what_was_there_before(steps in prop::collection::vec(step(), 1..40)) {
        let mut guest = Guest { ram: FakeRam::stale(LEN, OLD), words: vec![0; PAGES] };
        guest.ram.finish_writing(&mut || ());
        for (value, step) in (1..).zip(steps) {
            guest.carry_out(step, value);
        }
        guest.checkpoint();
        (0..PAGES).for_each(|page| guest.touch(page));
    }
}
