//! A controller for tests, with a card in its slot: its registers, its DMA, and memory behind
//! caches that are not coherent with it.
//!
//! The fake keeps the rules of the specification, and panics where a driver breaks one: where real
//! hardware would do anything. DMA goes on by a piece with each look at the status ([`moving`]), in
//! [`memory`].

mod memory;
mod moving;

pub use self::memory::{Memory, attach_memory, with_memory};
use self::moving::Moving;
use crate::mmio::fake::{Bus, Device};
use crate::sd::fake::FakeCard;
use crate::sd::{Bus as _, Command, Data, Fault, Response, Speed};
use std::cell::RefCell;
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

/// Address of the controller's registers.
pub const FRAME: usize = 0x7e34_0000;
/// Capabilities: 100 MHz, 3.3 V; and what else a controller may have.
pub const PLAIN: u32 = 100 << 8 | 1 << 24;
pub const ADMA2: u32 = 1 << 19;
pub const HIGH_SPEED: u32 = 1 << 21;
pub const SDMA: u32 = 1 << 22;

/// Bits of the status.
mod bit {
    pub const COMMAND_COMPLETE: u32 = 1;
    pub const TRANSFER_COMPLETE: u32 = 1 << 1;
    pub const DMA_INTERRUPT: u32 = 1 << 3;
    pub const WRITE_READY: u32 = 1 << 4;
    pub const READ_READY: u32 = 1 << 5;
    pub const COMMAND_TIMEOUT: u32 = 1 << 16;
    pub const COMMAND_CRC: u32 = 1 << 17;
    pub const DATA_TIMEOUT: u32 = 1 << 20;
    pub const DATA_CRC: u32 = 1 << 21;
    pub const ADMA: u32 = 1 << 25;
}

/// The controller.
pub struct FakeController {
    pub card: FakeCard,
    pub capabilities: u32,
    pub auto_command_error: u32,
    pub adma_error: u32,
    /// After so many blocks of the next transfers, these error bits, each once.
    pub fails: Vec<(usize, u32)>,
    /// The card is pulled when so many blocks of a transfer have moved.
    pub pulled_after: Option<usize>,
    /// A reset of the data lines does not end.
    pub stuck: bool,
    /// How the commands with data were carried out: by the port, "pio", by "sdma" or "adma2".
    pub moved_by: Vec<&'static str>,
    /// How often SDMA stopped at a boundary.
    pub boundaries: usize,
    registers: [u32; 64],
    application: bool,
    moving: Option<Moving>,
}

impl FakeController {
    /// Puts a controller with a card on the bus.
    pub fn attach(capabilities: u32, card: FakeCard) -> Rc<RefCell<Self>> {
        let controller = Self {
            card,
            capabilities: PLAIN | capabilities,
            auto_command_error: 0,
            adma_error: 0,
            fails: Vec::new(),
            pulled_after: None,
            stuck: false,
            moved_by: Vec::new(),
            boundaries: 0,
            registers: [0; 64],
            application: false,
            moving: None,
        };
        Bus::attach(FRAME, 0x100, controller)
    }

    fn register(&mut self, offset: usize) -> &mut u32 {
        &mut self.registers[offset / 4]
    }

    /// Sets bits of the status, as far as they are enabled.
    fn raise(&mut self, bits: u32) {
        let enabled = *self.register(0x34);
        *self.register(0x30) |= bits & enabled;
    }

    fn command(&mut self, word: u32) {
        let clock = *self.register(0x2c);
        assert_eq!(clock & 5, 5, "the card has no clock");
        assert!(*self.register(0x28) & 1 << 8 != 0, "the card has no power");
        let application = core::mem::take(&mut self.application);
        let command = Command::find((word >> 24) as u8, application);
        self.application = command.index == 55;
        let argument = *self.register(0x08);
        let blocks = *self.register(0x04);
        let with_data = word & 1 << 21 != 0;
        let len = if with_data { (blocks & 0xfff) * (blocks >> 16) } else { 0 } as usize;
        let reads = word & 1 << 4 != 0;
        let mut bytes = vec![0; if reads { len } else { 0 }];
        let answer = match (with_data, reads) {
            (true, false) if self.card.inserted => Ok(Response { payload: 0x900 }),
            (true, false) => Err(Fault::NoAnswer),
            (true, true) => self.card.execute(command, argument, Data::Read(&mut bytes)),
            (false, _) => self.card.execute(command, argument, Data::None),
        };
        self.answer(answer.map(|response| response.payload));
        if with_data && *self.register(0x30) >> 16 == 0 {
            let dma = word & 1 != 0;
            let way = self.way(dma);
            self.moved_by.push(way);
            self.moving = Some(Moving {
                command,
                argument,
                reads,
                dma,
                bytes,
                len,
                done: 0,
                at_boundary: false,
            });
            if !dma {
                self.raise(if reads { bit::READ_READY } else { bit::WRITE_READY });
            }
        }
    }

