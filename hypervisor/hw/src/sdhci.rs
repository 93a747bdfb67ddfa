//! The host controller of SD cards: SDHCI (SD Host Controller Simplified Specification 4.20), as in
//! the Raspberry Pi 4, where it is called EMMC2, and in QEMU's `raspi4b`. [`sd`](crate::sd) has the
//! cards' protocol.
//!
//! Data move by DMA where the controller has it and reaches the [memory](CardMemory) for it: ADMA2,
//! else SDMA. Else they go through the buffer port, a word at a time. The driver polls, with
//! limits, and takes no interrupts. It waits by its caller's [`Wait`].
//!
//! Broadcom's controllers take accesses of 32 bits only, and lose a write that comes within a few
//! cycles of the card's clock after another one; the buffer port is excepted. So each write is
//! followed by a wait. Whether there is a card, only the card can tell: these boards have no wire
//! for it.

mod divider;
mod dma;
mod registers;
mod transfer;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

use crate::mmio::{Frame, Offset};
use crate::sd::{Bus, Command, Data, Fault, Response, Speed};
use crate::time::Wait;
use core::fmt;
use divider::{Divider, Kind};
use dma::Transfer;
pub use dma::{CardMemory, Dma};
use registers::*;
use tock_registers::fields::FieldValue;
use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::{LocalRegisterCopy, RegisterLongName};

/// Most Hz while a card is identified (4.2.1 of the cards' specification).
const IDENTIFICATION_CLOCK: u32 = 400_000;
/// Base clock in Hz of a controller that does not tell it: the fastest of these boards'. If the
/// base clock is slower, the card only gets a slower clock than it could have.
const ASSUMED_BASE_CLOCK: u32 = 250_000_000;
/// Cycles of the card's clock that a write to a register takes.
const WRITE_CYCLES: u64 = 4;

/// Milliseconds that the controller may take for a reset, a clock, or a command without data.
const CONTROLLER_MS: u64 = 100;
/// Milliseconds that the supply takes to rise, and the card to wake up (6.4.1 of the cards'
/// specification).
const POWER_MS: u64 = 5;

/// Bytes of the frame.
const LEN: usize = 0x100;

/// A controller with its slot, whose driver waits by `W`. Without a [`Wait`] it can only be kept.
#[derive(Clone, Copy, Debug)]
pub struct Sdhci<W = ()> {
    registers: Registers,
    /// Nanoseconds to wait after each write to a register.
    write_nanos: u64,
    /// The way to memory, if the controller has one.
    dma: Option<Dma>,
    engine: Engine,
    /// Whether a read since [`Bus::restart`] has shown that DMA reaches the memory.
    reaches: bool,
    wait: W,
}

/// What moves the data of a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The driver, through the buffer port.
    Port,
    /// The controller, between it and a piece of memory (1.12).
    Sdma,
    /// The controller, by a table of descriptors (1.13).
    Adma2,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Port => "without DMA",
            Self::Sdma => "by DMA (SDMA)",
            Self::Adma2 => "by DMA (ADMA2)",
        })
    }
}

/// Registers of the controller, for reading.
#[derive(Clone, Copy, Debug)]
struct Registers(Frame<LEN>);

impl Registers {
    fn read<R: RegisterLongName>(self, offset: Offset<u32, R>) -> LocalRegisterCopy<u32, R> {
        LocalRegisterCopy::new(self.0.at(offset).get())
    }
}

impl Sdhci {
    /// Returns the driver of the controller in `frame`, which it does not touch before
    /// [`Bus::restart`]. `dma` is the controller's way to memory.
    pub const fn new(frame: Frame<LEN>, dma: Option<Dma>) -> Self {
        Self {
            registers: Registers(frame),
            write_nanos: 0,
            dma,
            engine: Engine::Port,
            reaches: false,
            wait: (),
        }
    }
}

impl<W> Sdhci<W> {
    /// Returns the same controller, whose driver waits by `wait` from now on.
    pub fn with<V>(self, wait: V) -> Sdhci<V> {
        let Self { registers, write_nanos, dma, engine, reaches, .. } = self;
        Sdhci { registers, write_nanos, dma, engine, reaches, wait }
    }

