//! The driver on a controller that really moves what it is told to, with a card behind it.

use super::fake::{
    ADMA2, FRAME, FakeController, HIGH_SPEED, Memory, SDMA, attach_memory, with_memory,
};
use super::{Dma, Engine, Sdhci};
use crate::mmio::fake::frame;
use crate::sd::fake::{FakeCard, Kind, pattern};
use crate::sd::{BLOCK, Card, Error, Fault, MAX_BLOCKS, Speed};
use crate::time::fake::Ticks;
use std::cell::RefCell;
use std::rc::Rc;
use std::string::ToString;
use std::vec;

const BLOCKS: usize = 4096;
/// Where the controllers' bus has the memory, as on a Raspberry Pi 4.
const BUS: u64 = 0xc020_0000;
/// There, the buffer has one of SDMA's boundaries in it.
const ACROSS: u64 = 0x4008_0000 - 64 * 1024;

const DATA_TIMEOUT: u32 = 1 << 20;
const DATA_CRC: u32 = 1 << 21;
const ADMA: u32 = 1 << 25;
/// Errors of a transfer, after which it is tried again. Miri takes too long for all of them.
const ERRORS: &[u32] = if cfg!(miri) {
    &[DATA_CRC]
} else {
    &[DATA_CRC, DATA_TIMEOUT, DATA_CRC | DATA_TIMEOUT, 1 << 22, 1 << 24]
};

type Driver = Card<Sdhci<Ticks>>;
type Controller = Rc<RefCell<FakeController>>;

fn driver(dma: Option<Dma>) -> Driver {
    Card::start(Sdhci::new(frame(FRAME), dma).with(Ticks::per_second(1000)))
        .expect("it can't be set up")
}

/// Returns a controller, and its driver, which has found that DMA reaches the memory.
fn started(capabilities: u32, bus: u64) -> (Controller, Driver) {
    let controller = FakeController::attach(capabilities, FakeCard::new(Kind::High, BLOCKS));
    let mut card = driver(attach_memory(bus));
    card.read(0, &mut [0; BLOCK]).unwrap();
    controller.borrow_mut().moved_by.clear();
    (controller, card)
}

#[test]
fn data_move_by_the_best_way_that_the_controller_has() {
    // Miri has no time for the longest transfers.
    let most = if cfg!(miri) { 6 } else { MAX_BLOCKS };
    let ways = [(ADMA2 | SDMA, Engine::Adma2), (SDMA, Engine::Sdma), (0, Engine::Port)];
    for (capabilities, engine) in ways {
        let (controller, mut card) = started(capabilities, BUS);
        assert_eq!(card.bus_mut().engine(), engine);
        let before = controller.borrow().card.memory.clone();
        for (first, count) in [(0, 1), (17, 5), (3, most), (100, 2 * most + 3)] {
            let mut found = vec![0; count * BLOCK];
            card.read(first as u64, &mut found).unwrap();
            assert!(found == before[first * BLOCK..][..count * BLOCK], "{engine:?} {count}");
        }
        let data = pattern(most + 2);
        card.write(100, &data).unwrap();
        card.write(9, &data[BLOCK..2 * BLOCK]).unwrap();
        let mut expected = before;
        expected[100 * BLOCK..][..data.len()].copy_from_slice(&data);
        expected[9 * BLOCK..][..BLOCK].copy_from_slice(&data[BLOCK..2 * BLOCK]);
        assert!(controller.borrow().card.memory == expected, "{engine:?}");
        let way = ["pio", "sdma", "adma2"][engine as usize];
        assert!(controller.borrow().moved_by.iter().all(|found| *found == way), "{engine:?}");
    }
}