    /// Returns the name of the way by which the data move that the driver has chosen, and panics if
    /// the controller does not have it.
    fn way(&mut self, dma: bool) -> &'static str {
        let selected = *self.register(0x28) >> 3 & 3;
        match (dma, selected) {
            (false, _) => "pio",
            (true, 0) if self.capabilities & SDMA != 0 => "sdma",
            (true, 2) if self.capabilities & ADMA2 != 0 => "adma2",
            other => panic!("the controller has no such DMA: {other:?}"),
        }
    }

    fn answer(&mut self, answer: Result<u128, Fault>) {
        match answer {
            Ok(payload) => {
                for index in 0..4 {
                    *self.register(0x10 + 4 * index) = (payload >> (32 * index)) as u32;
                }
                self.raise(bit::COMMAND_COMPLETE);
            }
            Err(fault) => self.raise(match fault {
                Fault::AnswerDamaged => bit::COMMAND_CRC,
                Fault::DataTimeout { .. } => bit::COMMAND_COMPLETE | bit::DATA_TIMEOUT,
                Fault::DataDamaged => bit::COMMAND_COMPLETE | bit::DATA_CRC,
                _ => bit::COMMAND_TIMEOUT,
            }),
        }
    }

    /// Returns the frequency of the card's clock.
    pub fn hertz(&mut self) -> u32 {
        let clock = *self.register(0x2c);
        let divider = clock >> 8 & 0xff | (clock >> 6 & 3) << 8;
        (self.capabilities >> 8 & 0xff) * 1_000_000 / (2 * divider).max(1)
    }

    fn reset(&mut self, bits: u32) {
        if bits & 1 != 0 {
            self.registers = [0; 64];
            self.card.restart().expect("the card's part is done");
        }
        if bits & 5 != 0 && !self.stuck {
            self.moving = None;
        }
    }
}

impl Device for FakeController {
    fn read(&mut self, offset: usize, bytes: usize) -> u64 {
        assert_eq!(bytes, 4, "these controllers take words");
        let value = match offset {
            0x20 => self.port(None),
            // The lines are free when nothing moves and no reset is under way.
            0x24 => {
                let busy = self.moving.is_some() || *self.register(0x2c) & 1 << 26 != 0;
                1 << 20 | u32::from(busy) << 1
            }
            0x30 => {
                self.step();
                *self.register(0x30)
            }
            0x3c => self.auto_command_error,
            0x40 => self.capabilities,
            0x54 => self.adma_error,
            0xfc => 2 << 16,
            _ => *self.register(offset),
        };
        value.into()
    }

    fn write(&mut self, offset: usize, bytes: usize, value: u64) {
        assert_eq!(bytes, 4, "these controllers take words");
        let value = value as u32;
        match offset {
            0x20 => {
                self.port(Some(value));
            }
            0x30 => *self.register(0x30) &= !value,
            0x0c => self.command(value),
            0x2c => {
                let stuck = if self.stuck { value & 1 << 26 } else { 0 };
                self.reset(value >> 24);
                *self.register(0x2c) = value & 0x00ff_ffff | (value & 1) << 1 | stuck;
                let high = *self.register(0x28) & 4 != 0;
                let speed = if high { Speed::High } else { Speed::Default };
                if value & 4 != 0 && self.hertz() > 400_000 {
                    assert!(self.hertz() <= speed.hertz(), "the clock is too fast");
                    self.card.set_speed(speed).expect("the card's part is done");
                }
            }
            0x28 => {
                if value & 2 != 0 {
                    self.card.four_lines();
                }
                let switches = (value ^ *self.register(0x28)) & 4 != 0;
                assert!(!switches || *self.register(0x2c) & 4 == 0, "the clock runs");
                *self.register(0x28) = value;
            }
            0x00 => {
                if let Some(moving) = self.moving.as_mut().filter(|moving| moving.at_boundary) {
                    moving.at_boundary = false;
                    assert_eq!(value, self.registers[0], "it goes on elsewhere");
                }
                *self.register(0x00) = value;
            }
            _ => {
                assert!(self.moving.is_none() || offset == 0x30, "{offset:#x} in a transfer");
                *self.register(offset) = value;
            }
        }
    }
}