    /// Returns what moves the data, since [`Bus::restart`]: the port also if the memory for DMA is
    /// in use at the moment, or lost. Whether DMA reaches the memory is known only after the first
    /// read.
    pub fn engine(&self) -> Engine {
        if self.dma.is_some_and(Dma::is_free) { self.engine } else { Engine::Port }
    }

    /// Returns the [`Wait`] of the driver.
    pub fn wait_mut(&mut self) -> &mut W {
        &mut self.wait
    }
}

impl<W: Wait> Sdhci<W> {
    fn write<R: RegisterLongName>(&mut self, offset: Offset<u32, R>, value: u32) {
        self.registers.0.at(offset).set(value);
        self.wait.wait_nanos(self.write_nanos);
    }

    /// Writes `fields` of a register, and leaves the others as they are.
    fn modify<R: RegisterLongName>(&mut self, offset: Offset<u32, R>, fields: FieldValue<u32, R>) {
        let register = self.registers.0.at(offset);
        let mut value = LocalRegisterCopy::new(register.get());
        value.modify(fields);
        register.set(value.get());
        self.wait.wait_nanos(self.write_nanos);
    }

    /// Waits until `is_so`. `what` describes the state until then, for the error.
    fn wait(
        &mut self,
        limit_ms: u64,
        what: &'static str,
        is_so: impl Fn(Registers) -> bool,
    ) -> Result<(), Fault> {
        let registers = self.registers;
        let so = self.wait.poll_ms(limit_ms, || is_so(registers).then_some(()));
        so.ok_or(Fault::Controller { what, ms: limit_ms })
    }

    /// Returns the best engine that the controller has and that reaches the memory.
    fn best_engine(&self) -> Engine {
        let capabilities = self.registers.read(CAPABILITIES);
        match self.dma {
            Some(_) if capabilities.is_set(CAPABILITIES::ADMA2) => Engine::Adma2,
            Some(_) if capabilities.is_set(CAPABILITIES::SDMA) => Engine::Sdma,
            _ => Engine::Port,
        }
    }

    /// Takes the memory for `data`, if they are moved by DMA. Before a read has shown that DMA
    /// reaches the memory, only reads are.
    fn begin_dma(&self, data: &Data<'_>) -> Option<Transfer> {
        let may = self.reaches || matches!(data, Data::Read(_));
        let dma = self.dma.filter(|_| may && self.engine != Engine::Port && data.len() > 0)?;
        let mut transfer = dma.begin(data)?;
        if !self.reaches {
            transfer.mark(data.len());
        }
        Some(transfer)
    }

    /// Returns whether `transfer`, a read that has ended, has reached the memory. A controller
    /// whose DMA does not is not asked for DMA again before the next [`Bus::restart`].
    fn prove(&mut self, transfer: &Transfer, len: usize) -> bool {
        self.reaches = self.reaches || transfer.is_reached(len);
        if !self.reaches {
            self.engine = Engine::Port;
        }
        self.reaches
    }

    /// Resets the part of the controller that `part` selects.
    fn reset(&mut self, part: FieldValue<u32, CLOCK::Register>) -> Result<(), Fault> {
        self.modify(CLOCK, part);
        let done = |registers: Registers| registers.read(CLOCK).get() & part.value == 0;
        self.wait(CONTROLLER_MS, "it is in reset", done)
    }

    /// Makes the controller ready for the next command after one has failed.
    fn recover(&mut self, fault: Fault, transfer: Option<Transfer>) {
        // Two resets, one after the other: QEMU does not know them together. A reset that does not
        // end shows at the next command, which the controller then does not take.
        let _ = self.reset(CLOCK::RESET_COMMAND::SET);
        // This one also ends DMA (2.2.16).
        if self.reset(CLOCK::RESET_DATA::SET).is_err() {
            transfer.into_iter().for_each(Transfer::lose);
        }
        if let Fault::Dma { .. } = fault {
            // The fault may lie in the memory or the table. The next try does without DMA.
            self.engine = Engine::Port;
        }
    }