#[test]
fn the_clock_is_as_fast_as_controller_and_card_can() {
    let fast = [(HIGH_SPEED | ADMA2, Speed::High), (HIGH_SPEED, Speed::High), (0, Speed::Default)];
    for (capabilities, speed) in fast {
        let (controller, mut card) = started(capabilities, BUS);
        assert_eq!(card.speed(), speed);
        assert_eq!(controller.borrow().card.switched, speed);
        card.write(7, &pattern(8)).unwrap();
        assert_eq!(controller.borrow_mut().hertz(), speed.hertz());
        assert!(controller.borrow().card.memory[7 * BLOCK..15 * BLOCK] == pattern(8));
    }
}

#[test]
fn sdma_goes_on_behind_each_boundary() {
    let (controller, mut card) = started(SDMA, ACROSS);
    let data = pattern(MAX_BLOCKS);
    card.write(100, &data).unwrap();
    assert_eq!(controller.borrow().boundaries, 2, "once for the write, once to compare");
    let mut found = vec![0; data.len()];
    card.read(100, &mut found).unwrap();
    assert!(found == data);
    // A transfer that ends there needs no other address.
    card.read(0, &mut found[..64 * 1024]).unwrap();
    assert_eq!(controller.borrow().boundaries, 3);
}

#[test]
fn memory_out_of_reach_is_not_used() {
    for bus in [1 << 32, (1 << 32) - 4096, u64::MAX - 4096, BUS + 2] {
        assert!(attach_memory(bus).is_none(), "{bus:#x}");
    }
    let controller = FakeController::attach(ADMA2, FakeCard::new(Kind::High, BLOCKS));
    let mut card = driver(None);
    card.write(5, &pattern(8)).unwrap();
    assert!(controller.borrow().moved_by.iter().all(|way| *way == "pio"));
    assert!(controller.borrow().card.memory[5 * BLOCK..13 * BLOCK] == pattern(8));
}

#[test]
fn dma_that_leads_elsewhere_is_found_by_the_first_read() {
    for capabilities in [ADMA2, SDMA, SDMA | HIGH_SPEED, ADMA2 | HIGH_SPEED] {
        let controller = FakeController::attach(capabilities, FakeCard::new(Kind::High, BLOCKS));
        let dma = attach_memory(BUS);
        with_memory(Memory::lead_elsewhere);
        let mut card = driver(dma);
        let before = controller.borrow().card.memory.clone();
        let mut found = vec![0; 5 * BLOCK];
        card.read(17, &mut found).unwrap();
        assert!(found == before[17 * BLOCK..][..found.len()], "{capabilities:#x}");
        assert_eq!(card.bus_mut().engine(), Engine::Port, "{capabilities:#x}");
        card.write(7, &pattern(8)).unwrap();
        assert!(controller.borrow().card.memory[7 * BLOCK..15 * BLOCK] == pattern(8));
    }
}

#[test]
fn nothing_is_written_by_dma_before_a_read_has_shown_that_it_reaches_the_memory() {
    let controller = FakeController::attach(SDMA, FakeCard::new(Kind::High, BLOCKS));
    let mut card = driver(attach_memory(BUS));
    card.write(7, &pattern(8)).unwrap();
    card.read(7, &mut [0; BLOCK]).unwrap();
    card.write(7, &pattern(8)).unwrap();
    assert_eq!(controller.borrow().moved_by, ["pio", "pio", "sdma", "sdma", "sdma"]);
}

#[test]
fn a_write_is_compared_with_what_came_from_the_card_and_not_with_what_was_sent() {
    let (_controller, mut card) = started(SDMA, BUS);
    with_memory(Memory::lead_elsewhere);
    let error = card.write(7, &pattern(8)).unwrap_err();
    assert!(matches!(error, Error::Failed { fault: Fault::Differs, .. }), "{error}");
}