    /// Sets the card's clock to `wanted` Hz or somewhat less (3.2.1 to 3.2.3).
    fn set_clock(&mut self, wanted: u32) -> Result<(), Fault> {
        let base = match self.registers.read(CAPABILITIES).read(CAPABILITIES::BASE_CLOCK_MHZ) {
            0 => ASSUMED_BASE_CLOCK,
            mhz => mhz * 1_000_000,
        };
        let kind = match self.registers.read(VERSION).read_as_enum(VERSION::SPECIFICATION) {
            Some(VERSION::SPECIFICATION::Value::V1) | Some(VERSION::SPECIFICATION::Value::V2) => {
                Kind::PowerOfTwo
            }
            None => Kind::Even,
        };
        let divider = Divider::new(kind, base, wanted);
        // Wait by the slowest clock that the card may have until the new one is set.
        let slow = divider.apply(base).min(IDENTIFICATION_CLOCK);
        self.write_nanos = nanos(WRITE_CYCLES, slow);
        self.modify(CLOCK, CLOCK::TO_CARD::CLEAR);
        let setting = CLOCK::INTERNAL::SET
            + CLOCK::DIVIDER.val(u32::from(divider.0) & 0xff)
            + CLOCK::DIVIDER_HIGH.val(u32::from(divider.0) >> 8)
            + CLOCK::TIMEOUT::Longest;
        self.write(CLOCK, setting.value);
        let stable = |registers: Registers| registers.read(CLOCK).is_set(CLOCK::STABLE);
        self.wait(CONTROLLER_MS, "its clock is not stable", stable)?;
        self.modify(CLOCK, CLOCK::TO_CARD::SET);
        self.write_nanos = nanos(WRITE_CYCLES, divider.apply(base));
        Ok(())
    }
}

impl<W: Wait> Bus for Sdhci<W> {
    fn restart(&mut self) -> Result<(), Fault> {
        // The clock that was left behind is unknown: it may be the slow one.
        self.write_nanos = nanos(WRITE_CYCLES, IDENTIFICATION_CLOCK);
        self.reset(CLOCK::RESET_ALL::SET)?;
        self.engine = self.best_engine();
        self.reaches = false;
        self.write(SIGNAL_ENABLE, 0);
        let watched = STATUS::COMMAND_COMPLETE::SET
            + STATUS::TRANSFER_COMPLETE::SET
            + STATUS::DMA_INTERRUPT::SET
            + STATUS::WRITE_READY::SET
            + STATUS::READ_READY::SET
            + STATUS::ERRORS::All;
        self.write(STATUS_ENABLE, watched.value);
        self.write(CONTROL, CONTROL::VOLTAGE::V3_3.value);
        self.write(CONTROL, (CONTROL::VOLTAGE::V3_3 + CONTROL::POWER::SET).value);
        self.wait.wait_nanos(POWER_MS * 1_000_000);
        self.set_clock(IDENTIFICATION_CLOCK)?;
        self.wait.wait_nanos(POWER_MS * 1_000_000);
        Ok(())
    }

    fn has_high_speed(&self) -> bool {
        self.registers.read(CAPABILITIES).is_set(CAPABILITIES::HIGH_SPEED)
    }

    fn set_speed(&mut self, speed: Speed) -> Result<(), Fault> {
        // With high speed, the controller sends at the other edge of the clock, which must not
        // change meanwhile (2.2.10).
        self.modify(CLOCK, CLOCK::TO_CARD::CLEAR);
        self.modify(CONTROL, CONTROL::HIGH_SPEED.val(u32::from(speed == Speed::High)));
        self.set_clock(speed.hertz())
    }

    fn four_lines(&mut self) {
        self.modify(CONTROL, CONTROL::FOUR_LINES::SET);
    }

    fn execute(
        &mut self,
        command: Command,
        argument: u32,
        mut data: Data<'_>,
    ) -> Result<Response, Fault> {
        let transfer = self.begin_dma(&data);
        match self.send(command, argument, &mut data, transfer.as_ref()) {
            // The command goes again, by the port: it only reads.
            Ok(_) if transfer.as_ref().is_some_and(|it| !self.prove(it, data.len())) => {
                drop(transfer);
                self.execute(command, argument, data)
            }
            Ok(answer) => {
                let same = transfer.is_none_or(|transfer| transfer.end(&mut data));
                if same { Ok(answer) } else { Err(Fault::Differs) }
            }
            Err(fault) => {
                self.recover(fault, transfer);
                Err(fault)
            }
        }
    }

    fn millis(&self) -> u64 {
        self.wait.millis()
    }
}

/// Returns the nanoseconds of `cycles` cycles at `hz`.
fn nanos(cycles: u64, hz: u32) -> u64 {
    (cycles * 1_000_000_000).div_ceil(u64::from(hz.max(1)))
}