#[test]
fn a_transfer_that_fails_in_the_midst_is_tried_again() {
    for capabilities in [ADMA2, SDMA] {
        for &bits in ERRORS {
            let (controller, mut card) = started(capabilities, ACROSS);
            // The write, then the read that compares, then both no more.
            controller.borrow_mut().fails = vec![(3, bits), (200, bits)];
            let data = pattern(MAX_BLOCKS);
            card.write(7, &data).unwrap();
            assert!(controller.borrow().card.memory[7 * BLOCK..][..data.len()] == data);
            controller.borrow_mut().fails = vec![(0, bits), (MAX_BLOCKS - 1, bits)];
            let mut found = vec![0; data.len()];
            card.read(7, &mut found).unwrap();
            assert!(found == data, "{bits:#x}");
            assert!(controller.borrow().fails.is_empty());
        }
    }
}

#[test]
fn a_transfer_that_goes_on_failing_names_the_fault() {
    let (controller, mut card) = started(ADMA2, BUS);
    controller.borrow_mut().fails = vec![(3, DATA_CRC); 3];
    let error = card.write(7, &pattern(8)).unwrap_err();
    let words = "CMD25 (WRITE_MULTIPLE_BLOCK): data arrived damaged, 3 tries";
    assert_eq!(error.to_string(), words);
    card.write(7, &pattern(8)).unwrap();
}

#[test]
fn dma_that_fails_is_not_used_again_before_the_next_start() {
    let (controller, mut card) = started(ADMA2, BUS);
    controller.borrow_mut().fails = vec![(3, ADMA)];
    card.write(7, &pattern(8)).unwrap();
    assert!(controller.borrow().card.memory[7 * BLOCK..15 * BLOCK] == pattern(8));
    assert_eq!(controller.borrow().moved_by, ["adma2", "pio", "pio"]);
    let fault = Fault::Dma { status: 0b101 };
    assert_eq!(fault.to_string(), "the controller's DMA failed, status 0x05");
    let mut card = Card::start(card.bus_mut().clone()).unwrap();
    card.read(7, &mut [0; BLOCK]).unwrap();
    assert_eq!(controller.borrow().moved_by.last(), Some(&"adma2"));
}

#[test]
fn a_card_that_is_pulled_in_the_midst_of_dma_is_lost() {
    for capabilities in [ADMA2, SDMA] {
        let (controller, mut card) = started(capabilities, BUS);
        let before = controller.borrow().card.memory.clone();
        controller.borrow_mut().pulled_after = Some(100);
        let error = card.write(7, &pattern(MAX_BLOCKS)).unwrap_err();
        assert!(matches!(error, Error::Lost { fault: Fault::DataTimeout { .. }, .. }), "{error}");
        assert_eq!(card.read(7, &mut [0; BLOCK]), Err(error));
        let memory = &controller.borrow().card.memory;
        assert!(memory[(7 + MAX_BLOCKS) * BLOCK..] == before[(7 + MAX_BLOCKS) * BLOCK..]);
        assert!(memory[..7 * BLOCK] == before[..7 * BLOCK]);
    }
}

#[test]
fn memory_that_a_controller_does_not_let_go_of_is_not_used_again() {
    let controller = FakeController::attach(ADMA2, FakeCard::new(Kind::High, BLOCKS));
    let dma = attach_memory(BUS);
    let mut card = driver(dma);
    card.read(7, &mut [0; BLOCK]).unwrap();
    assert_eq!(card.bus_mut().engine(), Engine::Adma2);
    controller.borrow_mut().fails = vec![(3, DATA_TIMEOUT)];
    controller.borrow_mut().stuck = true;
    assert!(card.write(7, &pattern(8)).is_err());
    assert_eq!(card.bus_mut().engine(), Engine::Port);
    // Another controller that has the same memory moves its data without it.
    let other = FakeController::attach(ADMA2, FakeCard::new(Kind::High, BLOCKS));
    let mut card = driver(dma);
    card.write(7, &pattern(8)).unwrap();
    assert_eq!(other.borrow().moved_by, ["pio", "pio"]);
    assert_eq!(card.bus_mut().engine(), Engine::Port);
}
